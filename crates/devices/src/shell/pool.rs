//! A few threads for calls that may wait for the host, so that a device's own thread does not.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::failure::{Failure, OnFailure};

/// How long dropping a pool waits for calls that do not return before their threads are left behind.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

/// Something to run once.
pub type Call = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    idle: usize,
    threads: usize,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    failure: Arc<Failure>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(call) = state.calls.pop_front() {
                drop(state);
                // A call that panics ends itself; the thread is there for the next one.
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    self.failure.happens();
                }
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

/// Runs calls on at most so many threads, in the order they come. A thread is started when a call finds none
/// idle, so a pool that is not used costs nothing.
pub struct Pool {
    name: &'static str,
    limit: usize,
    inner: Arc<Inner>,
}

/// A thread that runs. Ends with it, also by a panic.
struct Alive(Arc<Inner>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}

impl Pool {
    /// At most `limit` threads (at least one) of this name, cut to 15 bytes by the kernel.
    pub fn new(name: &'static str, limit: usize) -> Self {
        let (state, changed) = Default::default();
        let inner = Arc::new(Inner { state, changed, failure: Failure::of(name) });
        Pool { name, limit: limit.max(1), inner }
    }

    /// Sets who hears that a call panicked. Only the first call of this counts.
    pub fn on_failure(&self, hook: OnFailure) {
        self.inner.failure.on_failure(hook);
    }

    /// Runs `call` on one of the threads.
    ///
    /// # Errors
    ///
    /// The call itself, if there is no thread and the host refuses one.
    pub fn run(&self, call: Call) -> Result<(), Call> {
        let mut state = self.inner.lock();
        if state.calls.len() >= state.idle && state.threads < self.limit {
            match self.spawn() {
                Ok(()) => state.threads += 1,
                Err(_) if state.threads == 0 => return Err(call),
                // Those that are there will come to it.
                Err(_) => {}
            }
        }
        state.calls.push_back(call);
        drop(state);
        self.inner.changed.notify_one();
        Ok(())
    }

    fn spawn(&self) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            // Counted by who spawned it, under the lock that the thread's first look takes.
            let alive = Alive(inner);
            alive.0.run();
        })?;
        Ok(())
    }
}

/// Finishes what was accepted and ends the threads.
impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.closed = true;
        self.inner.changed.notify_all();
        let some = |state: &mut State| state.threads > 0;
        let waited = self.inner.changed.wait_timeout_while(state, JOIN_LIMIT, some);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            log::error!("threads {:?} wait for the host and are left behind", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn one_that_waits_does_not_stop_others() {
        let pool = Pool::new("test", 2);
        let (release, held) = channel::<()>();
        let (done, results) = channel();
        let first = done.clone();
        let waiting = move || {
            let _ = held.recv();
            first.send(0).unwrap();
        };
        assert!(pool.run(Box::new(waiting)).is_ok());
        for i in 1..=10 {
            let done = done.clone();
            assert!(pool.run(Box::new(move || done.send(i).unwrap())).is_ok());
        }
        let others: Vec<i32> = results.iter().take(10).collect();
        assert_eq!(others, (1..=10).collect::<Vec<_>>());
        assert_eq!(pool.inner.lock().threads, 2);
        release.send(()).unwrap();
        assert_eq!(results.recv(), Ok(0));
    }

    #[test]
    fn a_call_that_panics_is_told_and_the_others_go_on() {
        let pool = Pool::new("test", 1);
        let (told, heard) = channel();
        pool.on_failure(Arc::new(move |name| told.send(name.to_owned()).unwrap()));
        let (go, gone) = channel::<()>();
        let first = move || {
            let _ = gone.recv();
            panic!("a call of a test panics");
        };
        let (done, results) = channel();
        assert!(pool.run(Box::new(first)).is_ok());
        // It is there before the first one panics, and nothing comes after it.
        assert!(pool.run(Box::new(move || done.send(1).unwrap())).is_ok());
        drop(go);
        assert_eq!(results.recv(), Ok(1));
        drop(pool);
        assert_eq!(heard.iter().collect::<Vec<_>>(), ["test"]);
    }

    #[test]
    fn dropping_finishes_what_was_accepted() {
        let (done, results) = channel();
        let pool = Pool::new("test", 1);
        for i in 0..100 {
            let done = done.clone();
            assert!(pool.run(Box::new(move || done.send(i).unwrap())).is_ok());
        }
        drop((pool, done));
        assert_eq!(results.iter().count(), 100);
        drop(Pool::new("unused", 3));
    }
}
