//! Terminals get back the mode they had, however the process ends that runs a machine.
//!
//! The machine itself restores them when it ends, fails or panics. What is left is the end of the process: a signal whose
//! default action ends it, or `exit` on another thread. For those signals that have their default action a handler is
//! there as long as a terminal is in raw mode; it restores terminals and leaves the rest to that action. Signals the
//! program handles or ignores are left alone, and without a terminal all are.

#[allow(unsafe_code)]
mod sys;

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use super::descriptors::{duplicate, is_terminal};
use super::guard::Failure;
use sys::{Handlers, Saved};

/// How many machines have terminals, and what was there before the first.
static INSTALLED: Mutex<(usize, Option<Handlers>)> = Mutex::new((0, None));

/// Guards some terminals while it lives.
pub(super) struct Rescue {
    saved: Option<(&'static Saved, Vec<OwnedFd>)>,
}

impl Rescue {
    /// Takes the modes of those of the descriptors that are terminals. To be called before they are changed.
    pub fn new(descriptors: impl IntoIterator<Item = RawFd>) -> Result<Self, Failure> {
        let mut terminals = Vec::new();
        for fd in descriptors.into_iter().filter(|fd| is_terminal(*fd)) {
            terminals.extend(duplicate("terminal", fd)?);
        }
        if terminals.is_empty() {
            return Ok(Rescue { saved: None });
        }
        let saved = Saved::take(terminals.iter().map(AsFd::as_fd));
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        installed.0 = installed.0.saturating_add(1);
        installed.1.get_or_insert_with(Handlers::install);
        Ok(Rescue { saved: Some((saved, terminals)) })
    }

    /// Gives a signal back, for a handler that chains to what it finds.
    pub fn release(&self, signal: i32) {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(_), Some(handlers)) = (&self.saved, &mut installed.1) {
            handlers.remove(signal);
        }
    }
}

impl Drop for Rescue {
    fn drop(&mut self) {
        // Its descriptors are closed after that.
        let Some((saved, _)) = &self.saved else { return };
        saved.forget();
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        installed.0 = installed.0.saturating_sub(1);
        if installed.0 == 0 {
            installed.1 = None;
        }
    }
}
