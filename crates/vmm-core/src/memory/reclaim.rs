//! Giving guest memory back to the host.
//!
//! What that takes depends on what RAM is made of (madvise(2), fallocate(2)):
//!
//! | RAM | how | the guest then reads |
//! |---|---|---|
//! | anonymous | `MADV_DONTNEED` | zeros |
//! | a file under anonymous RAM ([`overlay`](super::overlay)) | as for a private file | zeros |
//! | memfd or shared file | `MADV_REMOVE`: a hole in the file; `MADV_DONTNEED` would drop only our view of it | zeros |
//! | private file | anonymous memory mapped over whole 2 MiB blocks; `MADV_DONTNEED` would show the guest the bytes its memory had when the file was written | zeros |
//! | explicit huge pages | nothing: they are reserved, and a page that is given back might not be there again for the next access, which ends the process | what it wrote |
//!
//! Each block mapped over can split the mapping, and a process may have some 65,000 mappings
//! (`vm.max_map_count`). So there is a bound on their number in a machine, and smaller ranges stay as they are.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryRegion};

use super::layout::{HUGE_PAGE, PAGE_SIZE};
use super::ram::GuestRam;
use super::sys::Mapping;

/// Most blocks of a machine that are replaced by anonymous memory; each costs at most two mappings. Half of what the process
/// may have: windows need some too.
const MAX_REPLACED: usize = 1 << 14;

/// How many blocks of a machine are replaced.
#[derive(Debug, Default)]
pub(super) struct ReplacedCount(AtomicUsize);

impl ReplacedCount {
    /// Counts one more, if there may be one.
    fn add(&self) -> bool {
        let more = |count| (count < MAX_REPLACED).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn take_back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives guest memory that the guest does not use back to the host.
///
/// A balloon calls this. [`GuestRam`] implements it for RAM made by [`alloc`](super::alloc); an assembler whose
/// RAM is watched by somebody else (userfaultfd, a peer that maps it) puts its own in front.
pub trait MemoryReclaim: Send + Sync {
    /// Gives back the whole pages in `len` bytes from `start` on. Returns how many bytes that were: fewer than
    /// asked, down to 0, if RAM of this kind cannot be given back in that piece.
    ///
    /// The guest finds zeros where something was given back, and its own bytes elsewhere.
    ///
    /// # Errors
    ///
    /// [`ReclaimError`]; guest and host memory are as before, or partly given back.
    fn reclaim(&self, start: GuestAddress, len: u64) -> Result<u64, ReclaimError>;
}

/// Memory was not given back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReclaimError {
    /// The range is not within one region of RAM.
    #[error("{len:#x} bytes at {start:#x} are not in guest RAM")]
    NotRam {
        /// First guest address.
        start: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The host refused.
    #[error("{len:#x} bytes of guest RAM at {start:#x} cannot be given back")]
    Host {
        /// First guest address.
        start: u64,
        /// Length in bytes.
        len: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// How a region's memory goes back.
#[derive(Debug)]
pub(super) enum Method {
    /// With the blocks that had an overlay.
    Discard(Mutex<Replaced>),
    Punch,
    Replace(Mutex<Replaced>),
    Keep,
}

/// Which blocks of a private file mapping are anonymous by now.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    blocks: Vec<u64>,
}

impl Replaced {
    fn contains(&self, block: usize) -> bool {
        self.blocks.get(block / 64).is_some_and(|word| word & (1 << (block % 64)) != 0)
    }

    fn insert(&mut self, block: usize) {
        if self.blocks.len() <= block / 64 {
            self.blocks.resize(block / 64 + 1, 0);
        }
        if let Some(word) = self.blocks.get_mut(block / 64) {
            *word |= 1 << (block % 64);
        }
    }
}

impl MemoryReclaim for GuestRam {
    fn reclaim(&self, start: GuestAddress, len: u64) -> Result<u64, ReclaimError> {
        let not_ram = ReclaimError::NotRam { start: start.0, len };
        let Some(region) = self.find_region(start) else { return Err(not_ram) };
        let offset = start.0 - region.start_addr().0;
        let end = match offset.checked_add(len) {
            Some(end) if end <= region.len() => end,
            _ => return Err(not_ram),
        };
        // Host and guest addresses are congruent modulo the page size, but a region may start in a page.
        let base = region.start_addr().0;
        let (Some(first), last) = ((base + offset).checked_next_multiple_of(PAGE_SIZE), base + end) else {
            return Ok(0);
        };
        let last = last - last % PAGE_SIZE;
        if first >= last {
            return Ok(0);
        }
        let (method, mapping) = region.reclaimable();
        let range = Range { from: (first - base) as usize, len: (last - first) as usize };
        let outcome = match method {
            Method::Keep => Ok(0),
            Method::Discard(replaced) => {
                let overlays = self.overlays.within(first, last);
                if overlays.is_empty() {
                    mapping.discard(range.from, range.len).map(|()| range.len)
                } else {
                    let mut replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
                    replace(mapping, (&mut replaced, &self.replaced), base, range, |from, to| {
                        overlays.iter().any(|overlay| from < overlay.end() && overlay.start < to)
                    })
                }
            }
            Method::Punch => mapping.punch(range.from, range.len).map(|()| range.len),
            Method::Replace(replaced) => {
                let mut replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
                replace(mapping, (&mut replaced, &self.replaced), base, range, |_, _| true)
            }
        };
        outcome.map(|bytes| bytes as u64).map_err(|source| ReclaimError::Host { start: start.0, len, source })
    }
}

/// Whole pages of a region, as offsets into its mapping.
#[derive(Clone, Copy)]
struct Range {
    from: usize,
    len: usize,
}

/// Goes through the 2 MiB blocks (of guest addresses, so that a mapping's huge pages stay whole) of a range. `has_file`
/// tells of a range of guest addresses whether a file shows through where memory is dropped.
fn replace(
    mapping: &Mapping,
    (replaced, count): (&mut Replaced, &ReplacedCount),
    base: u64,
    range: Range,
    has_file: impl Fn(u64, u64) -> bool,
) -> io::Result<usize> {
    let block_len = HUGE_PAGE as usize;
    let lead = (base % HUGE_PAGE) as usize;
    let (mut at, end) = (range.from, range.from + range.len);
    let mut given = 0;
    while at < end {
        let block = (lead + at) / block_len;
        let block_end = (block + 1) * block_len - lead;
        let stop = block_end.min(end);
        let whole = stop - at == block_len;
        let guest = base + block_end as u64 - block_len as u64;
        if replaced.contains(block) || !has_file(guest, guest + block_len as u64) {
            mapping.discard(at, stop - at)?;
            given += stop - at;
        } else if whole && count.add() {
            mapping.map_over(at, block_len).inspect_err(|_| count.take_back())?;
            replaced.insert(block);
            given += block_len;
        }
        at = stop;
    }
    Ok(given)
}

#[cfg(test)]
#[path = "reclaim_tests.rs"]
mod tests;
