//! When to wait for the next request awake. Pure; time is passed in.
//!
//! A guest that makes one request after another answers within some microseconds. A device that looks for that
//! long, with notifications off, saves it the exit of every notification and itself the way through its event
//! loop. One that finds nothing sleeps, and looks again only after it was woken so soon that looking would
//! have been better: a guest that makes requests now and then costs nothing.

use std::time::{Duration, Instant};

/// How long to look.
pub(super) const LOOK: Duration = Duration::from_micros(100);

/// What the last requests say about the next.
#[derive(Debug, Default)]
pub(super) struct Poll {
    worth_it: bool,
    /// When the last answer was given, if the device slept then.
    slept: Option<Instant>,
}

impl Poll {
    /// A notification came.
    pub fn woken(&mut self, now: Instant) {
        if let Some(slept) = self.slept.take() {
            self.worth_it = now.saturating_duration_since(slept) < LOOK;
        }
    }

    /// Everything is answered. True if it is worth to look for more.
    pub fn idle(&mut self, now: Instant) -> bool {
        self.slept = Some(now);
        self.worth_it
    }

    /// Looking since `start`, with nothing found until `now`. True to go on.
    pub fn go_on(&mut self, start: Instant, now: Instant) -> bool {
        self.worth_it = now.saturating_duration_since(start) < LOOK;
        self.worth_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_in_a_hurry_is_waited_for_awake() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut poll = Poll::default();
        assert!(!poll.idle(at(0)), "nothing is known yet");
        poll.woken(at(5000));
        assert!(!poll.idle(at(5010)), "it came late");
        poll.woken(at(5050));
        assert!(poll.idle(at(5060)), "it came soon");
        assert!(poll.go_on(at(5060), at(5100)));
        // Found: no sleep, no notification.
        assert!(poll.idle(at(5110)));
        assert!(!poll.go_on(at(5110), at(5110) + LOOK));
        assert!(!poll.idle(at(5300)), "the last look was for nothing");
    }
}
