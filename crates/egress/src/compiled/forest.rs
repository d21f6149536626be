//! Nodes that inherit rules from their parents.

use super::ports::{self, Run};
use super::{NO_RULE, PortRule, RuleId};
use crate::rule::Protocol;

/// Runs a node may always hold, so that small policies need a single search.
const ALWAYS_MERGED: usize = 8;
/// How many times its own runs a node may hold. It bounds memory: at most this many runs per edge of a
/// rule's port range. A node over it links to its parent's map instead, which costs a lookup one search
/// more; since two levels of similar size always merge, that is at most one search per two levels of
/// nesting, and only where many port ranges were written at every other level.
const MERGED_GROWTH: usize = 16;

/// A map from port to rule: where it starts in its [`Maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapId(u32);

/// A node: a place where rules were written, or the space around them. It has a map per protocol, in the
/// order of [`Protocol::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId([MapId; 2]);

impl NodeId {
    /// The node around all others, which has no rules.
    pub(super) const ROOT: Self = Self([Maps::EMPTY; 2]);

    /// Indexed rather than matched: which protocol comes next cannot be predicted.
    pub(super) fn map(self, protocol: Protocol) -> MapId {
        self.0.get(protocol as usize).copied().unwrap_or(Maps::EMPTY)
    }
}

/// Maps, each in one piece so that a small one is one or two cache lines: a header, a link if there is one,
/// and the runs.
#[derive(Debug)]
pub(super) struct Maps {
    words: Vec<u64>,
}

/// A map taken apart.
struct Map<'a> {
    runs: &'a [u64],
    link: Option<Link>,
}

/// Where a map goes on.
#[derive(Clone, Copy)]
struct Link {
    to: MapId,
    /// The lowest rule number found from there on.
    lowest: RuleId,
}

/// In a header: there is a link behind it.
const LINKED: u64 = 1 << 63;

/// Two halves of a word: a run's port and rule, or a link's map and lowest rule.
fn word(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

fn run(word: u64) -> Run {
    let (start, id) = halves(word);
    Run { start: u16::try_from(start).unwrap_or(u16::MAX), id }
}

impl Maps {
    /// The map without rules.
    const EMPTY: MapId = MapId(0);

    /// The map without rules alone.
    pub(super) fn new() -> Self {
        Self { words: vec![1, word(0, NO_RULE)] }
    }

    /// A node inside `parent`, with the rules written at the node itself.
    pub(super) fn node(&mut self, parent: NodeId, [tcp, udp]: &[Vec<PortRule>; 2]) -> NodeId {
        let NodeId([around_tcp, around_udp]) = parent;
        let inside_tcp = self.inside(around_tcp, tcp);
        // The usual rule is for both protocols: one map serves both.
        let same = around_tcp == around_udp && tcp == udp;
        let inside_udp = if same { inside_tcp } else { self.inside(around_udp, udp) };
        NodeId([inside_tcp, inside_udp])
    }

    /// The first rule for `port` in a map and those it links to.
    pub(super) fn first_rule(&self, map: MapId, port: u16) -> RuleId {
        let last_of_port = word(port.into(), u32::MAX);
        let mut lowest = NO_RULE;
        let mut at = Some(map);
        while let Some(id) = at {
            let map = self.map(id);
            let after = map.runs.partition_point(|run| *run <= last_of_port);
            let found = after.checked_sub(1).and_then(|place| map.runs.get(place));
            lowest = lowest.min(found.map_or(NO_RULE, |run| halves(*run).1));
            at = map.link.filter(|link| link.lowest < lowest).map(|link| link.to);
        }
        lowest
    }

    fn inside(&mut self, parent: MapId, rules: &[PortRule]) -> MapId {
        if rules.is_empty() {
            return parent;
        }
        let own = ports::runs(rules);
        let Map { runs, link } = self.map(parent);
        let around: Vec<Run> = runs.iter().copied().map(run).collect();
        let merged = ports::merge(&own, &around);
        if merged == around {
            return parent;
        }
        if merged.len() <= ALWAYS_MERGED.max(own.len().saturating_mul(MERGED_GROWTH)) {
            return self.store(&merged, link);
        }
        let lowest = around.iter().map(|run| run.id).chain(link.map(|link| link.lowest)).min();
        self.store(&own, Some(Link { to: parent, lowest: lowest.unwrap_or(NO_RULE) }))
    }

    fn store(&mut self, runs: &[Run], link: Option<Link>) -> MapId {
        let id = MapId(u32::try_from(self.words.len()).unwrap_or(u32::MAX));
        let flag = if link.is_some() { LINKED } else { 0 };
        self.words.push(flag | runs.len() as u64);
        self.words.extend(link.map(|link| word(link.to.0, link.lowest)));
        self.words.extend(runs.iter().map(|run| word(run.start.into(), run.id)));
        id
    }

    fn map(&self, id: MapId) -> Map<'_> {
        let words = self.words.get(id.0 as usize..).unwrap_or_default();
        let Some((header, rest)) = words.split_first() else { return Map { runs: &[], link: None } };
        let len = (header & !LINKED) as usize;
        let (link, runs) = match rest.split_first() {
            Some((link, runs)) if header & LINKED != 0 => {
                let (to, lowest) = halves(*link);
                (Some(Link { to: MapId(to), lowest }), runs)
            }
            _ => (None, rest),
        };
        Map { runs: runs.get(..len).unwrap_or_default(), link }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(port: u16, id: RuleId) -> PortRule {
        PortRule { first: port, last: port, id }
    }

    /// A chain of nodes, each with many ports of its own, answers as its lists of rules do, and the
    /// number of searches stays small.
    #[test]
    fn long_chains_of_large_maps() {
        let rules: Vec<Vec<PortRule>> = (0..33_u32)
            .map(|depth| {
                let ports = 0..200_u16;
                ports.map(|i| single(i * 7 + depth as u16, 10_000 - depth * 200 + u32::from(i))).collect()
            })
            .collect();
        let mut maps = Maps::new();
        let mut nodes = vec![];
        for own in &rules {
            let parent = nodes.last().copied().unwrap_or(NodeId::ROOT);
            nodes.push(maps.node(parent, &[own.clone(), vec![]]));
        }
        for (depth, node) in nodes.iter().enumerate() {
            for port in 0..1700 {
                let all = rules[..=depth].iter().flatten();
                let expected = all.filter(|r| r.first == port).map(|r| r.id).min().unwrap_or(NO_RULE);
                assert_eq!(maps.first_rule(node.0[0], port), expected, "{depth} {port}");
            }
            let links = std::iter::successors(maps.map(node.0[0]).link, |link| maps.map(link.to).link);
            assert!(links.count() < 17, "depth {depth}");
            assert_eq!(node.0[1], Maps::EMPTY);
        }
        let edges = 33 * 400;
        assert!(maps.words.len() <= edges * MERGED_GROWTH, "{} words", maps.words.len());
    }

    #[test]
    fn protocols_are_apart() {
        let mut maps = Maps::new();
        let node = maps.node(NodeId::ROOT, &[vec![single(1, 0)], vec![single(2, 1)]]);
        let answers = [(Protocol::Tcp, 1), (Protocol::Tcp, 2), (Protocol::Udp, 1), (Protocol::Udp, 2)]
            .map(|(protocol, port)| maps.first_rule(node.map(protocol), port));
        assert_eq!(answers, [0, NO_RULE, NO_RULE, 1]);
        assert_eq!(maps.first_rule(NodeId::ROOT.0[0], 1), NO_RULE);
        let hidden = maps.node(node, &[vec![single(1, 7)], vec![]]);
        assert_eq!(hidden, node, "a rule behind one that hides it takes no room");
    }
}
