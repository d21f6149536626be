//! Which names an address was given for.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::compiled::{NO_RULE, NodeId, RuleId};
use crate::host::HostName;
use crate::policy::Policy;

/// Most addresses with pins; the one that would lapse first makes room.
pub const MAX_PINNED_ADDRESSES: usize = 4096;
/// Most names pinned to one address; the one that would lapse first makes room.
pub const MAX_NAMES_PER_ADDRESS: usize = 32;
/// How long after it lapsed a pin still counts for the name check of a connection that it let open.
pub const NAME_CHECK_GRACE: Duration = Duration::from_secs(60);

/// A name of an address.
#[derive(Debug)]
struct Pin {
    name: HostName,
    lapses: Duration,
    /// The host pattern of the current policy that the name falls under.
    node: Option<NodeId>,
}

/// The pins of one virtual machine.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    by_address: HashMap<IpAddr, Vec<Pin>>,
    /// When the last name of each address lapses.
    by_lapse: BTreeSet<(Duration, IpAddr)>,
}

impl Pins {
    /// How many addresses have pins, lapsed ones included while they are kept.
    pub(crate) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Pins `name` to `address` until `lapses`, or longer if it already is. Gives how many other addresses
    /// lost their pins before they lapsed, to make room.
    pub(crate) fn add(
        &mut self,
        now: Duration,
        address: IpAddr,
        name: &HostName,
        lapses: Duration,
        policy: &Policy,
    ) -> usize {
        self.forget_lapsed(now);
        let evicted = self.make_room_for(address);
        let pins = self.by_address.entry(address).or_default();
        let before = last_lapse(pins);
        match pins.iter_mut().find(|pin| pin.name == *name) {
            Some(pin) => pin.lapses = pin.lapses.max(lapses),
            None => {
                if pins.len() >= MAX_NAMES_PER_ADDRESS {
                    let first = pins.iter().enumerate().min_by_key(|(_, pin)| pin.lapses);
                    if let Some((index, _)) = first {
                        pins.swap_remove(index);
                    }
                }
                pins.push(Pin { name: name.clone(), lapses, node: policy.node_of(name) });
            }
        }
        let after = last_lapse(pins);
        if let Some(before) = before {
            self.by_lapse.remove(&(before, address));
        }
        if let Some(after) = after {
            self.by_lapse.insert((after, address));
        }
        evicted
    }

    /// The first rule of `address` by the names pinned to it, and the name it comes from.
    pub(crate) fn first_rule(
        &self,
        now: Duration,
        address: IpAddr,
        rule_of: &dyn Fn(NodeId) -> RuleId,
    ) -> Option<(RuleId, &HostName)> {
        let live = self.by_address.get(&address)?.iter().filter(|pin| pin.lapses > now);
        let ruled = live.filter_map(|pin| Some((rule_of(pin.node?), &pin.name)));
        ruled.filter(|(id, _)| *id != NO_RULE).min_by_key(|(id, _)| *id)
    }

    /// Whether `name` is pinned to `address`, or was so until [`NAME_CHECK_GRACE`] ago.
    pub(crate) fn held(&self, now: Duration, address: IpAddr, name: &HostName) -> bool {
        let pins = self.by_address.get(&address).map_or(&[][..], Vec::as_slice);
        pins.iter().any(|pin| pin.name == *name && pin.lapses.saturating_add(NAME_CHECK_GRACE) > now)
    }

    /// Looks up every name in a new policy.
    pub(crate) fn adopt(&mut self, policy: &Policy) {
        for pin in self.by_address.values_mut().flatten() {
            pin.node = policy.node_of(&pin.name);
        }
    }

    fn forget_lapsed(&mut self, now: Duration) {
        while let Some((lapses, address)) = self.by_lapse.first().copied() {
            if lapses.saturating_add(NAME_CHECK_GRACE) > now {
                return;
            }
            self.by_lapse.pop_first();
            self.by_address.remove(&address);
        }
    }

    fn make_room_for(&mut self, address: IpAddr) -> usize {
        let mut evicted = 0_usize;
        while !self.by_address.contains_key(&address) && self.by_address.len() >= MAX_PINNED_ADDRESSES {
            let Some((_, other)) = self.by_lapse.pop_first() else { break };
            self.by_address.remove(&other);
            evicted = evicted.saturating_add(1);
        }
        evicted
    }
}

fn last_lapse(pins: &[Pin]) -> Option<Duration> {
    pins.iter().map(|pin| pin.lapses).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const NOW: Duration = Duration::from_secs(100);

    fn address(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0100_0000 + u32::try_from(n).unwrap()).into()
    }

    fn name(n: usize) -> HostName {
        HostName::parse(&format!("n{n}.example")).unwrap()
    }

    fn add(pins: &mut Pins, now: Duration, a: usize, n: usize, seconds: u64) -> usize {
        let lapses = now + Duration::from_secs(seconds);
        pins.add(now, address(a), &name(n), lapses, &Policy::unrestricted())
    }

    fn consistent(pins: &Pins) {
        assert_eq!(pins.by_address.len(), pins.by_lapse.len());
        for (lapses, a) in &pins.by_lapse {
            assert_eq!(last_lapse(&pins.by_address[a]), Some(*lapses));
        }
    }

    #[test]
    fn memory_is_bounded_and_the_first_to_lapse_makes_room() {
        let mut pins = Pins::default();
        for a in 0..MAX_PINNED_ADDRESSES {
            assert_eq!(add(&mut pins, NOW, a, 0, 1000 + a as u64), 0);
        }
        assert_eq!(add(&mut pins, NOW, 0, 1, 9000), 0, "an address that is there needs no room");
        assert_eq!(add(&mut pins, NOW, 999_999, 0, 5000), 1);
        assert!(!pins.held(NOW, address(1), &name(0)) && pins.held(NOW, address(0), &name(0)));
        for n in 2..100 {
            add(&mut pins, NOW, 0, n, 10_000 + n as u64);
        }
        assert_eq!(pins.by_address[&address(0)].len(), MAX_NAMES_PER_ADDRESS);
        assert!(pins.held(NOW, address(0), &name(99)) && !pins.held(NOW, address(0), &name(2)));
        assert_eq!(pins.len(), MAX_PINNED_ADDRESSES);
        consistent(&pins);
    }

    #[test]
    fn lapsed_pins_are_forgotten_after_the_grace() {
        let mut pins = Pins::default();
        add(&mut pins, NOW, 1, 1, 10);
        add(&mut pins, NOW, 1, 1, 5);
        let held = |pins: &Pins, s| pins.held(NOW + Duration::from_secs(s), address(1), &name(1));
        let lapsed = 10 + NAME_CHECK_GRACE.as_secs();
        assert!(held(&pins, 0) && held(&pins, 11) && held(&pins, lapsed - 1) && !held(&pins, lapsed));
        add(&mut pins, NOW + Duration::from_secs(lapsed), 2, 2, 10);
        assert_eq!(pins.len(), 1);
        consistent(&pins);
    }
}
