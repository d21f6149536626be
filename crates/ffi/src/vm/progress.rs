//! What is known of a machine from outside.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{VmExit, VmStats};

/// Where a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Created,
    Running,
    Paused,
    Ended(VmExit),
}

/// Where it is now, and waiting for its end.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    phase: Mutex<Phase>,
    stats: Mutex<Option<VmStats>>,
    ended: Condvar,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn phase(&self) -> Phase {
        self.lock().clone()
    }

    pub fn is_created(&self) -> bool {
        *self.lock() == Phase::Created
    }

    /// The end is final.
    pub fn set(&self, phase: Phase) {
        let mut now = self.lock();
        if !matches!(*now, Phase::Ended(_)) {
            *now = phase;
        }
        drop(now);
        self.ended.notify_all();
    }

    /// The machine's last counters; to be set before the end.
    pub fn set_stats(&self, stats: VmStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    }

    pub fn stats(&self) -> Option<VmStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn exit(&self) -> Option<VmExit> {
        match &*self.lock() {
            Phase::Ended(exit) => Some(exit.clone()),
            _ => None,
        }
    }

    /// Waits for the end, for at most `limit` if there is one.
    pub fn wait(&self, limit: Option<Duration>) -> Option<VmExit> {
        let guard = self.lock();
        let runs = |phase: &mut Phase| !matches!(phase, Phase::Ended(_));
        let guard = match limit {
            None => self.ended.wait_while(guard, runs).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.ended.wait_timeout_while(guard, limit, runs);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        drop(guard);
        self.exit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept() {
        assert_eq!(Progress::default().wait(Some(Duration::from_millis(1))), None);
    }

    #[test]
    fn the_end_is_final() {
        let progress = Progress::default();
        let exit = VmExit::failed("first");
        for phase in
            [Phase::Running, Phase::Ended(exit.clone()), Phase::Paused, Phase::Ended(VmExit::failed("x"))]
        {
            progress.set(phase);
        }
        assert_eq!(progress.exit(), Some(exit));
    }
}
