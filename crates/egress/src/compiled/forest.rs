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

/// A map from port to rule: either the one answer for every port, or where the map is in its [`Maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapId(u32);

/// In a [`MapId`]: the rest is a rule number.
const ANSWER: u32 = 1 << 31;
/// In a [`MapId`] that is no answer: the rest is an index of [`Maps::large`], else of [`Maps::small`].
const LARGE: u32 = 1 << 30;

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

    pub(super) fn maps(self) -> [MapId; 2] {
        self.0
    }
}

/// Maps that are more than one answer.
#[derive(Debug)]
pub(super) struct Maps {
    small: Vec<Small>,
    /// Each in one piece: a header, a link if there is one, and the runs.
    large: Vec<u64>,
}

/// Runs of a small map.
const FEW: usize = 5;

/// A map of few runs.
#[derive(Debug)]
#[repr(align(32))]
struct Small {
    /// Where the runs behind the first start. Filled up with the last port, which adds nothing:
    starts: [u16; FEW - 1],
    /// filled up with the last answer.
    ids: [RuleId; FEW],
}

/// A large map taken apart.
struct Large<'a> {
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

impl Small {
    /// `None` if there are too many runs.
    fn new(runs: &[Run]) -> Option<Self> {
        let (first, behind) = runs.split_first()?;
        let last = runs.last()?;
        if runs.len() > FEW {
            return None;
        }
        let mut small = Self { starts: [u16::MAX; FEW - 1], ids: [last.id; FEW] };
        small.starts.iter_mut().zip(behind).for_each(|(to, run)| *to = run.start);
        small.ids.iter_mut().zip(runs).for_each(|(to, run)| *to = run.id);
        debug_assert_eq!(first.start, 0);
        Some(small)
    }

    fn first_rule(&self, port: u16) -> RuleId {
        let run = self.starts.iter().map(|start| usize::from(*start <= port)).sum::<usize>();
        self.ids.get(run).copied().unwrap_or(NO_RULE)
    }

    fn runs(&self) -> Vec<Run> {
        let starts = std::iter::once(0).chain(self.starts);
        let mut runs: Vec<Run> = starts.zip(self.ids).map(|(start, id)| Run { start, id }).collect();
        runs.dedup_by_key(|run| run.id);
        runs
    }
}

impl Maps {
    /// The map without rules.
    const EMPTY: MapId = MapId(ANSWER | NO_RULE);

    /// No maps.
    pub(super) const fn new() -> Self {
        Self { small: Vec::new(), large: Vec::new() }
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
        let mut lowest = NO_RULE;
        let mut at = map;
        loop {
            if at.0 & ANSWER != 0 {
                return lowest.min(at.0 & !ANSWER);
            }
            if at.0 & LARGE == 0 {
                let found = self.small.get(at.0 as usize).map(|small| small.first_rule(port));
                return lowest.min(found.unwrap_or(NO_RULE));
            }
            let map = self.large(at);
            let after = map.runs.partition_point(|run| *run <= word(port.into(), u32::MAX));
            let found = after.checked_sub(1).and_then(|place| map.runs.get(place));
            lowest = lowest.min(found.map_or(NO_RULE, |run| halves(*run).1));
            match map.link {
                Some(link) if link.lowest < lowest => at = link.to,
                _ => return lowest,
            }
        }
    }

    fn inside(&mut self, parent: MapId, rules: &[PortRule]) -> MapId {
        if rules.is_empty() {
            return parent;
        }
        let own = ports::runs(rules);
        let (around, link) = self.runs(parent);
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
        let place = |len: usize| u32::try_from(len).unwrap_or(u32::MAX) & !(ANSWER | LARGE);
        match (runs, link) {
            ([all], None) => return MapId(ANSWER | all.id),
            (_, None) => {
                if let Some(small) = Small::new(runs) {
                    self.small.push(small);
                    return MapId(place(self.small.len().saturating_sub(1)));
                }
            }
            _ => {}
        }
        let id = MapId(LARGE | place(self.large.len()));
        let flag = if link.is_some() { LINKED } else { 0 };
        self.large.push(flag | runs.len() as u64);
        self.large.extend(link.map(|link| word(link.to.0, link.lowest)));
        self.large.extend(runs.iter().map(|run| word(run.start.into(), run.id)));
        id
    }

    /// The runs of a map, and where it goes on.
    fn runs(&self, id: MapId) -> (Vec<Run>, Option<Link>) {
        if id.0 & ANSWER != 0 {
            return (vec![Run { start: 0, id: id.0 & !ANSWER }], None);
        }
        if id.0 & LARGE == 0 {
            return (self.small.get(id.0 as usize).map_or_else(Vec::new, Small::runs), None);
        }
        let Large { runs, link } = self.large(id);
        (runs.iter().copied().map(run).collect(), link)
    }

    fn large(&self, id: MapId) -> Large<'_> {
        let words = self.large.get((id.0 & !LARGE) as usize..).unwrap_or_default();
        let Some((header, rest)) = words.split_first() else { return Large { runs: &[], link: None } };
        let len = (header & !LINKED) as usize;
        let (link, runs) = match rest.split_first() {
            Some((link, runs)) if header & LINKED != 0 => {
                let (to, lowest) = halves(*link);
                (Some(Link { to: MapId(to), lowest }), runs)
            }
            _ => (None, rest),
        };
        Large { runs: runs.get(..len).unwrap_or_default(), link }
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
            let links = std::iter::successors(maps.runs(node.0[0]).1, |link| maps.runs(link.to).1);
            assert!(links.count() < 17, "depth {depth}");
            assert_eq!(node.0[1], Maps::EMPTY);
        }
        let edges = 33 * 400;
        assert!(maps.large.len() <= edges * MERGED_GROWTH, "{} words", maps.large.len());
    }

    /// The number of runs decides how a map is kept, never what it says.
    #[test]
    fn maps_of_every_form() {
        for ports in 0..12_u16 {
            for last in [100, 65_535 - ports] {
                let rules: Vec<_> = (0..ports).map(|i| single(last + i, u32::from(i))).collect();
                let mut maps = Maps::new();
                let NodeId([map, _]) = maps.node(NodeId::ROOT, &[rules.clone(), vec![]]);
                for port in (0..120).chain(65_500..=65_535) {
                    let expected = rules.iter().find(|r| r.first == port).map_or(NO_RULE, |r| r.id);
                    assert_eq!(maps.first_rule(map, port), expected, "{port} of {ports} ports");
                }
                assert_eq!(maps.runs(map).0, ports::runs(&rules));
            }
        }
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
