//! The networks of one address family.

use std::collections::BTreeMap;

use super::forest::{MapId, Maps, NodeId};
use super::search::{Key, SearchTree};
use super::{NO_RULE, PortRule, RuleId};
use crate::rule::Protocol;

/// Addresses as numbers.
pub(crate) trait AddressBits: Key {
    /// The lowest address.
    const FIRST: Self;
    /// The address after this one.
    fn next(self) -> Option<Self>;
}

impl AddressBits for u32 {
    const FIRST: Self = 0;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl AddressBits for u128 {
    const FIRST: Self = 0;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Networks and the rules written for them.
#[derive(Debug)]
pub(crate) struct AddressTable<K: Key> {
    /// Where the innermost network changes, with the maps of the network from there on.
    starts: SearchTree<K, MapId>,
    maps: Maps,
}

/// The rules of every network, as they are collected: by first address ascending, then by last address
/// descending, so that a network follows every network around it.
#[derive(Debug)]
pub(crate) struct Networks<K>(BTreeMap<(K, std::cmp::Reverse<K>), [Vec<PortRule>; 2]>);

impl<K: AddressBits> Networks<K> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a rule for the addresses `first..=last`, which are a network.
    pub(crate) fn add(&mut self, first: K, last: K, protocol: Protocol, rule: PortRule) {
        let [tcp, udp] = self.0.entry((first, std::cmp::Reverse(last))).or_default();
        match protocol {
            Protocol::Tcp => tcp.push(rule),
            Protocol::Udp => udp.push(rule),
        }
    }

    /// Compiles.
    pub(crate) fn build(self) -> AddressTable<K> {
        let mut maps = Maps::new();
        let mut cells = Cells { starts: vec![K::FIRST], nodes: vec![NodeId::ROOT] };
        // The networks around the current address, with the address behind each.
        let mut around: Vec<(Option<K>, NodeId)> = vec![(None, NodeId::ROOT)];
        for ((first, std::cmp::Reverse(last)), rules) in self.0 {
            cells.leave_until(Some(first), &mut around);
            let parent = around.last().map_or(NodeId::ROOT, |(_, node)| *node);
            let node = maps.node(parent, &rules);
            cells.change(first, node);
            around.push((last.next(), node));
        }
        cells.leave_until(None, &mut around);
        let values: Vec<_> = cells.nodes.into_iter().map(NodeId::maps).collect();
        AddressTable { starts: SearchTree::new(&cells.starts, &values), maps }
    }
}

/// Ranges of addresses with the same rules.
struct Cells<K> {
    starts: Vec<K>,
    nodes: Vec<NodeId>,
}

impl<K: AddressBits> Cells<K> {
    /// From `start` on, `node` is the innermost network.
    fn change(&mut self, start: K, node: NodeId) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.nodes.pop();
        }
        if self.nodes.last() == Some(&node) {
            return;
        }
        self.starts.push(start);
        self.nodes.push(node);
    }

    /// Leaves the networks that end before `address` (none: all that end at all), innermost first.
    fn leave_until(&mut self, address: Option<K>, around: &mut Vec<(Option<K>, NodeId)>) {
        while let Some((Some(behind), _)) = around.last().copied() {
            if address.is_some_and(|address| behind > address) {
                return;
            }
            around.pop();
            if let Some((_, outer)) = around.last().copied() {
                self.change(behind, outer);
            }
        }
    }
}

impl<K: AddressBits> AddressTable<K> {
    /// The first rule for an address and port.
    pub(crate) fn first_rule(&self, address: K, protocol: Protocol, port: u16) -> RuleId {
        // Which protocol comes next cannot be predicted: an index, not a branch.
        let map = self.starts.find(address, protocol as usize);
        map.map_or(NO_RULE, |map| self.maps.first_rule(map, port))
    }
}
