//! Running one bench in the rig.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::proc::{say, shell_quote};
use crate::{rig, setup};

use super::sample::{self, Sample};
use super::{Bench, Options, staging, stock};

const COMMON: &str = include_str!("../../bench/common.sh");

/// Runs `bench` and returns the names of the libraries and what was measured.
pub fn run(bench: &Bench, options: &Options) -> Result<(Vec<String>, Vec<Sample>)> {
    let cache = Cache::open()?;
    let machine = setup::machine(&cache)?;
    let guest = setup::guest(&cache)?;
    let staging = staging::prepare(&cache, &guest, &options.libraries, bench.tools)?;
    if bench.name == stock::BENCH.name {
        stock::stage(&staging.dir, &guest)?;
    }

    let out = tempfile::tempdir()?;
    let libraries = u32::try_from(staging.names.len())?;
    let rounds = (options.rounds + 2) * libraries;
    let seconds = 120 + u64::from(rounds) * u64::from(bench.seconds_per_round);
    let rig_options = rig::Options {
        deterministic: true,
        limit: Duration::from_secs(seconds),
        out: Some(out.path().to_owned()),
        ..rig::Options::default()
    };
    let rounds = options.rounds;
    say(format_args!("{} in the rig: {rounds} rounds, {seconds} s at most", bench.name));
    let mut report = Vec::new();
    let code = rig::run(&machine, &rig_options, &job(bench, &staging, options.rounds), &mut report)?;
    if code != 0 {
        bail!("the bench ended with exit status {code}");
    }
    let mut samples = sample::parse(&String::from_utf8_lossy(&report))?;
    if let Some(collect) = bench.collect {
        samples.extend(collect(out.path(), &staging.names)?);
    }
    Ok((staging.names, samples))
}

fn job(bench: &Bench, staging: &staging::Staging, rounds: u32) -> String {
    let mut words = vec![staging.dir.to_string_lossy().into_owned(), rounds.to_string()];
    words.extend(staging.names.iter().cloned());
    let words: Vec<_> = words.iter().map(|word| shell_quote(word)).collect();
    format!("set -- {}\n{COMMON}\n{}", words.join(" "), bench.script)
}
