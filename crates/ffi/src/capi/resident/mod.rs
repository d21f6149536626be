//! Giving back the memory that only a machine's start needed: free heap, and the pages of this library's code and
//! constants.
//!
//! A start runs several times the code that a running machine does, and the kernel maps sixteen pages for one that is
//! touched, so that nearly all of the library stays mapped. Its pages are those of the file in the page cache: one that is
//! needed again is mapped again, one that is not can be reclaimed without a look at this process.
//!
//! Only `krun_start_enter` does it, whose process is there for the machine from then on.

mod sys;

use std::ops::Range;
use std::time::Duration;

/// When it is done: so long after the start, and so long after the time before. Most guests have booted at the first, and
/// on a slow host at the last; a guest that ends sooner pays nothing.
pub(super) const WAITS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The page is in memory (the kernel's Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
/// It is the file's, not a private copy that somebody wrote to.
const OF_FILE: u64 = 1 << 61;

/// Gives back what can be. Nothing depends on it.
pub(super) fn give_back() {
    if let Err(e) = sys::give_back_code() {
        log::debug!("the pages of code that only the start needed are kept: {e}");
    }
    sys::give_back_heap();
}

/// The pages that are mapped and unchanged, as ranges of page numbers, by their entries in `/proc/PID/pagemap`.
fn unchanged(entries: impl Iterator<Item = u64>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, entry) in entries.enumerate() {
        if entry & (PRESENT | OF_FILE) != PRESENT | OF_FILE {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == page => run.end = page.saturating_add(1),
            _ => runs.push(page..page.saturating_add(1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_to_is_kept() {
        const CLEAN: u64 = PRESENT | OF_FILE | 0x1234;
        const COPY: u64 = PRESENT | 0x1234;
        const SWAPPED_COPY: u64 = 1 << 62;
        type Case = (&'static [u64], &'static [Range<usize>]);
        let cases: [Case; 5] = [
            (&[], &[]),
            (&[0, COPY, SWAPPED_COPY, OF_FILE], &[]),
            (&[CLEAN, COPY, CLEAN], &[0..1, 2..3]),
            (&[CLEAN, CLEAN, COPY, CLEAN], &[0..2, 3..4]),
            (&[0, CLEAN, 0, CLEAN, CLEAN, 0], &[1..2, 3..5]),
        ];
        for (entries, runs) in cases {
            assert_eq!(unchanged(entries.iter().copied()), runs, "{entries:x?}");
        }
    }
}
