//! What virtio devices do with their slot in the same way: the steps of [`VirtioDevice`]'s life.
//!
//! [`VirtioDevice`]: crate::virtio::VirtioDevice

use std::time::{Duration, Instant};

use super::event_loop::QueueWorker;
use super::slot::WorkerSlot;
use crate::virtio::{ActivateError, Busy, DeviceType, Interrupt, ResetProgress, SaveError, Signal};

/// How long a reset waits for a worker, on the vCPU thread that asked for it.
const RESET_WAIT: Duration = Duration::from_millis(50);

impl<W: QueueWorker> WorkerSlot<W> {
    /// Puts the worker of a driver's queues into the empty slot and starts it.
    ///
    /// # Errors
    ///
    /// [`ActivateError::AlreadyActive`] if the slot is not empty, [`ActivateError::Host`] if the loop has ended.
    pub fn activate(&mut self, worker: W) -> Result<(), ActivateError> {
        if !self.is_empty() {
            return Err(ActivateError::AlreadyActive);
        }
        self.put(worker);
        self.start().map_err(|source| ActivateError::Host { what: "device loop", source })
    }

    /// [`WorkerSlot::park`], with the error a device gives.
    ///
    /// # Errors
    ///
    /// [`Busy`] past `deadline`.
    pub fn quiesce(&mut self, device: DeviceType, deadline: Instant) -> Result<(), Busy> {
        self.park(deadline).map_err(|reason| Busy { device, reason })
    }

    /// The worker to save; none if the device is not active.
    ///
    /// # Errors
    ///
    /// [`SaveError::NotQuiesced`] if the worker runs.
    pub fn to_save(&self, device: DeviceType) -> Result<Option<&W>, SaveError> {
        match self.parked() {
            None if !self.is_empty() => Err(SaveError::NotQuiesced(device)),
            worker => Ok(worker),
        }
    }

    /// Starts the parked worker again and interrupts the driver once for each of `queues`, because
    /// notifications may have been lost.
    pub fn resume(&mut self, device: DeviceType, interrupt: &dyn Interrupt, queues: &[u16]) {
        if let Err(e) = self.start() {
            log::error!("{device:?} cannot resume: {e}");
        }
        for &index in queues {
            interrupt.trigger(Signal::Queue(index));
        }
    }

    /// Parks the worker for a reset. After [`ResetProgress::Done`] it is parked, or there is none.
    pub fn park_for_reset(&mut self) -> ResetProgress {
        let now = Instant::now();
        match self.park_some_time(now.checked_add(RESET_WAIT).unwrap_or(now)) {
            Err(_) if !self.is_empty() => ResetProgress::Pending,
            _ => ResetProgress::Done,
        }
    }
}
