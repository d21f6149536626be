//! Interrupt lines into the in-kernel interrupt controller.

use std::io;
use std::sync::Arc;

use super::sys::MappedVm;
use crate::irq::{Edges, IrqLine};

/// A pin of the interrupt controller, raised and lowered at once: one edge.
///
/// By `KVM_IRQ_LINE` rather than by an irqfd: for a pin (other than for a message) the kernel serves an irqfd from a
/// worker thread, so the ioctls, which inject in the caller's context, cost less than the switch to that thread, and
/// reach the guest sooner. There is also nothing to wait for when the virtual machine is closed.
pub struct IrqChipLine {
    vm: Arc<MappedVm>,
    gsi: u32,
    /// Each handle of a pin must be a clone of one, or edges of two of them can meet.
    edges: Edges,
}

impl IrqChipLine {
    pub(super) fn new(vm: Arc<MappedVm>, gsi: u32) -> Self {
        IrqChipLine { vm, gsi, edges: Edges::default() }
    }

    fn set(&self, active: bool) -> io::Result<()> {
        let done = self.vm.fd().set_irq_line(self.gsi, active);
        done.map_err(io::Error::from)
    }
}

impl IrqLine for IrqChipLine {
    fn trigger(&self) -> io::Result<()> {
        self.edges.send(|| {
            self.set(true)?;
            self.set(false)
        })?;
        self.vm.device_interrupts();
        Ok(())
    }

    fn settle(&self) {
        self.vm.posted().settle();
    }
}
