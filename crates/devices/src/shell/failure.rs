//! Who hears that a thread of devices failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Hears that a thread of this name panicked or could not go on: devices that need it do not work any more. Called once,
/// on that thread (or where it is set, if that is later); must not block.
pub type OnFailure = Arc<dyn Fn(&str) + Send + Sync>;

/// Whether a thread, or one of several of the same name, failed.
pub(super) struct Failure {
    name: String,
    happened: AtomicBool,
    told: AtomicBool,
    hook: OnceLock<OnFailure>,
}

impl Failure {
    pub fn of(name: &str) -> Arc<Self> {
        let (happened, told, hook) = Default::default();
        Arc::new(Failure { name: name.to_owned(), happened, told, hook })
    }

    /// Sets who hears of it. Only the first call counts.
    pub fn on_failure(&self, hook: OnFailure) {
        let _ = self.hook.set(hook);
        self.tell();
    }

    pub fn happens(&self) {
        self.happened.store(true, Ordering::SeqCst);
        self.tell();
    }

    fn tell(&self) {
        if self.happened.load(Ordering::SeqCst)
            && let Some(hook) = self.hook.get()
            && !self.told.swap(true, Ordering::SeqCst)
        {
            hook(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn it_is_told_once_whatever_came_first() {
        for hook_first in [true, false] {
            let (told, heard) = channel();
            let hook: OnFailure = Arc::new(move |name| told.send(name.to_owned()).unwrap());
            let failure = Failure::of("test");
            if hook_first {
                failure.on_failure(hook.clone());
                assert!(heard.try_recv().is_err());
                failure.happens();
            } else {
                failure.happens();
                failure.on_failure(hook.clone());
            }
            failure.happens();
            failure.on_failure(hook);
            drop(failure);
            assert_eq!(heard.iter().collect::<Vec<_>>(), ["test"], "{hook_first}");
        }
    }
}
