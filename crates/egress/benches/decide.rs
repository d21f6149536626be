//! How long a decision takes, by number and shape of rules; and what surrounds it.

// Macro-generated entry points cannot be documented.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use purlin_egress::testing::Data::Address;
use purlin_egress::testing::{Random, client_hello, dns_answer};
use purlin_egress::{
    Cidr, DnsConfig, Egress, Flow, HostPattern, Inspector, NameCheck, Policy, PolicyConfig, PortRange,
    Protocol, Rule, Target, Verdict,
};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Flows a measurement cycles through: enough that they do not stay in the branch predictor.
const FLOWS: usize = 1 << 14;

/// What the rules look like.
#[derive(Clone, Copy)]
enum Shape {
    /// IPv4 networks of 8 to 32 bits anywhere, any mix of ports and protocols.
    V4,
    /// IPv6 networks of 16 to 128 bits anywhere, any mix of ports and protocols.
    V6,
    /// IPv4 networks in one /12, of every length down to single addresses, and narrow port ranges: long chains
    /// of networks in each other, and large maps of ports.
    Nested,
}

impl Shape {
    const ALL: [(&str, Self); 3] = [("v4", Self::V4), ("v6", Self::V6), ("nested", Self::Nested)];

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

    fn config(self, rules: usize) -> PolicyConfig {
        let mut random = Random::new(1);
        PolicyConfig {
            rules: (0..rules).map(|_| self.rule(&mut random)).collect(),
            ..PolicyConfig::default()
        }
    }

    /// Flows to the networks of random rules and to anywhere, half each.
    fn flows(self, rules: &[Rule]) -> Vec<Flow> {
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

fn cycle(flows: &[Flow]) -> impl FnMut() -> Flow {
    let mut flows = flows.iter().cycle();
    move || *flows.next().unwrap()
}

/// The look-up alone.
fn decide(c: &mut Criterion) {
    for (name, shape) in Shape::ALL {
        let mut group = c.benchmark_group(format!("decide/{name}"));
        for size in SIZES {
            let config = shape.config(size);
            let flows = shape.flows(&config.rules);
            let policy = Policy::compile(config).unwrap();
            let mut next = cycle(&flows);
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| policy.decide(black_box(&next())));
            });
        }
    }
}

/// With the log, the counters, a limit, and an address that has a name.
fn live(c: &mut Criterion) {
    let resolver = SocketAddr::from(([9, 9, 9, 9], 53));
    let mut group = c.benchmark_group("egress");
    for size in [10_000, 100_000] {
        let mut config = Shape::V4.config(size);
        let flows = Shape::V4.flows(&config.rules);
        config.rules.push(Rule::host(HostPattern::parse("*.example.com").unwrap(), Verdict::Allow));
        config.dns = DnsConfig { resolvers: vec![resolver], ..DnsConfig::default() };
        let mut egress = Egress::new(Policy::compile(config).unwrap(), Duration::ZERO);
        let mut next = cycle(&flows);
        group.bench_function(BenchmarkId::new("decide", size), |b| {
            b.iter(|| egress.decide(Duration::ZERO, black_box(&next())));
        });
    }
    group.finish();

    let rule = Rule::host(HostPattern::parse("*.example.com").unwrap(), Verdict::Allow);
    let dns = DnsConfig { resolvers: vec![resolver], ..DnsConfig::default() };
    let policy = Policy::compile(PolicyConfig { rules: vec![rule], dns, ..PolicyConfig::default() }).unwrap();
    let mut egress = Egress::new(policy, Duration::ZERO);
    let answer = |n: u32| {
        let address = Address(IpAddr::V4((0x0800_0000 + n % 8000).into()));
        dns_answer("www.example.com", &[("www.example.com", 60, address), ("www.example.com", 60, address)])
    };
    let mut n = 0;
    c.bench_function("egress/observe_dns", |b| {
        b.iter_batched(
            || {
                n += 1;
                answer(n)
            },
            |message| egress.observe_dns(Duration::ZERO, resolver, &message).unwrap(),
            BatchSize::SmallInput,
        );
    });
    egress.observe_dns(Duration::ZERO, resolver, &answer(1)).unwrap();
    let named = Flow::tcp(([8, 0, 0, 1], 443));
    assert!(egress.judge(Duration::ZERO, &named).lets_out());
    c.bench_function("egress/decide_by_name", |b| {
        b.iter(|| egress.decide(Duration::ZERO, black_box(&named)));
    });
    let hello = client_hello("www.example.com");
    c.bench_function("inspect/tls", |b| b.iter(|| Inspector::new(NameCheck::Tls).push(black_box(&hello))));
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    for (name, shape) in Shape::ALL {
        for size in [10_000, 100_000] {
            let config = shape.config(size);
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter_batched(
                    || config.clone(),
                    |config| Policy::compile(config).unwrap(),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

criterion_group!(benches, decide, live, compile);
criterion_main!(benches);
