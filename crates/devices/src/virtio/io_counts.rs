//! Bytes that went through a device.

use std::sync::atomic::{AtomicU64, Ordering};

/// Payload bytes of a device since it was made. Rings, headers of queues and notifications do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoCounts {
    /// Written into the guest's buffers.
    pub to_guest: u64,
    /// Taken out of the guest's buffers.
    pub from_guest: u64,
}

impl IoCounts {
    /// Counts given by a device that keeps them itself.
    pub fn new(to_guest: u64, from_guest: u64) -> Self {
        IoCounts { to_guest, from_guest }
    }
}

/// Counters that a device shares with its worker. The worker is the only one that counts.
#[derive(Debug, Default)]
pub struct IoCounters {
    to_guest: AtomicU64,
    from_guest: AtomicU64,
}

impl IoCounters {
    /// Counts bytes written into the guest's buffers.
    pub fn to_guest(&self, bytes: u64) {
        add(&self.to_guest, bytes);
    }

    /// Counts bytes taken out of the guest's buffers.
    pub fn from_guest(&self, bytes: u64) {
        add(&self.from_guest, bytes);
    }

    /// The present counts.
    pub fn get(&self) -> IoCounts {
        IoCounts::new(self.to_guest.load(Ordering::Relaxed), self.from_guest.load(Ordering::Relaxed))
    }
}

/// There is one writer, so a load and a store will do.
fn add(counter: &AtomicU64, bytes: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_counted_apart() {
        let counters = IoCounters::default();
        counters.to_guest(3);
        counters.to_guest(4);
        counters.from_guest(u64::MAX);
        counters.from_guest(2);
        assert_eq!(counters.get(), IoCounts { to_guest: 7, from_guest: 1 });
    }
}
