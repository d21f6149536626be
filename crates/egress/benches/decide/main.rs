//! How long a decision takes, by number and shape of rules; and what surrounds it.

// Macro-generated entry points cannot be documented.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group};
use purlin_egress::testing::Data::Address;
use purlin_egress::testing::{client_hello, dns_answer};
use purlin_egress::{
    DnsConfig, Egress, Flow, HostPattern, Inspector, NameCheck, Policy, PolicyConfig, Rule, Verdict,
};

mod limit;
mod shapes;

use shapes::{SIZES, Shape};

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

fn main() {
    // `cargo test` runs benches, too, to see that they run.
    if std::env::args().any(|arg| arg == "--bench") {
        limit::print();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
