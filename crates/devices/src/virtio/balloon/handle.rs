//! What other threads share with a balloon: the target in, sizes and statistics out.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::pages::PAGE;
use super::stats::GuestMemoryStats;

/// Counters since the device was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalloonCounters {
    /// Bytes given back because the guest reported them free. A page counts each time it is reported.
    pub reported: u64,
    /// Bytes given back because the driver put them into the balloon.
    pub inflated: u64,
    /// Ranges and buffers that were not memory of the guest, or that the host did not take back.
    pub refused: u64,
}

/// The last statistics, and how many there were.
#[derive(Debug, Default)]
struct Told {
    stats: Option<GuestMemoryStats>,
    count: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Pages the driver is asked to give (`num_pages`).
    pub target: AtomicU32,
    /// Pages the driver says it gave (`actual`).
    pub actual: AtomicU32,
    pub generation: AtomicU32,
    pub reported: AtomicU64,
    pub inflated: AtomicU64,
    pub refused: AtomicU64,
    /// Somebody waits for statistics newer than those there are.
    pub stats_wanted: AtomicBool,
    told: Mutex<Told>,
    fresh: Condvar,
    /// Makes the worker look at `target` and `stats_wanted`.
    pub wake: EventFd,
}

impl Shared {
    pub(super) fn new(target: u32) -> io::Result<Self> {
        Ok(Shared {
            target: AtomicU32::new(target),
            actual: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            reported: AtomicU64::new(0),
            inflated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stats_wanted: AtomicBool::new(false),
            told: Mutex::default(),
            fresh: Condvar::new(),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    pub(super) fn wake(&self) {
        // Fails only when the counter is full, which is a pending wake-up.
        let _ = self.wake.write(1);
    }

    /// The driver told this.
    pub(super) fn tell(&self, stats: GuestMemoryStats) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.stats = Some(stats);
        told.count = told.count.wrapping_add(1);
        self.fresh.notify_all();
    }

    /// Returns true if the target is another one now.
    pub(super) fn set_target(&self, pages: u32) -> bool {
        let changed = self.target.swap(pages, Ordering::AcqRel) != pages;
        if changed {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        changed
    }
}

/// A balloon as seen by other threads. Cheap to clone; works in every state of the device.
#[derive(Debug, Clone)]
pub struct BalloonHandle(pub(super) Arc<Shared>);

impl BalloonHandle {
    /// Asks the guest to give `bytes` of its memory (rounded down to 4 KiB, at most 16 TiB), or to take back
    /// what it gave beyond that. Does not wait: the driver gives as fast as its kernel finds memory, and
    /// [`BalloonHandle::actual`] follows. A guest without driver never does.
    pub fn set_target(&self, bytes: u64) {
        if self.0.set_target(u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)) {
            self.0.wake();
        }
    }

    /// Bytes the guest is asked to give.
    pub fn target(&self) -> u64 {
        u64::from(self.0.target.load(Ordering::Acquire)).saturating_mul(PAGE)
    }

    /// Bytes the driver says it gave. The guest's word: it is not compared with what it really gave.
    pub fn actual(&self) -> u64 {
        u64::from(self.0.actual.load(Ordering::Acquire)).saturating_mul(PAGE)
    }

    /// What went back to the host.
    pub fn counters(&self) -> BalloonCounters {
        BalloonCounters {
            reported: self.0.reported.load(Ordering::Relaxed),
            inflated: self.0.inflated.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
        }
    }

    /// What the guest told last, at its start if nobody asked since; `None` before that.
    pub fn stats(&self) -> Option<GuestMemoryStats> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).stats
    }

    /// Asks the guest for statistics and waits for them, at most for `limit`; `None` then, as for a guest that
    /// is paused or has no driver.
    pub fn ask_stats(&self, limit: Duration) -> Option<GuestMemoryStats> {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.count;
        self.0.stats_wanted.store(true, Ordering::Release);
        self.0.wake();
        let waited = self.0.fresh.wait_timeout_while(told, limit, |told| told.count == before);
        let (told, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { None } else { told.stats }
    }
}
