//! Deadlines, as a table. Pure: time comes from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::slots::Id;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Try the connect of this record again.
    Connect(Id),
    /// The guest has not answered the request of this record.
    Handshake(Id),
    /// Send the request of this record again.
    Request(Id),
    /// The bytes of this socket do not get away.
    Flush(Id),
    /// The listener of this record may accept again.
    Accept(Id),
    /// Look for idle destinations of this record.
    Idle(Id),
}

/// Names a pending deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    at: Instant,
    number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    pending: BTreeMap<TimerKey, Timer>,
    next: u64,
}

impl Timers {
    pub fn add(&mut self, now: Instant, wait: Duration, timer: Timer) -> TimerKey {
        let at = now.checked_add(wait).unwrap_or(now);
        let key = TimerKey { at, number: self.next };
        self.next = self.next.wrapping_add(1);
        self.pending.insert(key, timer);
        key
    }

    pub fn cancel(&mut self, key: Option<TimerKey>) {
        if let Some(key) = key {
            self.pending.remove(&key);
        }
    }

    pub fn next_at(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(key, _)| key.at)
    }

    /// Takes one deadline that has passed.
    pub fn expired(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.pending.first_entry()?;
        (entry.key().at <= now).then(|| entry.remove())
    }

    pub fn clear(&mut self) {
        self.pending.clear();
    }
}
