//! Decisions beside a physical limit: one read from memory that no cache holds.
//!
//! On a machine that others use, a mean measures them, too. The shortest of many short passes is nearly free of
//! that, and what is left (a slower clock, a shared cache) slows the read down as well.

use std::hint::black_box;
use std::time::{Duration, Instant};

use purlin_egress::testing::Random;
use purlin_egress::{Egress, Policy};

use crate::shapes::{SIZES, Shape};

const PASSES: usize = 200;
/// Indices in the ring of reads: 64 MiB, more than a processor caches.
const RING: usize = 1 << 24;
const READS: usize = 1 << 14;

/// Prints the time of a decision for every shape and size, and how many reads from memory it is.
pub fn print() {
    let read = random_read();
    println!("one random read from memory: {read:.0} ns; the shortest of {PASSES} passes each:");
    for (name, shape) in Shape::ALL {
        for size in SIZES {
            let config = shape.config(size);
            let flows = shape.flows(&config.rules);
            let policy = Policy::compile(config).unwrap();
            let alone = shortest(flows.len(), || {
                for flow in &flows {
                    black_box(policy.decide(black_box(flow)));
                }
            });
            let mut egress = Egress::new(policy, Duration::ZERO);
            let logged = shortest(flows.len(), || {
                for flow in &flows {
                    black_box(egress.decide(Duration::ZERO, black_box(flow)));
                }
            });
            println!(
                "{name:>6} {size:>6} rules: {alone:4.0} ns, {:.2} reads; counted and logged {logged:4.0} ns",
                alone / read
            );
        }
    }
}

/// Nanoseconds of one of `count` steps, in the shortest of many passes.
fn shortest(count: usize, mut pass: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        pass();
        start.elapsed()
    };
    let best = (0..PASSES).map(time).min().unwrap_or_default();
    best.as_secs_f64() * 1e9 / count as f64
}

/// Nanoseconds of a read whose address is what the read before it gave.
fn random_read() -> f64 {
    let mut random = Random::new(3);
    let mut ring: Vec<u32> = (0..RING as u32).collect();
    // A single cycle through all of it (Sattolo's shuffle).
    for last in (1..RING).rev() {
        ring.swap(last, random.below(last as u64) as usize);
    }
    let mut at = 0;
    shortest(READS, || {
        for _ in 0..READS {
            at = ring[at as usize];
        }
        black_box(at);
    })
}
