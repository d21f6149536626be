//! `bench fs`: files of a share, by the guest's clock.

use super::{Bench, Tool};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "fs",
    script: include_str!("../../bench/fs.sh"),
    tools: &[Tool { name: "fs", source: include_str!("../../bench/fs.c") }],
    seconds_per_round: 120,
    targets: &[("read-64MiB", 0.7), ("write-64MiB", 0.7), ("create-400", 0.7)],
    collect: None,
};
