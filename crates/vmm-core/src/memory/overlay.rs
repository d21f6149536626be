//! Files under guest RAM: pages that several machines share until one of them writes. Shell code.
//!
//! Large read-mostly content that many machines start from (the base of an initial RAM disk) need not be copied
//! into each: its file is mapped over the RAM it would have been copied to, copy on write. Nothing is read, and
//! nothing becomes resident, before the guest touches it.
//!
//! A file under RAM must keep its size, or an access would be a SIGBUS; whoever may change it is kept away by a
//! lock, which an [`OverlaySource`] holds. It is therefore kept until the RAM is unmapped.
//!
//! ```
//! use std::sync::Arc;
//!
//! use purlin_vmm_core::memory::overlay::OverlaySource;
//! use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestRam};
//!
//! let file = tempfile::tempfile()?;
//! std::io::Write::write_all(&mut &file, &[7; 4096])?;
//! let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
//! let source: Arc<dyn OverlaySource> = Arc::new(file);
//! ram.overlay(GuestAddress(0x1000), 4096, &source)?;
//! assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1000))?, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use vm_memory::{GuestMemory, GuestMemoryRegion};

use super::layout::PAGE_SIZE;
use super::ram::GuestRam;
use super::sys::MemoryThere;
use super::{GuestAddress, RamRange};

/// Why a file cannot lie under guest RAM. But for the last two, the RAM is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// There is nothing to map, or the range ends beyond the address space.
    #[error("{len} bytes at {addr:#x} are not a range of addresses")]
    Range {
        /// First guest address.
        addr: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The address is not at the start of a page.
    #[error("{addr:#x} is not a multiple of the page size {PAGE_SIZE}")]
    Alignment {
        /// First guest address.
        addr: u64,
    },
    /// The length rounded up to pages is more than an address can express.
    #[error("{len} bytes are too many")]
    Length {
        /// Length in bytes.
        len: u64,
    },
    /// The range, rounded up to pages, is not inside of one RAM region.
    #[error("[{addr:#x}, {addr:#x} + {len:#x}) does not lie in one region of guest RAM")]
    Region {
        /// First guest address.
        addr: u64,
        /// Length in bytes, rounded up to pages.
        len: u64,
    },
    /// RAM that is not private anonymous memory of ordinary pages: peers would not see the file, or huge pages
    /// cannot be replaced in part.
    #[error("the RAM at {addr:#x} is shared, a file or huge pages")]
    Backing {
        /// First guest address.
        addr: u64,
    },
    /// The file ends inside of the range.
    #[error("the file has {have} bytes, which do not fill {need} bytes of pages")]
    FileTooShort {
        /// Its size in bytes.
        have: u64,
        /// The length in bytes, rounded up to pages.
        need: u64,
    },
    /// The operating system refused. What was in the RAM may be lost.
    #[error("cannot map the file")]
    Map(#[source] io::Error),
    /// The operating system refused, and there is no memory in the range any more: the machine cannot be used.
    #[error("there is no memory left at {addr:#x}")]
    Lost {
        /// First guest address.
        addr: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl OverlayError {
    /// True if the content can be copied to the RAM instead.
    pub fn leaves_memory(&self) -> bool {
        !matches!(self, OverlayError::Lost { .. })
    }
}

/// A range that passed the checks: as a part of one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    region: usize,
    offset: u64,
    len: u64,
}

/// The checks that need no operating system, in order. `regions` are those of RAM.
fn place(addr: u64, len: u64, regions: impl Iterator<Item = RamRange>) -> Result<Placed, OverlayError> {
    if len == 0 || addr.checked_add(len).is_none() {
        return Err(OverlayError::Range { addr, len });
    }
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(OverlayError::Alignment { addr });
    }
    let rounded = len.checked_next_multiple_of(PAGE_SIZE).filter(|&len| usize::try_from(len).is_ok());
    let len = rounded.ok_or(OverlayError::Length { len })?;
    let outside = OverlayError::Region { addr, len };
    let Some(end) = addr.checked_add(len) else { return Err(outside) };
    let inside = |range: &RamRange| range.start <= addr && end <= range.end();
    match regions.enumerate().find(|(_, range)| inside(range)) {
        Some((region, range)) => Ok(Placed { region, offset: addr.saturating_sub(range.start), len }),
        None => Err(outside),
    }
}

/// A file that can lie under guest RAM, and what keeps others from changing it as long as this value lives.
pub trait OverlaySource: Send + Sync {
    /// The file, readable.
    fn file(&self) -> &File;
}

impl OverlaySource for File {
    fn file(&self) -> &File {
        self
    }
}

/// The files under one machine's RAM, and where they are.
#[derive(Default)]
pub(super) struct Overlays(Mutex<Vec<(RamRange, Arc<dyn OverlaySource>)>>);

impl Overlays {
    fn held(&self) -> MutexGuard<'_, Vec<(RamRange, Arc<dyn OverlaySource>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, range: RamRange, source: Arc<dyn OverlaySource>) {
        self.held().push((range, source));
    }

    fn remove(&self, range: RamRange, source: &Arc<dyn OverlaySource>) {
        let mut held = self.held();
        if let Some(at) = held.iter().rposition(|(at, held)| *at == range && Arc::ptr_eq(held, source)) {
            held.remove(at);
        }
    }

    /// The overlays that have a part in `[start, end)`.
    pub fn within(&self, start: u64, end: u64) -> Vec<RamRange> {
        let ranges = self.held().iter().map(|(range, _)| *range).collect::<Vec<_>>();
        ranges.into_iter().filter(|range| range.start < end && start < range.end()).collect()
    }
}

impl fmt::Debug for Overlays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.held().iter().map(|(range, _)| range)).finish()
    }
}

impl GuestRam {
    /// Puts the first `len` bytes of a file under the RAM at `addr`, copy on write: the guest sees them there, and
    /// its writes stay its own. The last page shows whatever the file has behind `len`. Nothing is read or made
    /// resident now.
    ///
    /// `source` is kept, with the locks it stands for, until the last owner of this RAM has dropped it and the memory
    /// is unmapped. The file's size must not change as long.
    ///
    /// Content that was in this RAM before is lost; call it before the guest runs.
    ///
    /// # Errors
    ///
    /// [`OverlayError`], in the order of its variants.
    pub fn overlay(
        &self,
        addr: GuestAddress,
        len: u64,
        source: &Arc<dyn OverlaySource>,
    ) -> Result<(), OverlayError> {
        let ranges = self.iter().map(|r| RamRange { start: r.start_addr().0, len: r.len() });
        let placed = place(addr.0, len, ranges)?;
        let region = self.iter().nth(placed.region).filter(|region| region.is_plain());
        let region = region.ok_or(OverlayError::Backing { addr: addr.0 })?;
        let have = source.file().metadata().map_err(OverlayError::Map)?.len();
        if have < placed.len {
            return Err(OverlayError::FileTooShort { have, need: placed.len });
        }
        // Owned before it is mapped: whatever happens next, the file outlives its mapping.
        let range = RamRange { start: addr.0, len: placed.len };
        self.overlays.push(range, source.clone());
        // Both fit: `place` checked the length, and the offset is inside of a mapping.
        let mapped = region.mapping().overlay(placed.offset as usize, placed.len as usize, source.file());
        mapped.map_err(|(error, MemoryThere(there))| {
            self.overlays.remove(range, source);
            if there { OverlayError::Map(error) } else { OverlayError::Lost { addr: addr.0, source: error } }
        })
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
