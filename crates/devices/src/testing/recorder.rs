//! An interrupt that remembers what it was asked to signal.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::virtio::{Interrupt, Signal};

#[derive(Debug, Default)]
struct Record {
    signals: Vec<Signal>,
    needs_reset: bool,
}

/// Stands in for the transport's interrupt.
#[derive(Debug, Default)]
pub struct RecordingInterrupt {
    record: Mutex<Record>,
    changed: Condvar,
}

impl RecordingInterrupt {
    /// Nothing signalled yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All signals since the last call, in order.
    pub fn take(&self) -> Vec<Signal> {
        std::mem::take(&mut self.lock().signals)
    }

    /// True once the device gave up.
    pub fn reset_needed(&self) -> bool {
        self.lock().needs_reset
    }

    /// Waits until there is a signal or the device gave up. False after `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        let mut record = self.lock();
        while record.signals.is_empty() && !record.needs_reset {
            let left = deadline.map_or(limit, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            record = match self.changed.wait_timeout(record, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}

impl Interrupt for RecordingInterrupt {
    fn trigger(&self, signal: Signal) {
        self.lock().signals.push(signal);
        self.changed.notify_all();
    }

    fn needs_reset(&self) {
        self.lock().needs_reset = true;
        self.changed.notify_all();
    }
}
