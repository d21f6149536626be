//! `bench tsi`: TCP over TSI.

use super::{Bench, Tool};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "tsi",
    script: include_str!("../../bench/tsi.sh"),
    tools: &[Tool { name: "sockets", source: include_str!("../../bench/sockets.c") }],
    seconds_per_round: 120,
    targets: &[("guest-to-host", 0.85), ("host-to-guest", 0.6), ("connections", 0.6), ("round-trips", 0.7)],
    collect: None,
};
