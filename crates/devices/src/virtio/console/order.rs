//! The order in which several consoles come up.
//!
//! Linux numbers its terminals (`/dev/hvc0`, `hvc1`...) as it registers them, in a work item per device. Of two consoles
//! whose answers are under way at the same time either may be the first, and with it the one that `console=hvc0` names. So
//! a console that follows another one announces no port before the driver has registered that one's terminals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vmm_sys_util::eventfd::EventFd;

/// How far the driver is with a device's terminals, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Registration {
    under_way: AtomicBool,
    followers: Mutex<Vec<Weak<EventFd>>>,
}

impl Registration {
    /// True between the driver's first message and the last registered terminal.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    /// Wakes those who wait when it is over.
    pub fn set(&self, under_way: bool) {
        let before = self.under_way.swap(under_way, Ordering::AcqRel);
        if before && !under_way {
            for follower in self.followers().iter().filter_map(Weak::upgrade) {
                // Fails only when the counter is full, which is a pending wake-up.
                let _ = follower.write(1);
            }
        }
    }

    /// Adds one who waits, by what wakes it.
    pub fn add_follower(&self, wake: &Arc<EventFd>) {
        self.followers().push(Arc::downgrade(wake));
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Weak<EventFd>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
