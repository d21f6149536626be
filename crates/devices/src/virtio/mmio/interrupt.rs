//! The transport's interrupt: a status word shared with the driver, and a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::memory::{Register, RegisterPage};

use super::registers::{INTERRUPT_STATUS, STATUS, status};
use crate::virtio::{Interrupt, Signal};

/// InterruptStatus bit 0: used buffers (virtio 1.2 §4.2.2).
const USED_BUFFER: u32 = 1;
/// InterruptStatus bit 1: configuration change.
const CONFIG_CHANGE: u32 = 2;

/// Sets the status word, then sends an edge.
///
/// Acknowledgements may reach the word late ([`IrqLine::settle`]), so they are asked for before it is read, set or replaced.
///
/// The edge is sent on every signal, also when the bit is still set: the driver may already have read the
/// status word for the edge before and be about to acknowledge it.
pub struct MmioInterrupt {
    status: Register,
    /// Status as the driver reads it from a page that it is shown.
    device_status: Register,
    needs_reset: AtomicBool,
    failed: AtomicBool,
    line: Arc<dyn IrqLine>,
}

impl MmioInterrupt {
    /// With its status word in a page that is all zero.
    pub fn new(line: Arc<dyn IrqLine>, page: &Arc<RegisterPage>) -> Self {
        MmioInterrupt {
            status: page.register(INTERRUPT_STATUS),
            device_status: page.register(STATUS),
            needs_reset: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            line,
        }
    }

    /// The status word, for a hypervisor that clears bits of it when the guest writes InterruptACK.
    pub fn word(&self) -> &Register {
        &self.status
    }

    /// InterruptStatus as the driver reads it.
    pub fn status(&self) -> u32 {
        self.line.settle();
        self.status.load(Ordering::Acquire)
    }

    /// InterruptACK: clears these bits.
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    /// True once a device asked for a reset.
    pub fn reset_needed(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Puts the device status into the page: `value`, and NEEDS_RESET if a device asked for a reset, also if it does so meanwhile.
    pub(super) fn put_device_status(&self, value: u32) {
        // Either this swap comes before the bit of `needs_reset` in the page, which then stays, or it acquires what that released.
        self.device_status.swap(value, Ordering::AcqRel);
        if self.reset_needed() {
            self.device_status.fetch_or(status::NEEDS_RESET, Ordering::AcqRel);
        }
    }

    /// Back to the initial state, with `status` as status word (0 unless restored).
    pub(super) fn restore(&self, status: u32, needs_reset: bool) {
        self.line.settle();
        self.status.store(status & (USED_BUFFER | CONFIG_CHANGE), Ordering::Release);
        self.needs_reset.store(needs_reset, Ordering::Release);
    }

    fn raise(&self, bit: u32) {
        self.line.settle();
        self.status.fetch_or(bit, Ordering::AcqRel);
        if let Err(e) = self.line.trigger() {
            // Once is enough: a line that fails keeps failing, and the guest could repeat this at will.
            if !self.failed.swap(true, Ordering::Relaxed) {
                log::error!("an interrupt could not be delivered: {e}");
            }
        }
    }
}

impl Interrupt for MmioInterrupt {
    fn trigger(&self, signal: Signal) {
        self.raise(match signal {
            Signal::Queue(_) => USED_BUFFER,
            Signal::Config => CONFIG_CHANGE,
        });
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.device_status.fetch_or(status::NEEDS_RESET, Ordering::AcqRel);
        self.raise(CONFIG_CHANGE);
    }
}
