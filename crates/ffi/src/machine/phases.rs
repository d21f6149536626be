//! How long the parts of a boot take.

use std::time::Instant;

use crate::vm::BootPhase;

/// A stopwatch: each part ends where the next one starts.
#[derive(Debug)]
pub(crate) struct Phases {
    since: Instant,
    done: Vec<BootPhase>,
}

impl Phases {
    /// The first part starts now.
    pub fn start() -> Self {
        Phases { since: Instant::now(), done: Vec::new() }
    }

    /// The part called `name` ends now.
    pub fn end_of(&mut self, name: &'static str) {
        let now = Instant::now();
        self.done.push(BootPhase::new(name, now.saturating_duration_since(self.since)));
        self.since = now;
    }

    /// Starts the next part now; what passed since the last one belongs to none.
    pub fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// The parts that have ended.
    pub fn done(&self) -> &[BootPhase] {
        &self.done
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn parts_follow_one_another() {
        let start = Instant::now();
        let mut phases = Phases::start();
        phases.end_of("first");
        phases.restart();
        phases.end_of("second");
        let names: Vec<_> = phases.done().iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["first", "second"]);
        let sum: Duration = phases.done().iter().map(|phase| phase.took).sum();
        assert!(sum <= start.elapsed());
    }
}
