//! The host patterns of a policy.

use std::collections::HashMap;

use super::forest::{Maps, NodeId};
use super::{PortRule, RuleId};
use crate::host::{HostName, HostPattern, parents};
use crate::rule::Protocol;

/// Host patterns and the rules written for them.
#[derive(Debug)]
pub(crate) struct NameTable {
    exact: HashMap<HostName, NodeId>,
    /// By the name below which the pattern matches.
    below: HashMap<Box<str>, NodeId>,
    maps: Maps,
}

/// The rules of every host pattern, as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Patterns(HashMap<HostPattern, [Vec<PortRule>; 2]>);

impl Patterns {
    pub(crate) fn add(&mut self, pattern: &HostPattern, protocol: Protocol, rule: PortRule) {
        let [tcp, udp] = self.0.entry(pattern.clone()).or_default();
        match protocol {
            Protocol::Tcp => tcp.push(rule),
            Protocol::Udp => udp.push(rule),
        }
    }

    /// Compiles; `None` if there are no patterns.
    pub(crate) fn build(self) -> Option<NameTable> {
        if self.0.is_empty() {
            return None;
        }
        let mut table = NameTable { exact: HashMap::new(), below: HashMap::new(), maps: Maps::new() };
        let mut patterns: Vec<_> = self.0.into_iter().collect();
        // Outer suffixes first, exact names last: each finds its parent in the table.
        patterns.sort_by_key(|(pattern, _)| match pattern {
            HostPattern::Below(name) => name.as_str().len(),
            HostPattern::Exact(_) => usize::MAX,
        });
        for (pattern, rules) in patterns {
            let (HostPattern::Below(name) | HostPattern::Exact(name)) = &pattern;
            let node = table.maps.node(table.suffix_of(name), &rules);
            match pattern {
                HostPattern::Below(name) => drop(table.below.insert(name.as_str().into(), node)),
                HostPattern::Exact(name) => drop(table.exact.insert(name, node)),
            }
        }
        Some(table)
    }
}

impl NameTable {
    /// The innermost pattern `name` matches; `None` if it matches none. At most 127 look-ups.
    pub(crate) fn node(&self, name: &HostName) -> Option<NodeId> {
        let exact = self.exact.get(name).copied();
        exact.or_else(|| parents(name.as_str()).find_map(|parent| self.below.get(parent).copied()))
    }

    /// The first rule for a port of a name at `node`.
    pub(crate) fn first_rule(&self, node: NodeId, protocol: Protocol, port: u16) -> RuleId {
        self.maps.first_rule(node.map(protocol), port)
    }

    fn suffix_of(&self, name: &HostName) -> NodeId {
        parents(name.as_str()).find_map(|parent| self.below.get(parent).copied()).unwrap_or(NodeId::ROOT)
    }
}
