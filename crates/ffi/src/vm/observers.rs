//! Whom a machine tells of its boot and of its end.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::VmExit;
use crate::panics::words;

type OnBoot = Box<dyn FnOnce() + Send>;
type OnExit = Box<dyn FnOnce(&VmExit) + Send>;

/// Observers, each of which is called at most once: those of the boot before those of the end, and each kind in the
/// order they were added.
#[derive(Default)]
pub(crate) struct Observers(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    boot: Vec<OnBoot>,
    exit: Vec<OnExit>,
}

impl Observers {
    pub fn on_boot(&mut self, observer: OnBoot) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).boot.push(observer);
    }

    pub fn on_exit(&mut self, observer: OnExit) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).exit.push(observer);
    }

    /// The guest has booted. Nothing after the first time, or after the end.
    pub fn booted(&self) {
        let list = std::mem::take(&mut self.lists().boot);
        list.into_iter().for_each(call);
    }

    /// The machine has ended. Nothing after the first time.
    pub fn ended(&self, exit: &VmExit) {
        let Lists { exit: list, boot } = std::mem::take(&mut *self.lists());
        drop(boot);
        list.into_iter().for_each(|observer| call(|| observer(exit)));
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that panics has had its call; the others get theirs.
fn call(observer: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(observer)) {
        words(&*panic);
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = self.lists();
        write!(f, "{} of the boot, {} of the end", lists.boot.len(), lists.exit.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ExitReason;

    fn exit() -> VmExit {
        VmExit { code: 7, reason: ExitReason::Exited }
    }

    /// Two of each kind, of which the first panics, and what they write.
    fn observers() -> (Observers, Arc<Mutex<Vec<String>>>) {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let mut observers = Observers::default();
        for name in ["first", "second"] {
            let (boot, end) = (said.clone(), said.clone());
            observers.on_boot(Box::new(move || {
                boot.lock().unwrap().push(format!("{name}: boot"));
                assert_ne!(name, "first", "an observer of a test panics");
            }));
            observers.on_exit(Box::new(move |exit| {
                end.lock().unwrap().push(format!("{name}: {}", exit.code));
                assert_ne!(name, "first", "an observer of a test panics");
            }));
        }
        (observers, said)
    }

    #[test]
    fn each_is_called_once_and_in_order() {
        let (observers, said) = observers();
        observers.booted();
        observers.booted();
        observers.ended(&exit());
        observers.ended(&exit());
        observers.booted();
        assert_eq!(*said.lock().unwrap(), ["first: boot", "second: boot", "first: 7", "second: 7"]);
    }

    #[test]
    fn no_boot_after_the_end() {
        let (observers, said) = observers();
        observers.ended(&exit());
        observers.booted();
        assert_eq!(*said.lock().unwrap(), ["first: 7", "second: 7"]);
    }
}
