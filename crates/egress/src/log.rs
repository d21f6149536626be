//! What was decided, for whoever wants to know.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::flow::{Decision, Flow};
use crate::rule::Verdict;

/// Decisions a log keeps unless told otherwise.
pub const DEFAULT_LOG_CAPACITY: usize = 1024;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number, from 0, without gaps.
    pub sequence: u64,
    /// When, on the caller's clock.
    pub at: Duration,
    /// Which policy decided: 0 for the first, one more for each replacement. A rule's index belongs to it.
    pub policy: u64,
    /// The flow.
    pub flow: Flow,
    /// What was decided, and why.
    pub decision: Decision,
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, at, policy, flow, decision } = self;
        write!(f, "#{sequence} {:.3}s policy {policy}: {flow}: {decision}", at.as_secs_f64())
    }
}

impl LogEntry {
    /// The entry as one line of JSON, with the fields `sequence`, `at_ms`, `policy`, `protocol`, `destination`,
    /// `verdict`, `reason`; and where there is one: `rule` (its index), `target` (of a redirect), `host`.
    pub fn to_json(&self) -> String {
        let Self { sequence, at, policy, flow, decision } = self;
        let mut fields = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| drop(fields.insert(name.to_owned(), value));
        put("sequence", (*sequence).into());
        put("at_ms", u64::try_from(at.as_millis()).unwrap_or(u64::MAX).into());
        put("policy", (*policy).into());
        put("protocol", flow.protocol.to_string().into());
        put("destination", flow.destination.to_string().into());
        match decision.verdict {
            Verdict::Allow => put("verdict", "allow".into()),
            Verdict::Deny => put("verdict", "deny".into()),
            Verdict::Redirect(target) => {
                put("verdict", "redirect".into());
                put("target", target.to_string().into());
            }
        }
        put("reason", decision.reason.to_string().into());
        if let Some(rule) = decision.reason.rule() {
            put("rule", rule.into());
        }
        if let Some(host) = &decision.host {
            put("host", host.to_string().into());
        }
        serde_json::Value::Object(fields).to_string()
    }
}

/// A ring of the last decisions: what the guest does costs a fixed amount of memory and no IO.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    entries: VecDeque<LogEntry>,
    capacity: usize,
    next: u64,
}

impl DecisionLog {
    /// An empty log of this many entries.
    pub fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity, next: 0 }
    }

    /// The entries with this number and later ones, oldest first. Where the first one has a higher number
    /// than asked for, those between were overwritten.
    pub fn since(&self, sequence: u64) -> impl ExactSizeIterator<Item = &LogEntry> {
        let oldest = self.next.saturating_sub(self.entries.len() as u64);
        let skipped = usize::try_from(sequence.saturating_sub(oldest)).unwrap_or(usize::MAX);
        self.entries.range(skipped.min(self.entries.len())..)
    }

    /// The number the next decision will have, which is how many there were.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Takes over what another log has beyond this one: for a copy that others read while the original's
    /// owner goes on.
    pub fn follow(&mut self, original: &DecisionLog) {
        for entry in original.since(self.next) {
            self.next = entry.sequence;
            self.put(entry.clone());
        }
        self.next = original.next;
    }

    pub(crate) fn push(&mut self, at: Duration, policy: u64, flow: Flow, decision: Decision) {
        self.put(LogEntry { sequence: self.next, at, policy, flow, decision });
    }

    fn put(&mut self, entry: LogEntry) {
        self.next = self.next.wrapping_add(1);
        if self.capacity == 0 {
            return;
        }
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Reason;

    #[test]
    fn the_ring_keeps_the_last_and_tells_what_is_gone() {
        let mut log = DecisionLog::new(3);
        let flow = Flow::tcp(([1, 2, 3, 4], 5));
        for n in 0..5 {
            log.push(Duration::from_secs(n), 0, flow, Decision::new(Verdict::Deny, Reason::NoRule));
        }
        let numbers = |from| log.since(from).map(|e| e.sequence).collect::<Vec<_>>();
        assert_eq!(numbers(0), [2, 3, 4]);
        assert_eq!(numbers(4), [4]);
        assert_eq!(numbers(5), [0; 0]);
        assert_eq!(numbers(u64::MAX), [0; 0]);
        assert_eq!(log.next_sequence(), 5);
        assert_eq!(
            log.since(4).map(ToString::to_string).collect::<Vec<_>>(),
            ["#4 4.000s policy 0: tcp 1.2.3.4:5: deny (no rule)"]
        );
        let mut copy = DecisionLog::new(2);
        copy.follow(&log);
        assert_eq!(copy.since(0).map(|e| e.sequence).collect::<Vec<_>>(), [3, 4]);
        log.push(Duration::from_secs(9), 1, flow, Decision::new(Verdict::Allow, Reason::Rule(7)));
        copy.follow(&log);
        assert_eq!((copy.next_sequence(), copy.since(5).len()), (6, 1));
        assert_eq!(
            copy.since(5).map(LogEntry::to_json).collect::<Vec<_>>(),
            [concat!(
                r#"{"at_ms":9000,"destination":"1.2.3.4:5","policy":1,"protocol":"tcp","#,
                r#""reason":"rule 7","rule":7,"sequence":5,"verdict":"allow"}"#
            )]
        );
        let mut none = DecisionLog::new(0);
        none.push(Duration::ZERO, 0, flow, Decision::new(Verdict::Deny, Reason::NoRule));
        assert_eq!((none.since(0).len(), none.next_sequence()), (0, 1));
    }
}
