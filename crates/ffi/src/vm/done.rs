//! Where the exit of a machine appears, once it has one.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{VmExit, VmStats};

/// The exit, and those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Done {
    exit: Mutex<Option<VmExit>>,
    stats: Mutex<Option<VmStats>>,
    ended: Condvar,
}

impl Done {
    pub fn set(&self, exit: VmExit) {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
        self.ended.notify_all();
    }

    /// The machine's last counters; to be set before the exit.
    pub fn set_stats(&self, stats: VmStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    }

    pub fn stats(&self) -> Option<VmStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn get(&self) -> Option<VmExit> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the exit, for at most `limit`.
    pub fn wait(&self, limit: Option<Duration>) -> Option<VmExit> {
        let guard = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |exit: &mut Option<VmExit>| exit.is_none();
        match limit {
            None => self.ended.wait_while(guard, running).unwrap_or_else(PoisonError::into_inner).clone(),
            Some(limit) => match self.ended.wait_timeout_while(guard, limit, running) {
                Ok((guard, _)) => guard.clone(),
                Err(poisoned) => poisoned.into_inner().0.clone(),
            },
        }
    }
}

/// Sets the exit when it is dropped, so that nobody waits for ever for a supervisor that panicked.
pub(super) struct Ending {
    done: Arc<Done>,
    /// What will be set.
    pub exit: VmExit,
}

impl Ending {
    pub fn new(done: Arc<Done>) -> Self {
        Ending { done, exit: VmExit::failed("its supervisor panicked") }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.done.set(self.exit.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExitReason;

    #[test]
    fn a_panic_ends_the_wait() {
        let done = Arc::<Done>::default();
        let ending = Ending::new(done.clone());
        let thread = std::thread::spawn(move || {
            let _ending = ending;
            panic!("a supervisor of a test panics");
        });
        let exit = done.wait(None).unwrap();
        assert_eq!(exit.code, 125);
        assert!(matches!(exit.reason, ExitReason::Failed(_)), "{:?}", exit.reason);
        assert!(thread.join().is_err());
        assert_eq!(done.get(), Some(exit));
    }

    #[test]
    fn a_limit_is_kept() {
        assert_eq!(Done::default().wait(Some(Duration::from_millis(1))), None);
    }
}
