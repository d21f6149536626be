//! The compiled policy against rules that are read one after another: a million random flows.

// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use purlin_egress::testing::{Data, Random, dns_answer};
use purlin_egress::{
    Cidr, DnsConfig, Egress, EmbeddedIpv4, Floor, Flow, HostName, HostPattern, Policy, PolicyConfig,
    PortRange, Protocol, RedirectHeader, Rule, Target, Verdict, judged_address, reference::Reference,
};

/// Flows tried in all.
const FLOWS: usize = 1_000_000;
/// Flows tried per policy, of 1 to [`MOST_RULES`] rules.
const FLOWS_PER_POLICY: usize = 250;
const MOST_RULES: u64 = 40;

/// Where policies and flows come from.
struct Source(Random);

impl std::ops::Deref for Source {
    type Target = Random;
    fn deref(&self) -> &Random {
        &self.0
    }
}

impl std::ops::DerefMut for Source {
    fn deref_mut(&mut self) -> &mut Random {
        &mut self.0
    }
}

impl Source {
    fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A number of `width` bits with only its first and last few bits set at random, so that networks nest
    /// and meet.
    fn clustered(&mut self, width: u32) -> u128 {
        let high = u128::from(self.below(8)) << (width - 3);
        let middle = u128::from(self.below(4)) << (width / 2);
        let low = u128::from(self.below(8));
        high | middle | low
    }

    fn address(&mut self) -> IpAddr {
        let special = [0x0a00_0001_u32, 0x7f00_0001, 0xa9fe_a9fe, 0, u32::MAX];
        let v4 = if self.one_in(8) { self.pick(special) } else { self.clustered(32) as u32 };
        match self.below(8) {
            0..=3 => IpAddr::V4(v4.into()),
            4 => IpAddr::V6((0xffff_0000_0000 | u128::from(v4)).into()),
            5 => IpAddr::V6(((0x64_ff9b << 96) | u128::from(v4)).into()),
            6 => IpAddr::V6(((0x2002 << 112) | (u128::from(v4) << 80) | self.clustered(64) & 7).into()),
            _ => IpAddr::V6(self.clustered(128).into()),
        }
    }

    fn port(&mut self) -> u16 {
        let edges = [0, 1, 80, 442, 443, 444, 1023, 1024, 65534, 65535];
        self.pick(edges)
    }

    fn ports(&mut self) -> PortRange {
        if self.one_in(3) {
            return PortRange::ALL;
        }
        let (a, b) = (self.port(), self.port());
        PortRange::new(a.min(b), a.max(b)).unwrap()
    }

    fn network(&mut self) -> Cidr {
        loop {
            let base = self.address();
            let len = self.below(if base.is_ipv4() { 33 } else { 129 }) as u8;
            // Long prefixes of 6to4 sites are refused; see the table tests.
            let site = matches!(base, IpAddr::V6(a) if a.segments()[0] == 0x2002);
            if !site || len <= 48 {
                return Cidr::new(base, len).unwrap();
            }
        }
    }

    fn verdict(&mut self) -> Verdict {
        let proxy = Verdict::Redirect("127.0.0.1:15001".parse().unwrap());
        self.pick([Verdict::Allow, Verdict::Deny, proxy])
    }

    fn rule(&mut self) -> Rule {
        let protocol = self.pick([None, None, Some(Protocol::Tcp), Some(Protocol::Udp)]);
        Rule {
            target: Target::Network(self.network()),
            ports: self.ports(),
            protocol,
            verdict: self.verdict(),
        }
    }

    fn config(&mut self) -> PolicyConfig {
        let rules = (0..=self.below(MOST_RULES)).map(|_| self.rule()).collect();
        let networks = (0..self.below(3)).map(|_| self.network()).filter(|n| n.prefix_len() > 16).collect();
        let floor = Floor { loopback: self.one_in(3), private: self.one_in(3), networks };
        let embedded_ipv4 = self.pick([EmbeddedIpv4::AsIpv4, EmbeddedIpv4::AsIpv6]);
        let magic_v6 = self.pick([None, Some(6)]);
        let redirect_header = RedirectHeader { magic: 4, magic_v6 };
        PolicyConfig { rules, floor, embedded_ipv4, redirect_header, ..PolicyConfig::default() }
    }

    /// A flow to anywhere, or to the first or last address of a rule.
    fn flow(&mut self, rules: &[Rule]) -> Flow {
        let rule = &rules[self.below(rules.len() as u64) as usize];
        let address = match (&rule.target, self.below(4)) {
            (Target::Network(network), 0) => network.base(),
            (Target::Network(network), 1) => last(network),
            _ => self.address(),
        };
        let protocol = self.pick([Protocol::Tcp, Protocol::Udp]);
        Flow { protocol, destination: SocketAddr::new(address, self.port()) }
    }
}

fn last(network: &Cidr) -> IpAddr {
    let len = u32::from(network.prefix_len());
    match network.base() {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() | u32::MAX.checked_shr(len).unwrap_or(0)).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() | u128::MAX.checked_shr(len).unwrap_or(0)).into()),
    }
}

/// What the reference cannot know: IPv6 networks that are judged as IPv4, which the compiler rewrites. Flows
/// to the same addresses are still tried, as their rules' IPv4 form.
fn as_judged(config: &PolicyConfig) -> PolicyConfig {
    let mut judged = config.clone();
    for rule in &mut judged.rules {
        if let Target::Network(network) = &mut rule.target {
            *network = rewrite(network, config.embedded_ipv4);
        }
    }
    for network in &mut judged.floor.networks {
        *network = rewrite(network, config.embedded_ipv4);
    }
    judged
}

fn rewrite(network: &Cidr, embedded: EmbeddedIpv4) -> Cidr {
    let IpAddr::V6(base) = network.base() else { return *network };
    let (bits, len) = (base.to_bits(), network.prefix_len());
    let through = embedded == EmbeddedIpv4::AsIpv4;
    let inside = match (bits >> 32, bits >> 112) {
        (0xffff, _) if len >= 96 => Some((bits as u32, len - 96)),
        (top, _) if through && len >= 96 && top == 0x64_ff9b << 64 => Some((bits as u32, len - 96)),
        (_, 0x2002) if through && len >= 16 => Some(((bits >> 80) as u32, len - 16)),
        _ => None,
    };
    inside.map_or(*network, |(v4, len)| Cidr::new(IpAddr::V4(v4.into()), len).unwrap())
}

/// Compares for `flows` flows; gives how many were allowed, denied and redirected.
fn compare(random: &mut Source, config: &PolicyConfig, policy: &Policy, flows: usize) -> [usize; 3] {
    let judged = as_judged(config);
    let reference = Reference::new(&judged);
    let mut verdicts = [0; 3];
    for _ in 0..flows {
        let flow = random.flow(&config.rules);
        let expected = reference.decide(&flow, &[]);
        assert_eq!(policy.decide(&flow), expected, "{flow} under {config:#?}");
        verdicts[match expected.verdict {
            Verdict::Allow => 0,
            Verdict::Deny => 1,
            Verdict::Redirect(_) => 2,
        }] += 1;
    }
    verdicts
}

#[test]
fn a_million_flows() {
    let mut random = Source::new(20_240_229);
    let mut verdicts = [0_usize; 3];
    while verdicts.iter().sum::<usize>() < FLOWS {
        let config = random.config();
        match Policy::compile(config.clone()) {
            Ok(policy) => {
                let counts = compare(&mut random, &config, &policy, FLOWS_PER_POLICY);
                verdicts.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
            Err(error) => assert!(error.to_string().contains("floor"), "a redirect into it, not {error}"),
        }
    }
    assert!(verdicts.iter().all(|n| *n > FLOWS / 20), "{verdicts:?}");
}

/// Names that addresses are given, and patterns for them.
const NAMES: [&str; 5] = ["a.test", "b.a.test", "c.b.a.test", "test", "other.example"];
const PATTERNS: [&str; 6] = ["a.test", "*.a.test", "*.test", "b.a.test", "*.b.a.test", "*.example"];

/// Rules about hosts among rules about networks, and addresses that answers have given names.
#[test]
fn names_that_were_resolved() {
    let mut random = Source::new(11);
    let resolver = SocketAddr::from(([9, 9, 9, 9], 53));
    let (mut by_name, now) = (0, Duration::ZERO);
    for _ in 0..400 {
        let mut config = random.config();
        for rule in &mut config.rules {
            if random.one_in(2) {
                rule.target = Target::Host(HostPattern::parse(random.pick(PATTERNS)).unwrap());
            }
        }
        config.dns = DnsConfig { resolvers: vec![resolver], local_answers: true, ..DnsConfig::default() };
        let Ok(policy) = Policy::compile(config.clone()) else { continue };
        let mut egress = Egress::new(policy, now);
        let mut pinned: HashMap<IpAddr, Vec<HostName>> = HashMap::new();
        let addresses: Vec<IpAddr> = (0..6).map(|_| random.address()).collect();
        for _ in 0..random.below(12) {
            let (name, address) = (random.pick(NAMES), addresses[random.below(6) as usize]);
            let answer = dns_answer(name, &[(name, 60, Data::Address(address))]);
            assert_eq!(egress.observe_dns(now, resolver, &answer).unwrap(), 1);
            let names = pinned.entry(judged_address(address, config.embedded_ipv4)).or_default();
            let name = HostName::parse(name).unwrap();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let judged = as_judged(&config);
        let reference = Reference::new(&judged);
        for _ in 0..250 {
            let mut flow = random.flow(&config.rules);
            if !random.one_in(3) {
                flow.destination.set_ip(addresses[random.below(6) as usize]);
            }
            let names = pinned.get(&judged_address(flow.destination.ip(), config.embedded_ipv4));
            let expected = reference.decide(&flow, names.map_or(&[], Vec::as_slice));
            by_name += usize::from(expected.host.is_some());
            assert_eq!(egress.judge(now, &flow), expected, "{flow} {names:?} under {config:#?}");
        }
    }
    assert!(by_name > 10_000, "{by_name} decisions by name");
}

/// Many port ranges on few networks that nest: maps too large to be merged.
#[test]
fn large_nested_maps() {
    let mut random = Source::new(7);
    for _ in 0..4 {
        let nested: [Cidr; 33] =
            std::array::from_fn(|len| Cidr::new([10, 0, 0, 1].into(), len as u8).unwrap());
        let rules = (0..2_000).map(|_| {
            let network = Target::Network(random.pick(nested));
            let first = random.below(2_000) as u16;
            let ports = PortRange::new(first, first + random.below(4) as u16).unwrap();
            Rule { target: network, ports, protocol: None, verdict: random.verdict() }
        });
        let config = PolicyConfig { rules: rules.collect(), ..PolicyConfig::default() };
        let policy = Policy::compile(config.clone()).unwrap();
        let reference = Reference::new(&config);
        for _ in 0..5_000 {
            let address = if random.one_in(2) { [10, 0, 0, 1].into() } else { random.address() };
            let flow = Flow::tcp((address, random.below(2_010) as u16));
            assert_eq!(policy.decide(&flow), reference.decide(&flow, &[]), "{flow}");
        }
    }
}
