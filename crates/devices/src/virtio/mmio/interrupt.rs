//! The transport's interrupt: a status word shared with the driver, and a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use purlin_vmm_core::irq::IrqLine;

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
    status: Arc<AtomicU32>,
    needs_reset: AtomicBool,
    failed: AtomicBool,
    line: Arc<dyn IrqLine>,
}

impl MmioInterrupt {
    /// With an empty status word.
    pub fn new(line: Arc<dyn IrqLine>) -> Self {
        MmioInterrupt {
            status: Arc::default(),
            needs_reset: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            line,
        }
    }

    /// The status word, for a hypervisor that clears bits of it when the guest writes InterruptACK.
    pub fn word(&self) -> &Arc<AtomicU32> {
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
        self.raise(CONFIG_CHANGE);
    }
}
