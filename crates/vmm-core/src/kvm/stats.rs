//! What vCPUs leave the guest for, counted.
//!
//! Each vCPU thread counts for itself, without a locked instruction; anybody may read at any time, also after
//! the threads have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exits of one vCPU since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExitCounts {
    /// Reads of ports.
    pub port_reads: u64,
    /// Writes of ports.
    pub port_writes: u64,
    /// Reads of device registers in memory.
    pub mmio_reads: u64,
    /// Writes of device registers in memory. Notifications of virtio queues and acknowledgements of interrupts, as far as the
    /// kernel takes them, do not leave the guest and are not among them.
    pub mmio_writes: u64,
    /// Of all these, those that no device claimed.
    pub unclaimed: u64,
    /// Exits the host asked for: pause, stop, a look at the vCPU.
    pub kicks: u64,
    /// Everything else, among it the exit that ended the vCPU.
    pub other: u64,
}

impl ExitCounts {
    /// All exits.
    pub fn total(&self) -> u64 {
        [self.port_reads, self.port_writes, self.mmio_reads, self.mmio_writes, self.kicks, self.other]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// The counters of all vCPUs of a machine.
#[derive(Debug, Clone)]
pub struct ExitCounters(Arc<[VcpuCounters]>);

impl ExitCounters {
    pub(super) fn new(vcpus: usize) -> Self {
        ExitCounters((0..vcpus).map(|_| VcpuCounters::default()).collect())
    }

    /// What each vCPU has counted, in order of their indices. Numbers of a running vCPU are a moment old.
    pub fn counts(&self) -> Vec<ExitCounts> {
        self.0.iter().map(VcpuCounters::counts).collect()
    }

    pub(super) fn vcpu(&self, index: usize) -> Option<&VcpuCounters> {
        self.0.get(index)
    }
}

/// Counted by one thread; a cache line of its own (two, because processors fetch pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct VcpuCounters {
    pub port_reads: AtomicU64,
    pub port_writes: AtomicU64,
    pub mmio_reads: AtomicU64,
    pub mmio_writes: AtomicU64,
    pub unclaimed: AtomicU64,
    pub kicks: AtomicU64,
    pub other: AtomicU64,
}

impl VcpuCounters {
    fn counts(&self) -> ExitCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ExitCounts {
            port_reads: get(&self.port_reads),
            port_writes: get(&self.port_writes),
            mmio_reads: get(&self.mmio_reads),
            mmio_writes: get(&self.mmio_writes),
            unclaimed: get(&self.unclaimed),
            kicks: get(&self.kicks),
            other: get(&self.other),
        }
    }
}

/// Adds one. There is one writer, so a load and a store will do.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vcpu_has_its_own_counters() {
        let counters = ExitCounters::new(2);
        let second = counters.vcpu(1).unwrap();
        count(&second.port_reads);
        count(&second.mmio_writes);
        count(&second.mmio_writes);
        count(&second.unclaimed);
        let want = ExitCounts { port_reads: 1, mmio_writes: 2, unclaimed: 1, ..Default::default() };
        assert_eq!(counters.counts(), [ExitCounts::default(), want]);
        assert_eq!(want.total(), 3);
        assert!(counters.vcpu(2).is_none());
    }
}
