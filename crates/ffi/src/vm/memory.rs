//! Guest RAM as its owner sees it.

use purlin_vmm_core::memory::{
    Address, GuestMemory, GuestMemoryRegion, GuestRegion, MemoryRegionAddress, SharedRam,
};

/// One contiguous piece of guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryRegion {
    /// First guest-physical address.
    pub guest_address: u64,
    /// Address of the same byte in this process.
    pub host_address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Guest RAM, from [`Vm::memory`](crate::Vm::memory). It stays mapped as long as this value lives, also when
/// the machine has ended.
#[derive(Debug, Clone)]
pub struct VmMemory(SharedRam);

impl VmMemory {
    pub(crate) fn new(ram: SharedRam) -> Self {
        VmMemory(ram)
    }

    /// The pieces, by ascending address.
    pub fn regions(&self) -> Vec<MemoryRegion> {
        let describe = |region: &GuestRegion| {
            let host = region.get_host_address(MemoryRegionAddress(0)).ok()?;
            Some(MemoryRegion {
                guest_address: region.start_addr().raw_value(),
                host_address: host.expose_provenance() as u64,
                len: region.len(),
            })
        };
        self.0.iter().filter_map(describe).collect()
    }

    /// The memory itself, for reads and writes by guest address. The guest may change it at any time unless it
    /// is paused.
    pub fn ram(&self) -> &SharedRam {
        &self.0
    }
}
