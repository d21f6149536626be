//! Serial lines: 16550A UARTs at the four places of a PC.
//!
//! Bytes go to and from host descriptors of any kind, whose flags are not changed, and nothing waits: while
//! the host does not take what the guest sends, the transmitter is busy, and while the guest does not take
//! what the host sends, it is not read. Input that ends is not looked at any more; output whose reader is gone
//! is dropped.
//!
//! Pure: `uart`. With descriptors: `worker`, and [`Serial`] through the loop.

#[cfg(any(test, feature = "test-utils"))]
pub mod fuzz;
mod uart;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use purlin_snapshot::{Section, SectionId, Writer};
use purlin_vmm_core::bus::SharedDevice;
use purlin_vmm_core::irq::IrqLine;
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::shell::{LoopHandle, WorkerSlot};
use crate::virtio::RestoreError;
use crate::virtio::console::FdEnd;
use uart::{Saved, Uart};
use worker::{Worker, lock};

/// First port and interrupt of `ttyS0` to `ttyS3`.
pub const SERIAL_LINES: [(u64, u32); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// Number of ports of each.
pub const SERIAL_LEN: u64 = 8;

/// Section kind of a serial line's state; the instance is its number.
const SECTION_KIND: u32 = 0x280;
const SECTION_VERSION: u16 = 1;
/// Most bytes that are read and not taken by the guest.
const RECEIVED_LIMIT: u32 = 64;
/// How often a flush looks whether the host has taken everything.
const FLUSH_STEP: Duration = Duration::from_millis(2);

/// A serial line did not come to rest.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("serial line: {0}")]
pub struct SerialBusy(String);

/// A serial line.
pub struct Serial {
    uart: Arc<Mutex<Uart>>,
    slot: WorkerSlot<Worker>,
}

impl Serial {
    /// A line between the guest and two descriptors, either of which may be absent. It is served in the loop
    /// from now on.
    ///
    /// # Errors
    ///
    /// The host refused a descriptor.
    pub fn new(
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
        irq: Arc<dyn IrqLine>,
        handle: LoopHandle,
    ) -> io::Result<Self> {
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let uart = Arc::new(Mutex::new(Uart::new(irq, wake.clone())));
        let (input, output) = (input.map(FdEnd::new).transpose()?, output.map(FdEnd::new).transpose()?);
        let mut slot = WorkerSlot::new(handle);
        slot.put(Worker::new(uart.clone(), wake, input, output));
        slot.start()?;
        Ok(Serial { uart, slot })
    }

    /// The registers, for the bus at one of [`SERIAL_LINES`], [`SERIAL_LEN`] ports long.
    pub fn registers(&self) -> SharedDevice {
        self.uart.clone()
    }

    /// Stops moving bytes. They stay where they are, and it can go on.
    ///
    /// # Errors
    ///
    /// [`SerialBusy`] if its loop does not let go of it before `deadline`.
    pub fn quiesce(&mut self, deadline: Instant) -> Result<(), SerialBusy> {
        self.slot.park(deadline).map_err(SerialBusy)
    }

    /// Goes on after [`Serial::quiesce`].
    pub fn resume(&mut self) {
        if let Err(e) = self.slot.start() {
            log::error!("serial line cannot go on: {e}");
        }
    }

    /// State of a quiesced line: registers, and bytes that did not reach their end.
    pub fn save(&self, instance: u32) -> Section {
        let mut w = Writer::new();
        lock(&self.uart).save(&mut w);
        w.bytes(self.slot.parked().map_or(&[], Worker::received));
        Section::new(SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance }, w.into_bytes())
    }

    /// Takes over what [`Serial::save`] gave. The line must be quiesced.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: the section is not one of a serial line, or the line is not quiesced. Nothing has
    /// changed then.
    pub fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        let saved = Saved::decode(&mut r)?;
        let received = r.bytes("received by the host", RECEIVED_LIMIT)?.to_vec();
        r.finish()?;
        let Some(worker) = self.slot.parked_mut() else { return Err(RestoreError::NotFresh) };
        worker.set_received(received);
        lock(&self.uart).restore(saved);
        Ok(())
    }

    /// Waits until the host has taken what the guest sent, or `deadline`; how many bytes are left. To be
    /// called while the line is served.
    pub fn flush(&self, deadline: Instant) -> usize {
        loop {
            let left = lock(&self.uart).unsent();
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            std::thread::sleep(FLUSH_STEP);
        }
    }
}
