//! Allocation of guest RAM: shell code, the system calls are in `sys.rs`.
//!
//! Each RAM range becomes one mapping whose host address is congruent to its guest address modulo 2 MiB (or
//! the explicit huge page size), so that the second-level page tables of the guest can use large pages
//! whenever the host does. Guest RAM is left out of core dumps (`MADV_DONTDUMP`): it is large, and its
//! content is the guest's. It is inherited over `fork` like any memory of the process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap};

pub use super::alloc_error::AllocError;

use super::SharedRam;
use super::layout::{HUGE_PAGE, MemoryLayout, PAGE_SIZE, RamRange};
use super::ram::{GuestRam, GuestRegion};
use super::reclaim::Method;
use super::sys::{Mapping, Source, sealed_memfd};

/// Size of explicit huge pages (`hugetlbfs` pool of the host).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HugePageSize {
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl HugePageSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            HugePageSize::Mib2 => 2 << 20,
            HugePageSize::Gib1 => 1 << 30,
        }
    }

    const fn map_flag(self) -> libc::c_int {
        match self {
            HugePageSize::Mib2 => libc::MAP_HUGE_2MB,
            HugePageSize::Gib1 => libc::MAP_HUGE_1GB,
        }
    }
}

/// Whether guest writes reach a backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileSharing {
    /// Copy on write: the file is never changed (a snapshot that several machines start from).
    Private,
    /// Guest writes go to the file and to everyone who maps it. The file must be open for writing.
    Shared,
}

/// What guest RAM is made of.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Backing {
    /// Private anonymous memory.
    #[default]
    Anonymous,
    /// One anonymous file for all of RAM, mapped shared, its size sealed: for peers such as vhost-user.
    Memfd,
    /// Private anonymous memory from the host's pool of explicit huge pages, reserved at allocation.
    Hugetlb(HugePageSize),
    /// As [`Backing::Hugetlb`] if the pool has enough free pages and RAM is a multiple of them, else as
    /// [`Backing::Anonymous`].
    HugetlbIfFree(HugePageSize),
    /// A file that holds the RAM ranges one after another from `offset` bytes on.
    ///
    /// The file must not be truncated while the RAM lives: an access behind its end would fault.
    File {
        /// The open file.
        file: Arc<File>,
        /// Offset in bytes of the first RAM range; a multiple of 4096.
        offset: u64,
        /// Whether guest writes reach the file.
        sharing: FileSharing,
    },
}

/// How to allocate guest RAM.
#[derive(Debug, Clone)]
pub struct RamConfig {
    /// What RAM is made of.
    pub backing: Backing,
    /// Ask for transparent huge pages (`MADV_HUGEPAGE`) where the backing can have them: anonymous and
    /// memfd. Fewer page faults at boot, against a coarser granule of what becomes resident. A host
    /// without transparent huge pages ignores it.
    pub transparent_huge_pages: bool,
    /// Which nodes of a host whose memory is not uniform the RAM is taken from, by guest range; the ranges must be
    /// parts of RAM at page boundaries. The host's own policy elsewhere. Memory of explicit huge pages is taken from
    /// the first node of a list if that has some free, else from any.
    pub bindings: Vec<HostBinding>,
}

/// Guest RAM that is taken from certain nodes of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBinding {
    /// Guest addresses.
    pub range: RamRange,
    /// Numbers of the host's nodes.
    pub nodes: Vec<u32>,
}

impl Default for RamConfig {
    /// Anonymous memory with transparent huge pages.
    fn default() -> Self {
        RamConfig { backing: Backing::default(), transparent_huge_pages: true, bindings: Vec::new() }
    }
}

/// Allocates the RAM of `layout`.
///
/// Blocks only for explicit huge pages (the pool may be compacted). The content is zero, or the file's.
///
/// # Errors
///
/// [`AllocError`]; nothing stays mapped then.
pub fn allocate(layout: &MemoryLayout, config: &RamConfig) -> Result<SharedRam, AllocError> {
    let ranges: Vec<RamRange> = layout.ranges().collect();
    let Backing::HugetlbIfFree(page) = config.backing else {
        return allocate_ranges(&ranges, config).map(Arc::new);
    };
    let huge = RamConfig { backing: Backing::Hugetlb(page), ..config.clone() };
    match allocate_ranges(&ranges, &huge) {
        Err(e @ (AllocError::HugePages { .. } | AllocError::HugePageMultiple { .. })) => {
            log::info!("guest RAM has ordinary pages: {e}");
            let plain = RamConfig { backing: Backing::Anonymous, ..huge };
            allocate_ranges(&ranges, &plain).map(Arc::new)
        }
        other => other.map(Arc::new),
    }
}

/// Allocates sorted, non-overlapping ranges; page alignment is the caller's wish, not a requirement.
pub(super) fn allocate_ranges(ranges: &[RamRange], config: &RamConfig) -> Result<GuestRam, AllocError> {
    let pool = Pool::open(ranges, &config.backing)?;
    let mut regions = Vec::with_capacity(ranges.len());
    let mut offset = 0u64;
    for range in ranges {
        let mapping = pool.map(range, offset)?;
        bind(range, &mapping, &pool, &config.bindings)?;
        advise(&mapping, &pool, config.transparent_huge_pages);
        regions.push(region(range, mapping, &pool, offset)?);
        offset = offset.checked_add(page_rounded(range)?).ok_or(AllocError::Overflow)?;
    }
    GuestRam::from_regions(regions)
}

fn page_rounded(range: &RamRange) -> Result<u64, AllocError> {
    range.len.checked_next_multiple_of(PAGE_SIZE).ok_or(AllocError::Overflow)
}

fn region(range: &RamRange, mapping: Mapping, pool: &Pool, offset: u64) -> Result<GuestRegion, AllocError> {
    let len = usize::try_from(range.len).map_err(|_| AllocError::Overflow)?;
    let mut builder = MmapRegionBuilder::<()>::new(len).with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
    if let Some(file) = pool.file_offset(offset) {
        builder = builder.with_file_offset(file);
    }
    let built = super::sys::view_of(builder, &mapping);
    let view = built.map_err(|source| AllocError::Region { guest: range.start, source })?;
    let view = GuestRegionMmap::new(view, GuestAddress(range.start)).ok_or(AllocError::Overflow)?;
    Ok(GuestRegion::new(view, mapping, pool.reclaim_method()))
}

/// Before anything is touched: pages that are there stay where they are.
fn bind(
    range: &RamRange,
    mapping: &Mapping,
    pool: &Pool,
    bindings: &[HostBinding],
) -> Result<(), AllocError> {
    for HostBinding { range: wanted, nodes } in bindings {
        let start = wanted.start.max(range.start);
        let len = wanted.end().min(range.end()).saturating_sub(start);
        if nodes.is_empty() || len == 0 {
            continue;
        }
        let offset = start.saturating_sub(range.start);
        // A reservation of huge pages is not for certain nodes, and a strict binding to an empty pool would be a SIGBUS.
        let strict = !matches!(pool, Pool::Hugetlb(_));
        // Both are inside of a mapping.
        mapping.bind(offset as usize, len as usize, nodes, strict).map_err(|source| AllocError::Bind {
            bytes: len,
            guest: start,
            nodes: nodes.clone(),
            source,
        })?;
    }
    Ok(())
}

fn advise(mapping: &Mapping, pool: &Pool, transparent_huge_pages: bool) {
    let huge = transparent_huge_pages && matches!(pool, Pool::Anonymous | Pool::Memfd(_));
    let wanted = [(true, libc::MADV_DONTDUMP), (huge, libc::MADV_HUGEPAGE)];
    for (_, advice) in wanted.into_iter().filter(|&(on, _)| on) {
        // Advice only: a kernel built without the feature says EINVAL, and RAM works all the same.
        if let Err(e) = mapping.advise(advice) {
            log::debug!("guest RAM: madvise({advice}) refused: {e}");
        }
    }
}

/// The opened source of all mappings of one guest.
enum Pool {
    Anonymous,
    Memfd(Arc<File>),
    Hugetlb(HugePageSize),
    File { file: Arc<File>, offset: u64, sharing: FileSharing },
}

impl Pool {
    fn open(ranges: &[RamRange], backing: &Backing) -> Result<Self, AllocError> {
        let mut total = 0u64;
        for range in ranges {
            total = total.checked_add(page_rounded(range)?).ok_or(AllocError::Overflow)?;
        }
        match backing {
            Backing::Anonymous => Ok(Pool::Anonymous),
            Backing::Hugetlb(page) | Backing::HugetlbIfFree(page) => {
                ranges.iter().try_for_each(|r| check_huge_multiple(r, page.bytes()))?;
                Ok(Pool::Hugetlb(*page))
            }
            Backing::Memfd => {
                let file =
                    sealed_memfd(total).map_err(|source| AllocError::Memfd { bytes: total, source })?;
                Ok(Pool::Memfd(Arc::new(file)))
            }
            Backing::File { file, offset, sharing } => {
                check_file(file, *offset, total)?;
                Ok(Pool::File { file: file.clone(), offset: *offset, sharing: *sharing })
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Pool::Anonymous => "anonymous",
            Pool::Memfd(_) => "memfd",
            Pool::Hugetlb(_) => "hugetlb",
            Pool::File { sharing: FileSharing::Private, .. } => "private file",
            Pool::File { sharing: FileSharing::Shared, .. } => "shared file",
        }
    }

    fn map_flags(&self) -> libc::c_int {
        match self {
            Pool::Anonymous => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            Pool::Memfd(_) => libc::MAP_SHARED | libc::MAP_NORESERVE,
            // Reserved now: a fault on an empty pool would be a SIGBUS.
            Pool::Hugetlb(page) => {
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | page.map_flag()
            }
            Pool::File { sharing: FileSharing::Private, .. } => libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            Pool::File { sharing: FileSharing::Shared, .. } => libc::MAP_SHARED | libc::MAP_NORESERVE,
        }
    }

    fn file_offset(&self, offset: u64) -> Option<FileOffset> {
        match self {
            Pool::Anonymous | Pool::Hugetlb(_) => None,
            Pool::Memfd(file) => Some(FileOffset::from_arc(file.clone(), offset)),
            Pool::File { file, offset: start, .. } => {
                Some(FileOffset::from_arc(file.clone(), start.saturating_add(offset)))
            }
        }
    }

    fn reclaim_method(&self) -> Method {
        match self {
            Pool::Anonymous => Method::Discard(Mutex::default()),
            Pool::Memfd(_) | Pool::File { sharing: FileSharing::Shared, .. } => Method::Punch,
            Pool::File { sharing: FileSharing::Private, .. } => Method::Replace(Mutex::default()),
            Pool::Hugetlb(_) => Method::Keep,
        }
    }

    fn map(&self, range: &RamRange, offset: u64) -> Result<Mapping, AllocError> {
        let file = self.file_offset(offset);
        let source = Source {
            flags: self.map_flags(),
            fd: file.as_ref().map_or(-1, |f| f.file().as_raw_fd()),
            offset: file.as_ref().map_or(0, |f| f.start()).try_into().map_err(|_| AllocError::Overflow)?,
        };
        let align = match self {
            Pool::Hugetlb(page) => page.bytes(),
            _ => HUGE_PAGE,
        };
        let len = usize::try_from(range.len).map_err(|_| AllocError::Overflow)?;
        Mapping::new(len, align as usize, range.start, &source).map_err(|e| self.map_error(range, e))
    }

    fn map_error(&self, range: &RamRange, source: io::Error) -> AllocError {
        let guest = range.start;
        match self {
            Pool::Hugetlb(page) => {
                let page_bytes = page.bytes();
                AllocError::HugePages { pages: range.len / page_bytes, page_bytes, guest, source }
            }
            _ => AllocError::Map { bytes: range.len, guest, backing: self.name(), source },
        }
    }
}

fn check_huge_multiple(range: &RamRange, page_bytes: u64) -> Result<(), AllocError> {
    if range.len.is_multiple_of(page_bytes) && range.start.is_multiple_of(page_bytes) {
        return Ok(());
    }
    Err(AllocError::HugePageMultiple { bytes: range.len, guest: range.start, page_bytes })
}

fn check_file(file: &File, offset: u64, need: u64) -> Result<(), AllocError> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(AllocError::FileOffset { offset });
    }
    let have = file.metadata().map_err(AllocError::FileSize)?.len();
    let end = offset.checked_add(need).ok_or(AllocError::Overflow)?;
    if end > have { Err(AllocError::FileTooShort { have, need, offset }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "alloc_tests.rs"]
mod tests;
