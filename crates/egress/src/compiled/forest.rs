//! Nodes that inherit rules from their parents.

use super::ports::{self, Run};
use super::{NO_RULE, PortRule, RuleId};
use crate::rule::Protocol;

/// Runs a node may always hold, so that small policies need a single search.
const ALWAYS_MERGED: usize = 16;
/// How many times its own runs a node may hold. It bounds memory: at most this many runs per edge of a
/// rule's port range. A node over it links to its parent's map instead, which costs a lookup one search
/// more; since two levels of similar size always merge, that is at most one search per two levels of
/// nesting, and only where many port ranges were written at every other level.
const MERGED_GROWTH: usize = 4;

/// A node: a place where rules were written, or the space around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// The node around all others.
    pub(super) const ROOT: Self = Self(0);
}

/// A node's map for one protocol.
#[derive(Clone, Copy, Debug)]
struct Map {
    start: u32,
    len: u32,
    /// The ancestor whose map also counts, if this one does not include it.
    next: Option<NodeId>,
    /// The lowest rule number found from `next` on.
    next_lowest: RuleId,
}

/// One protocol's maps.
#[derive(Debug, Default)]
struct Layer {
    maps: Vec<Map>,
    runs: Vec<Run>,
}

/// Nodes with a map from port to rule per protocol.
#[derive(Debug)]
pub(super) struct Forest {
    layers: [Layer; Protocol::ALL.len()],
}

impl Forest {
    /// A forest of the root alone, with the rules that `root` gives per protocol.
    pub(super) fn new(root: impl Fn(Protocol) -> Vec<PortRule>) -> Self {
        let mut forest = Self { layers: [Layer::default(), Layer::default()] };
        forest.add(None, root);
        forest
    }

    /// Adds a node inside `parent` (none: the root), with the rules written at the node itself.
    pub(super) fn add(
        &mut self,
        parent: Option<NodeId>,
        rules: impl Fn(Protocol) -> Vec<PortRule>,
    ) -> NodeId {
        let mut id = NodeId::ROOT;
        for (layer, protocol) in self.layers.iter_mut().zip(Protocol::ALL) {
            id = layer.add(parent, &rules(protocol));
        }
        id
    }

    /// The first rule for `port` at `node` or around it.
    pub(super) fn first_rule(&self, node: NodeId, protocol: Protocol, port: u16) -> RuleId {
        let [tcp, udp] = &self.layers;
        match protocol {
            Protocol::Tcp => tcp.first_rule(node, port),
            Protocol::Udp => udp.first_rule(node, port),
        }
    }
}

impl Layer {
    fn add(&mut self, parent: Option<NodeId>, rules: &[PortRule]) -> NodeId {
        let id = NodeId(u32::try_from(self.maps.len()).unwrap_or(u32::MAX));
        let inherited = parent.and_then(|p| self.map(p).map(|map| (p, *map)));
        let map = match inherited {
            None => self.store(&ports::runs(rules), None, NO_RULE),
            Some((_, around)) if rules.is_empty() => around,
            Some((parent, around)) => self.inside(parent, around, &ports::runs(rules)),
        };
        self.maps.push(map);
        id
    }

    /// The map of a node with runs of its own inside `parent`.
    fn inside(&mut self, parent: NodeId, around: Map, own: &[Run]) -> Map {
        let merged = ports::merge(own, self.runs_of(&around));
        if merged.len() <= ALWAYS_MERGED.max(own.len().saturating_mul(MERGED_GROWTH)) {
            return self.store(&merged, around.next, around.next_lowest);
        }
        let lowest = self.runs_of(&around).iter().map(|run| run.id).min().unwrap_or(NO_RULE);
        self.store(own, Some(parent), lowest.min(around.next_lowest))
    }

    fn store(&mut self, runs: &[Run], next: Option<NodeId>, next_lowest: RuleId) -> Map {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let map = Map { start: narrow(self.runs.len()), len: narrow(runs.len()), next, next_lowest };
        self.runs.extend_from_slice(runs);
        map
    }

    fn map(&self, node: NodeId) -> Option<&Map> {
        self.maps.get(usize::try_from(node.0).ok()?)
    }

    fn runs_of(&self, map: &Map) -> &[Run] {
        let (start, len) = (map.start as usize, map.len as usize);
        self.runs.get(start..start.saturating_add(len)).unwrap_or_default()
    }

    fn first_rule(&self, node: NodeId, port: u16) -> RuleId {
        let mut lowest = NO_RULE;
        let mut node = Some(node);
        while let Some(map) = node.and_then(|node| self.map(node)) {
            lowest = lowest.min(ports::answer(self.runs_of(map), port));
            node = map.next.filter(|_| map.next_lowest < lowest);
        }
        lowest
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
        let mut forest = Forest::new(|_| rules[0].clone());
        let mut nodes = vec![NodeId::ROOT];
        for own in &rules[1..] {
            nodes.push(forest.add(nodes.last().copied(), |_| own.clone()));
        }
        for (depth, node) in nodes.iter().enumerate() {
            for port in 0..1700 {
                let all = rules[..=depth].iter().flatten();
                let expected = all.filter(|r| r.first == port).map(|r| r.id).min().unwrap_or(NO_RULE);
                assert_eq!(forest.first_rule(*node, Protocol::Tcp, port), expected, "{depth} {port}");
            }
            let mut searches = 1;
            let mut at = forest.layers[0].map(*node).and_then(|m| m.next);
            while let Some(next) = at {
                searches += 1;
                at = forest.layers[0].map(next).and_then(|m| m.next);
            }
            assert!(searches <= 8, "{searches} searches at depth {depth}");
        }
        let runs: usize = forest.layers.iter().map(|l| l.runs.len()).sum();
        assert!(runs <= 2 * 33 * 400 * MERGED_GROWTH, "{runs} runs");
    }

    #[test]
    fn protocols_are_apart() {
        let mut forest = Forest::new(|_| vec![]);
        let node = forest.add(Some(NodeId::ROOT), |p| match p {
            Protocol::Tcp => vec![single(1, 0)],
            Protocol::Udp => vec![single(2, 1)],
        });
        let answers = [(Protocol::Tcp, 1), (Protocol::Tcp, 2), (Protocol::Udp, 1), (Protocol::Udp, 2)]
            .map(|(protocol, port)| forest.first_rule(node, protocol, port));
        assert_eq!(answers, [0, NO_RULE, NO_RULE, 1]);
        assert_eq!(forest.first_rule(NodeId::ROOT, Protocol::Tcp, 1), NO_RULE);
    }
}
