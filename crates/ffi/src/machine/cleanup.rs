//! Taking things apart, step by step, whatever becomes of a step.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::panics::words;

/// Runs the steps of a clean-up. A step that fails or panics is logged and remembered; the next one runs all the same.
#[derive(Debug, Default)]
pub(crate) struct Cleanup {
    failures: Vec<Failure>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub step: &'static str,
    pub why: String,
}

impl Cleanup {
    /// Runs a step that can fail.
    pub fn attempt<E: Display>(&mut self, step: &'static str, action: impl FnOnce() -> Result<(), E>) {
        let why = match catch_unwind(AssertUnwindSafe(action)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => words(&*panic),
        };
        log::error!("cleaning up, {step}: {why}");
        self.failures.push(Failure { step, why });
    }

    /// Runs a step that can panic only.
    pub fn step(&mut self, step: &'static str, action: impl FnOnce()) {
        self.attempt(step, || {
            action();
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Gives a part of the machine up.
    pub fn part<T>(&mut self, step: &'static str, part: T) {
        self.step(step, || drop(part));
    }

    /// Steps that failed, in order.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Says when it is dropped, and panics then if it is told to.
    struct Part<'a>(&'a RefCell<Vec<u32>>, u32, bool);

    impl Drop for Part<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
            assert!(!self.2, "part {} of a test panics", self.1);
        }
    }

    /// Whichever steps fail, and however: all are run, in order, and those that failed are named.
    #[test]
    fn every_step_runs() {
        const NAMES: [&str; 4] = ["zero", "one", "two", "three"];
        for failing in 0_u32..16 {
            let fails = |index: u32| failing >> index & 1 == 1;
            let done = RefCell::new(Vec::new());
            let mut cleanup = Cleanup::default();
            cleanup.attempt(NAMES[0], || {
                done.borrow_mut().push(0);
                if fails(0) { Err("refused") } else { Ok(()) }
            });
            cleanup.step(NAMES[1], || {
                done.borrow_mut().push(1);
                assert!(!fails(1), "step 1 of a test panics");
            });
            cleanup.part(NAMES[2], Part(&done, 2, fails(2)));
            cleanup.attempt(NAMES[3], || -> Result<(), String> {
                done.borrow_mut().push(3);
                if fails(3) { panic!("step 3 of a test panics") } else { Ok(()) }
            });
            assert_eq!(*done.borrow(), [0, 1, 2, 3], "{failing:04b}");
            let named: Vec<_> = cleanup.failures().iter().map(|failure| failure.step).collect();
            let expected: Vec<_> = (0_u32..).zip(NAMES).filter(|(i, _)| fails(*i)).map(|(_, n)| n).collect();
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn why_a_step_failed() {
        let mut cleanup = Cleanup::default();
        cleanup.attempt("a", || Err("refused"));
        cleanup.step("b", || panic!("on purpose"));
        let why: Vec<_> = cleanup.failures().iter().map(|failure| failure.why.as_str()).collect();
        assert_eq!(why, ["refused", "internal error: on purpose"]);
    }
}
