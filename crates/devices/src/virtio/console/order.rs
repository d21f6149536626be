//! The order in which several consoles come up.
//!
//! Linux numbers its terminals (`/dev/hvc0`, `hvc1`...) as it registers them, in a work item per device. Of two consoles
//! whose answers are under way at the same time either may be the first, and with it the one that `console=hvc0` names. So
//! a console that follows another one announces no port before the driver has registered that one's terminals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::handle::Shared;

/// How far the driver is with a device's terminals, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Registration {
    under_way: AtomicBool,
    followers: Mutex<Vec<Weak<Shared>>>,
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
            self.followers().iter().filter_map(Weak::upgrade).for_each(|follower| follower.wake());
        }
    }

    pub fn add_follower(&self, follower: &Arc<Shared>) {
        self.followers().push(Arc::downgrade(follower));
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Shared>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
