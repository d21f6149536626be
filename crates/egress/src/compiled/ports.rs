//! Maps from port to the first rule that covers it, as runs of equal answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{NO_RULE, PortRule, RuleId};

/// From this port up to the next run's, `id` is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub start: u16,
    pub id: RuleId,
}

/// The runs of a list of rules. The first starts at port 0; neighbours differ.
pub(super) fn runs(rules: &[PortRule]) -> Vec<Run> {
    let mut starting: Vec<&PortRule> = rules.iter().collect();
    starting.sort_unstable_by_key(|rule| rule.first);
    // Where the answer can change: at port 0, where a rule starts, and behind where one ends.
    let mut edges: Vec<u16> = std::iter::once(0)
        .chain(rules.iter().map(|rule| rule.first))
        .chain(rules.iter().filter_map(|rule| rule.last.checked_add(1)))
        .collect();
    edges.sort_unstable();
    edges.dedup();

    let mut runs = Vec::new();
    let mut waiting = starting.into_iter().peekable();
    let mut covering = BinaryHeap::new();
    for start in edges {
        while let Some(rule) = waiting.next_if(|rule| rule.first <= start) {
            covering.push(Reverse((rule.id, rule.last)));
        }
        while covering.peek().is_some_and(|Reverse((_, last))| *last < start) {
            covering.pop();
        }
        let id = covering.peek().map_or(NO_RULE, |Reverse((id, _))| *id);
        push(&mut runs, start, id);
    }
    runs
}

/// The runs that answer the lower of two answers for every port.
pub(super) fn merge(a: &[Run], b: &[Run]) -> Vec<Run> {
    let mut merged = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let (mut from_a, mut from_b) = (NO_RULE, NO_RULE);
    while let Some(start) = match (a.peek(), b.peek()) {
        (Some(x), Some(y)) => Some(x.start.min(y.start)),
        (Some(x), None) => Some(x.start),
        (None, Some(y)) => Some(y.start),
        (None, None) => None,
    } {
        if let Some(run) = a.next_if(|run| run.start == start) {
            from_a = run.id;
        }
        if let Some(run) = b.next_if(|run| run.start == start) {
            from_b = run.id;
        }
        push(&mut merged, start, from_a.min(from_b));
    }
    merged
}

/// Appends a run, unless it answers as the one before it.
fn push(runs: &mut Vec<Run>, start: u16, id: RuleId) {
    if runs.last().is_none_or(|last| last.id != id) {
        runs.push(Run { start, id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(id: std::ops::Range<u32>) -> impl Strategy<Value = Vec<PortRule>> {
        let port = prop_oneof![0_u16..8, 65530_u16..=65535];
        let rule =
            (port.clone(), port, id).prop_map(|(a, b, id)| PortRule { first: a.min(b), last: a.max(b), id });
        proptest::collection::vec(rule, 0..12)
    }

    fn answer(runs: &[Run], port: u16) -> RuleId {
        runs.iter().rev().find(|run| run.start <= port).map_or(NO_RULE, |run| run.id)
    }

    fn scan(rules: &[PortRule], port: u16) -> RuleId {
        let covering = rules.iter().filter(|r| r.first <= port && port <= r.last);
        covering.map(|r| r.id).min().unwrap_or(NO_RULE)
    }

    proptest! {
        #[test]
        fn runs_answer_as_a_scan(a in rules(0..20), b in rules(5..25)) {
            let (ra, rb) = (runs(&a), runs(&b));
            let both = merge(&ra, &rb);
            for runs in [&ra, &rb, &both] {
                prop_assert_eq!(runs.first().map(|r| r.start), Some(0));
                prop_assert!(runs.windows(2).all(|w| w[0].start < w[1].start && w[0].id != w[1].id));
            }
            for port in (0..10).chain(65525..=65535) {
                prop_assert_eq!(answer(&ra, port), scan(&a, port));
                prop_assert_eq!(answer(&both, port), scan(&a, port).min(scan(&b, port)));
            }
        }
    }
}
