//! What the rules and flows of a measurement look like.

use std::net::{IpAddr, SocketAddr};

use purlin_egress::testing::Random;
use purlin_egress::{Cidr, Flow, PolicyConfig, PortRange, Protocol, Rule, Target, Verdict};

pub const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Flows a measurement cycles through: enough that they do not stay in the branch predictor.
pub const FLOWS: usize = 1 << 14;

/// What the rules look like.
#[derive(Clone, Copy)]
pub enum Shape {
    /// IPv4 networks of 8 to 32 bits anywhere, any mix of ports and protocols.
    V4,
    /// IPv6 networks of 16 to 128 bits anywhere, any mix of ports and protocols.
    V6,
    /// IPv4 networks in one /12, of every length down to single addresses, and narrow port ranges: long chains
    /// of networks in each other, and large maps of ports.
    Nested,
}

impl Shape {
    pub const ALL: [(&str, Self); 3] = [("v4", Self::V4), ("v6", Self::V6), ("nested", Self::Nested)];

    fn network(self, random: &mut Random) -> Cidr {
        let address = self.address(random);
        let len = match self {
            Self::V4 => 8 + random.below(25) as u8,
            Self::V6 => 16 + random.below(113) as u8,
            Self::Nested => random.below(33) as u8,
        };
        Cidr::new(address, len).unwrap()
    }

    fn address(self, random: &mut Random) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4((random.next_u64() as u32).into()),
            // 2000::/3, without 6to4.
            Self::V6 => {
                let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
                IpAddr::V6((0x2600 << 112 | bits >> 7).into())
            }
            Self::Nested => IpAddr::V4((0x0a10_0000 | random.next_u64() as u32 >> 12).into()),
        }
    }

    fn ports(self, random: &mut Random) -> PortRange {
        match (self, random.below(3)) {
            (Self::Nested, _) => {
                let first = random.below(60_000) as u16;
                PortRange::new(first, first + 20).unwrap()
            }
            (_, 0) => PortRange::ALL,
            (_, 1) => PortRange::single(random.next_u64() as u16),
            _ => {
                let (a, b) = (random.next_u64() as u16, random.next_u64() as u16);
                PortRange::new(std::cmp::min(a, b), std::cmp::max(a, b)).unwrap()
            }
        }
    }

    fn rule(self, random: &mut Random) -> Rule {
        let verdict = if random.one_in(2) { Verdict::Allow } else { Verdict::Deny };
        let rule = Rule::network(self.network(random), verdict).ports(self.ports(random));
        match random.below(4) {
            0 => rule.protocol(Protocol::Tcp),
            1 => rule.protocol(Protocol::Udp),
            _ => rule,
        }
    }

    pub fn config(self, rules: usize) -> PolicyConfig {
        let mut random = Random::new(1);
        PolicyConfig {
            rules: (0..rules).map(|_| self.rule(&mut random)).collect(),
            ..PolicyConfig::default()
        }
    }

    /// Flows to the networks of random rules and to anywhere, half each.
    pub fn flows(self, rules: &[Rule]) -> Vec<Flow> {
        let mut random = Random::new(2);
        let flow = |_| {
            let address = match &rules[random.below(rules.len() as u64) as usize].target {
                Target::Network(network) if random.one_in(2) => network.base(),
                _ => self.address(&mut random),
            };
            let protocol = if random.one_in(2) { Protocol::Tcp } else { Protocol::Udp };
            Flow { protocol, destination: SocketAddr::new(address, random.below(60_000) as u16) }
        };
        (0..FLOWS).map(flow).collect()
    }
}
