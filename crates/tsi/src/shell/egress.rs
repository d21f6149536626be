//! The policy of a device, for other threads while it runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use purlin_egress::{Counters, DEFAULT_LOG_CAPACITY, DecisionLog, LogEntry, Policy, RuleHits};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Replaces a device's policy and reads what it decided. Cheap to clone; of any thread.
///
/// The device's thread owns the policy in force, and never waits for a reader: it takes a new policy when it
/// is told of one, and leaves what is new of its log and counters here once per turn, or in its next turn if
/// somebody is reading just then. Hits of rules are counted where readers see them.
#[derive(Debug, Clone)]
pub struct EgressHandle(Arc<Shared>);

impl EgressHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        EgressHandle(shared)
    }

    /// Puts another policy in place of the current one. Every connect and every new destination of datagrams
    /// that the device hears of after this is judged by it, as a whole; what is open and would not be let out
    /// to the same place is closed within the device's next turn: connections are reset, datagrams stop. Until
    /// then, which is a turn that is under way at most, datagrams still reach destinations that were let out
    /// before. Works while the machine is paused, where open flows are closed when it resumes.
    pub fn replace(&self, policy: Policy) {
        // Large ones are dropped when nobody can be waiting.
        let _old = self.0.read(|board| {
            let mut next = self.0.next();
            let unused = next.replace(policy.clone());
            self.0.generation.fetch_add(1, Ordering::Release);
            (std::mem::replace(&mut board.policy, policy), unused)
        });
        self.0.wake();
    }

    /// The policy installed last.
    pub fn policy(&self) -> Policy {
        self.0.read(|board| board.policy.clone())
    }

    /// Up to `most` decisions with this number and later ones, oldest first. If the first has a higher number,
    /// those between were overwritten: the log holds the last [`DEFAULT_LOG_CAPACITY`].
    pub fn log(&self, since: u64, most: usize) -> Vec<LogEntry> {
        self.0.read(|board| board.log.since(since).take(most).cloned().collect())
    }

    /// What happened since the device was made.
    pub fn counters(&self) -> Counters {
        self.0.read(|board| board.counters)
    }

    /// How often each rule of the policy in force decided. Nothing before the device's first turn.
    pub fn rule_hits(&self) -> Vec<u64> {
        self.0.read(|board| board.hits.clone()).counts()
    }
}

/// Between the device's thread and everybody else.
#[derive(Debug)]
pub(super) struct Shared {
    /// How many policies were handed over.
    generation: AtomicU64,
    wake: EventFd,
    /// Locked for a move, within the board if both are.
    next: Mutex<Option<Policy>>,
    board: Mutex<Board>,
    /// The device's thread found the board in use.
    missed: AtomicBool,
}

#[derive(Debug)]
struct Board {
    policy: Policy,
    log: DecisionLog,
    counters: Counters,
    hits: RuleHits,
}

impl Shared {
    pub fn new(policy: Policy) -> io::Result<Self> {
        let board = Board {
            policy,
            log: DecisionLog::new(DEFAULT_LOG_CAPACITY),
            counters: Counters::default(),
            hits: RuleHits::default(),
        };
        Ok(Shared {
            generation: AtomicU64::new(0),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            next: Mutex::new(None),
            board: Mutex::new(board),
            missed: AtomicBool::new(false),
        })
    }

    /// Becomes readable with every new policy, and when there is to be another turn to publish in.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    fn wake(&self) {
        // Fails only if the thread has been told more often than it can count, so it will look.
        let _ = self.wake.write(1);
    }

    /// Changes when there is a new policy.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The new policy and the generation it belongs to.
    pub fn take(&self) -> (u64, Option<Policy>) {
        let mut next = self.next();
        (self.generation(), next.take())
    }

    /// Leaves what is new to readers. False if one is reading just then; when it is done it [wakes](Self::wake_fd)
    /// the thread.
    pub fn publish(&self, log: &DecisionLog, counters: Counters, hits: &RuleHits) -> bool {
        let board = self.free_board().or_else(|| {
            self.missed.store(true, Ordering::Relaxed);
            // Either the reader sees that it was in the way, or it is seen here that it no longer is.
            fence(Ordering::SeqCst);
            self.free_board()
        });
        let Some(mut board) = board else { return false };
        board.log.follow(log);
        board.counters = counters;
        if !board.hits.is_same(hits) {
            board.hits = hits.clone();
        }
        true
    }

    fn free_board(&self) -> Option<MutexGuard<'_, Board>> {
        match self.board.try_lock() {
            Ok(board) => Some(board),
            Err(TryLockError::Poisoned(board)) => Some(board.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// For a reader. Not on the device's thread.
    fn read<T>(&self, look: impl FnOnce(&mut Board) -> T) -> T {
        let seen = look(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner));
        // See `publish`.
        fence(Ordering::SeqCst);
        if self.missed.load(Ordering::Relaxed) && self.missed.swap(false, Ordering::Relaxed) {
            self.wake();
        }
        seen
    }

    fn next(&self) -> MutexGuard<'_, Option<Policy>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use purlin_egress::{Egress, Flow};

    use super::*;

    fn shared() -> (Arc<Shared>, Egress) {
        let policy =
            Policy::from_json(br#"{"rules":[{"verdict":"allow","base":"0.0.0.0","prefix_len":0}]}"#).unwrap();
        (Arc::new(Shared::new(policy.clone()).unwrap()), Egress::new(policy, Duration::ZERO))
    }

    #[test]
    fn a_reader_is_not_waited_for_and_asks_for_what_it_missed() {
        let (shared, mut egress) = shared();
        let handle = EgressHandle::new(shared.clone());
        egress.decide(Duration::ZERO, &Flow::tcp(([1, 2, 3, 4], 5)));
        let publish = || shared.publish(egress.log(), egress.counters(), egress.rule_hits());
        assert!(!shared.read(|_| publish()));
        assert_eq!(shared.wake.read().unwrap(), 1, "there is to be another turn");
        assert_eq!(handle.log(0, 10), []);
        assert!(publish());
        assert_eq!((handle.log(0, 10).len(), handle.counters().allowed), (1, 1));
        assert!(shared.wake.read().is_err(), "nothing was missed");
    }

    #[test]
    fn hits_are_seen_without_being_published() {
        let (shared, mut egress) = shared();
        let handle = EgressHandle::new(shared.clone());
        assert_eq!(handle.rule_hits(), [0; 0]);
        assert!(shared.publish(egress.log(), egress.counters(), egress.rule_hits()));
        for n in 1..=3 {
            egress.decide(Duration::ZERO, &Flow::tcp(([1, 2, 3, 4], 5)));
            assert_eq!(handle.rule_hits(), [n]);
        }
    }

    #[test]
    fn no_more_of_the_log_than_was_asked_for() {
        let (shared, mut egress) = shared();
        let handle = EgressHandle::new(shared.clone());
        for port in 1..=5 {
            egress.decide(Duration::ZERO, &Flow::tcp(([1, 2, 3, 4], port)));
        }
        assert!(shared.publish(egress.log(), egress.counters(), egress.rule_hits()));
        let numbers =
            |since, most| handle.log(since, most).iter().map(|entry| entry.sequence).collect::<Vec<_>>();
        assert_eq!(numbers(0, 2), [0, 1]);
        assert_eq!(numbers(2, 2), [2, 3]);
        assert_eq!(numbers(4, 2), [4]);
        assert_eq!(numbers(0, 0), [0; 0]);
    }
}
