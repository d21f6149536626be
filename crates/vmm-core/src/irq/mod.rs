//! Interrupt lines, seen from a device.

mod edges;

use std::io;

pub use edges::Edges;

/// An edge-triggered interrupt line to the guest.
///
/// `trigger` sends one edge. It may be called from any thread, also while the virtual machine is paused
/// (the edge is then pending in the interrupt controller). Implementations do not block.
pub trait IrqLine: Send + Sync {
    /// Sends one edge.
    ///
    /// # Errors
    ///
    /// The operating system refused the notification. The caller logs it at most; the guest re-reads its
    /// rings on the next edge.
    fn trigger(&self) -> io::Result<()>;

    /// Acknowledgements that the guest has sent, and the hypervisor has kept for later, take effect. Called before the status
    /// of the interrupt is read, and before a bit of it is set: after what the bit is about has been done. Whatever locks the
    /// caller holds, this must not wait for them. Nothing to do if writes to InterruptACK are served as they come.
    fn settle(&self) {}
}

/// Hands out interrupt numbers from a range, each once.
#[derive(Debug, Clone)]
pub struct IrqAllocator {
    next: u32,
    last: u32,
}

impl IrqAllocator {
    /// Numbers from `first` to `last`, both included.
    pub fn new(first: u32, last: u32) -> Self {
        IrqAllocator { next: first, last }
    }

    /// The next free number, or `None` when the range is used up.
    pub fn allocate(&mut self) -> Option<u32> {
        if self.next > self.last {
            return None;
        }
        let irq = self.next;
        self.next = self.next.checked_add(1)?;
        Some(irq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_once_then_none() {
        let mut irqs = IrqAllocator::new(5, 7);
        let got: Vec<_> = std::iter::from_fn(|| irqs.allocate()).collect();
        assert_eq!(got, [5, 6, 7]);
        assert_eq!(irqs.allocate(), None);
    }
}
