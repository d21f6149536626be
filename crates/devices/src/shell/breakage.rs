//! Rings a driver has broken.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::virtio::{DeviceQueue, DeviceType, Interrupt};

/// Whether a worker still looks at its queues. One that found a ring malformed does not, until its driver resets the device.
#[derive(Debug, Clone)]
pub struct Breakage {
    device: DeviceType,
    broken: bool,
    /// It is in the log. A driver can break its rings and reset the device as often as it likes.
    told: Arc<AtomicBool>,
}

impl Breakage {
    /// Of a device whose rings are not broken.
    pub fn new(device: DeviceType) -> Self {
        Breakage { device, broken: false, told: Arc::default() }
    }

    /// For a further worker of the same device.
    pub fn of_worker(&self, broken: bool) -> Self {
        Breakage { device: self.device, broken, told: Arc::clone(&self.told) }
    }

    /// True if the queues are not to be touched.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Ends the work and tells the driver to reset the device.
    pub fn report(&mut self, reason: &dyn Display, interrupt: &dyn Interrupt) {
        if !self.told.swap(true, Ordering::Relaxed) {
            log::error!("{:?}: {reason}; it stops until the driver resets it", self.device);
        }
        self.broken = true;
        interrupt.needs_reset();
    }

    /// What follows from a batch of a queue's requests. If there are more of them the queue's event is set, so that commands
    /// of the loop have their turn between batches.
    pub fn after_batch<E: Display>(
        &mut self,
        more: Result<bool, E>,
        queue: Option<&DeviceQueue>,
        interrupt: &dyn Interrupt,
    ) {
        match (more, queue) {
            (Ok(true), Some(queue)) => {
                // Fails only when the counter is full, which is a pending wake-up.
                let _ = queue.event.write(1);
            }
            (Ok(_), _) => {}
            (Err(reason), _) => self.report(&reason, interrupt),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{DriverRing, RecordingInterrupt, guest_ram};

    #[test]
    fn a_broken_ring_ends_the_work_of_one_worker() {
        let device = Breakage::new(DeviceType::Rng);
        let interrupt = RecordingInterrupt::new();
        let mut worker = device.of_worker(false);
        worker.after_batch(Ok::<_, String>(false), None, &interrupt);
        assert!(!worker.is_broken() && !interrupt.reset_needed());
        worker.after_batch(Err("broken"), None, &interrupt);
        assert!(worker.is_broken() && interrupt.reset_needed());
        assert!(!device.of_worker(false).is_broken(), "the next one starts anew");
        assert!(device.of_worker(true).is_broken(), "a restored one does not");
        assert!(device.told.load(Ordering::Relaxed), "nobody says it again");
    }

    #[test]
    fn what_is_left_comes_in_another_turn() {
        let ring = DriverRing::new(&guest_ram(1 << 16), 0, 1 << 16, 8);
        let (queue, interrupt) = (ring.device_queue(0, false), RecordingInterrupt::new());
        let mut worker = Breakage::new(DeviceType::Fs);
        for (more, wakes) in [(true, true), (false, false)] {
            worker.after_batch(Ok::<_, String>(more), Some(&queue), &interrupt);
            assert_eq!(queue.event.read().is_ok(), wakes, "{more}");
        }
    }
}
