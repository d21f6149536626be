//! Guest RAM as regions that own their host mapping.

use vm_memory::bitmap::BS;
use vm_memory::guest_memory::Result as MemoryResult;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
    GuestRegionMmap, GuestUsize, MemoryRegionAddress, VolatileSlice,
};

use super::alloc::{AllocError, RamConfig, allocate_ranges};
use super::layout::RamRange;
use super::overlay::Overlays;
use super::reclaim::{Method, ReplacedCount};
use super::sys::Mapping;

/// One contiguous piece of guest RAM and the host mapping behind it.
///
/// vm-memory's own region can own a mapping only where the kernel chose to put it; this one owns a mapping
/// that was placed so that host and guest addresses are congruent modulo 2 MiB, and unmaps it when dropped.
#[derive(Debug)]
pub struct GuestRegion {
    view: GuestRegionMmap<()>,
    // Dropped with the region, never before: `view` points into it.
    mapping: Mapping,
    method: Method,
}

impl GuestRegion {
    pub(super) fn new(view: GuestRegionMmap<()>, mapping: Mapping, method: Method) -> Self {
        GuestRegion { view, mapping, method }
    }

    /// How pages of the mapping go back to the host.
    pub(super) fn reclaimable(&self) -> (&Method, &Mapping) {
        (&self.method, &self.mapping)
    }

    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Private anonymous memory of ordinary pages: a part of it can be replaced by another private mapping.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.method, Method::Discard(_))
    }
}

impl GuestMemoryRegion for GuestRegion {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.view.len()
    }

    fn start_addr(&self) -> GuestAddress {
        self.view.start_addr()
    }

    fn bitmap(&self) -> BS<'_, Self::B> {}

    fn get_host_address(&self, addr: MemoryRegionAddress) -> MemoryResult<*mut u8> {
        self.view.get_host_address(addr)
    }

    fn file_offset(&self) -> Option<&FileOffset> {
        self.view.file_offset()
    }

    fn get_slice(&self, offset: MemoryRegionAddress, count: usize) -> MemoryResult<VolatileSlice<'_>> {
        GuestMemoryRegion::get_slice(&self.view, offset, count)
    }

    fn is_hugetlbfs(&self) -> Option<bool> {
        self.view.is_hugetlbfs()
    }
}

impl GuestMemoryRegionBytes for GuestRegion {}

/// All guest RAM of one virtual machine: one or two [`GuestRegion`]s in address order.
///
/// Implements [`GuestMemory`] and, through it, [`Bytes`](super::Bytes). Usable from any thread; concurrent
/// access to the same bytes is a data race of the guest's making and is done with volatile accesses.
///
/// Field order is drop order: a file under the memory stays locked until nothing is mapped any more.
#[derive(Debug)]
pub struct GuestRam {
    regions: GuestRegionCollection<GuestRegion>,
    pub(super) overlays: Overlays,
    pub(super) replaced: ReplacedCount,
}

impl GuestRam {
    /// Anonymous RAM at the given guest ranges, which must be sorted and must not overlap.
    ///
    /// The plain way, for tests and tools; a virtual machine uses
    /// [`MemoryLayout`](super::MemoryLayout) and [`alloc::allocate`](super::alloc::allocate).
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the ranges are unusable or the host has no memory for them.
    pub fn from_ranges(ranges: &[(GuestAddress, usize)]) -> Result<Self, AllocError> {
        let ranges: Vec<RamRange> =
            ranges.iter().map(|&(start, len)| RamRange { start: start.0, len: len as u64 }).collect();
        allocate_ranges(&ranges, &RamConfig { transparent_huge_pages: false, ..RamConfig::default() })
    }

    pub(super) fn from_regions(regions: Vec<GuestRegion>) -> Result<Self, AllocError> {
        let regions = GuestRegionCollection::from_regions(regions)?;
        Ok(GuestRam { regions, overlays: Overlays::default(), replaced: ReplacedCount::default() })
    }
}

impl GuestMemory for GuestRam {
    type R = GuestRegion;

    fn num_regions(&self) -> usize {
        self.regions.num_regions()
    }

    fn find_region(&self, addr: GuestAddress) -> Option<&GuestRegion> {
        self.regions.find_region(addr)
    }

    fn iter(&self) -> impl Iterator<Item = &GuestRegion> {
        self.regions.iter()
    }
}
