//! Rules compiled for lookup.
//!
//! Networks are laminar: two of them are nested or disjoint. So are host patterns. Both become nodes of a
//! forest, where a node inherits the rules of the nodes around it, and a lookup has two steps: find
//! the innermost node (a static B-tree over the starts of address ranges, or a hash map of names), then
//! find the lowest rule number in that node's map from port to rule.
//!
//! A rule number is the rule's place in the list, so "first match wins" is "lowest number wins", and the
//! answers of several nodes (an address, and each name pinned to it) combine by minimum.
//!
//! With many rules a lookup is as fast as it touches few cache lines. Of a tree's block it touches one or two,
//! of its leaves one more; where ports make no difference, the map is its answer; and most other maps are half
//! a cache line.

mod addresses;
mod forest;
mod names;
mod ports;
mod search;

pub(crate) use addresses::{AddressTable, Networks};
pub(crate) use forest::NodeId;
pub(crate) use names::{NameTable, Patterns};

/// The place of a rule in its list; its lowest bits may tell more about the rule.
pub(crate) type RuleId = u32;
/// No rule. Greater than every rule number, so that minimum means "first".
pub(crate) const NO_RULE: RuleId = RuleId::MAX >> 1;

/// A rule's ports and number, as the tables take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRule {
    pub first: u16,
    pub last: u16,
    pub id: RuleId,
}
