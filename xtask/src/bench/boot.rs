//! `bench boot`: how long a VM takes from exec to exit, and what it keeps in memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::sample::Sample;
use super::{Bench, memory};

/// The bench.
pub const BENCH: Bench = Bench {
    name: "boot",
    script: include_str!("../../bench/boot.sh"),
    tools: &[],
    seconds_per_round: 60,
    targets: &[("boot", 0.7)],
    collect: Some(resident),
};

/// The memory of the processes whose smaps files the script left behind.
fn resident(out: &Path, libraries: &[String]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for library in libraries {
        let smaps = out.join(format!("{library}.smaps"));
        let smaps = fs::read_to_string(&smaps).with_context(|| format!("no memory figures of {library}"))?;
        let resident = memory::resident(&smaps);
        samples.push(Sample::new("outside-RAM", library, resident.outside, "KiB")?);
        samples.push(Sample::new("RAM-touched", library, resident.ram, "KiB")?);
    }
    Ok(samples)
}
