//! Why there is no guest RAM.

use std::io;

use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::region::GuestRegionCollectionError;

use super::layout::PAGE_SIZE;

/// Why guest RAM could not be allocated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AllocError {
    /// The mapping was refused.
    #[error(
        "cannot map {bytes} bytes of {backing} memory for guest RAM at {guest:#x}; ask for less RAM, or \
         raise the limit the source names (address space limit, overcommit, memory cgroup)"
    )]
    Map {
        /// Size of the range in bytes.
        bytes: u64,
        /// First guest address of the range.
        guest: u64,
        /// The kind of memory.
        backing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The host's pool of explicit huge pages has too few free pages, or none of that size.
    #[error(
        "cannot reserve {pages} huge pages of {page_bytes} bytes for guest RAM at {guest:#x}; raise \
         nr_hugepages for that size (/sys/kernel/mm/hugepages) or choose another backing"
    )]
    HugePages {
        /// Huge pages needed for the range.
        pages: u64,
        /// Size of one in bytes.
        page_bytes: u64,
        /// First guest address of the range.
        guest: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A RAM range is not a whole number of huge pages.
    #[error(
        "RAM range of {bytes} bytes at {guest:#x} is not a multiple of the huge page size {page_bytes}; \
         round the RAM size to it"
    )]
    HugePageMultiple {
        /// Size of the range in bytes.
        bytes: u64,
        /// First guest address of the range.
        guest: u64,
        /// Size of a huge page in bytes.
        page_bytes: u64,
    },
    /// The host has no such nodes, or does not let this process use them.
    #[error(
        "cannot take {bytes} bytes of guest RAM at {guest:#x} from the host's NUMA nodes {nodes:?}; the host's are in \
         /sys/devices/system/node/has_memory"
    )]
    Bind {
        /// Size of the range in bytes.
        bytes: u64,
        /// First guest address of the range.
        guest: u64,
        /// Numbers of the host's nodes.
        nodes: Vec<u32>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The anonymous file could not be made.
    #[error("cannot create an anonymous file of {bytes} bytes for guest RAM")]
    Memfd {
        /// Size in bytes.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The backing file's size could not be read.
    #[error("cannot read the size of the file behind guest RAM")]
    FileSize(#[source] io::Error),
    /// The backing file is shorter than RAM.
    #[error(
        "the file behind guest RAM has {have} bytes, but RAM needs {need} from offset {offset}; extend the \
         file or ask for less RAM"
    )]
    FileTooShort {
        /// Size of the file in bytes.
        have: u64,
        /// Bytes needed from `offset` on.
        need: u64,
        /// Where RAM begins in the file.
        offset: u64,
    },
    /// The offset into the backing file is not page aligned.
    #[error("offset {offset} into the file behind guest RAM is not a multiple of {PAGE_SIZE}")]
    FileOffset {
        /// The offset in bytes.
        offset: u64,
    },
    /// The ranges together overflow.
    #[error("the RAM ranges are together longer than an address can express")]
    Overflow,
    /// vm-memory refused the mapping.
    #[error("the mapping of guest RAM at {guest:#x} is unusable")]
    Region {
        /// First guest address of the range.
        guest: u64,
        /// What was wrong.
        #[source]
        source: MmapRegionError,
    },
    /// The ranges are empty, overlap, or are out of order.
    #[error("the RAM ranges do not form a guest memory")]
    Ranges(#[from] GuestRegionCollectionError),
}
