//! The policy of a device, for other threads while it runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use purlin_egress::{Counters, DEFAULT_LOG_CAPACITY, DecisionLog, LogEntry, Policy};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Replaces a device's policy and reads what it decided. Cheap to clone; of any thread.
///
/// The device's thread owns the policy in force, and never waits for a reader: it takes a new policy when it
/// is told of one, and leaves copies of its log and counters here once per turn.
#[derive(Debug, Clone)]
pub struct EgressHandle(Arc<Shared>);

impl EgressHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        EgressHandle(shared)
    }

    /// Puts another policy in place of the current one. Every connect and every destination of datagrams that
    /// the device hears of after this is judged by it, as a whole; what is open and would not be let out to
    /// the same place is closed within the device's next turn: connections are reset, datagrams stop. Works
    /// while the machine is paused, where open flows are closed when it resumes.
    pub fn replace(&self, policy: Policy) {
        let mut board = self.0.board();
        board.next = Some(policy.clone());
        board.policy = policy;
        self.0.generation.fetch_add(1, Ordering::Release);
        drop(board);
        // Fails only if the thread has been told more often than it can count, so it will look.
        let _ = self.0.wake.write(1);
    }

    /// The policy installed last.
    pub fn policy(&self) -> Policy {
        self.0.board().policy.clone()
    }

    /// Decisions with this number and later ones, oldest first. If the first has a higher number, those
    /// between were overwritten: the log holds the last [`DEFAULT_LOG_CAPACITY`].
    pub fn log(&self, since: u64) -> Vec<LogEntry> {
        self.0.board().log.since(since).cloned().collect()
    }

    /// What happened since the device was made.
    pub fn counters(&self) -> Counters {
        self.0.board().counters
    }

    /// How often each rule of the policy in force decided.
    pub fn rule_hits(&self) -> Vec<u64> {
        self.0.board().hits.clone()
    }
}

/// Between the device's thread and everybody else.
#[derive(Debug)]
pub(super) struct Shared {
    /// How many policies were handed over.
    generation: AtomicU64,
    wake: EventFd,
    board: Mutex<Board>,
}

#[derive(Debug)]
struct Board {
    next: Option<Policy>,
    policy: Policy,
    log: DecisionLog,
    counters: Counters,
    hits: Vec<u64>,
}

impl Shared {
    pub fn new(policy: Policy) -> io::Result<Self> {
        let board = Board {
            next: None,
            policy,
            log: DecisionLog::new(DEFAULT_LOG_CAPACITY),
            counters: Counters::default(),
            hits: Vec::new(),
        };
        Ok(Shared {
            generation: AtomicU64::new(0),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            board: Mutex::new(board),
        })
    }

    /// Becomes readable with every new policy.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Changes when there is a new policy.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The new policy and the generation it belongs to.
    pub fn take(&self) -> (u64, Option<Policy>) {
        let mut board = self.board();
        (self.generation(), board.next.take())
    }

    /// Leaves copies of what is news to readers.
    pub fn publish(&self, log: &DecisionLog, counters: Counters, hits: &[u64]) {
        let mut board = self.board();
        board.log.follow(log);
        board.counters = counters;
        board.hits.clear();
        board.hits.extend_from_slice(hits);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
