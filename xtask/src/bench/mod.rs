//! `cargo xtask bench`: our library beside others, in one run of the rig.
//!
//! A bench is a [`Bench`]: a script for the rig, which starts from `xtask/bench/common.sh` and prints samples, and the C
//! programs that it wants in the guest or beside it. Everything else is the same for all.

mod boot;
mod fs;
mod memory;
mod peer;
mod run;
mod sample;
mod staging;
mod stats;
mod stock;
mod table;
mod tsi;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::args::{Arg, Args, unexpected};
use sample::Sample;

/// Shown by `cargo xtask bench --help`.
pub const HELP: &str = "\
cargo xtask bench BENCH [-n ROUNDS] [LIBRARY...]

Runs BENCH with each LIBRARY in turn, in one run of the rig with the deterministic clock (1 instruction = 1 ns), so that
the ratios repeat on any machine. Prints the medians; the ratio is to libkrun, or to the last LIBRARY without it.

  BENCH      boot   boot and exit of /bin/true, from exec to exit, and the memory of the process of an idle guest
                    outside guest RAM; 1 vCPU, 256 MiB
             fs     64 MiB read from a share and 64 MiB written, 400 files created and 400 looked at
             tsi    TCP over TSI: 64 MiB each way, 100 short connections, 1,000 one-byte round trips
  stock      a stock kernel from its package until its init runs, beside QEMU's microvm machine
  -n ROUNDS  counted rounds, after one that fills caches (5)
  LIBRARY    ours      this workspace's release build (cargo xtask dist)
             libkrun   libkrun 1.19.7 with blk and net, built in the cache from crates.io
             qemu      this machine's QEMU, in `stock` alone and its default
             a path    any shared library with the same C API
             Default: ours libkrun. `ours ours` shows the noise.
";

/// One bench.
struct Bench {
    name: &'static str,
    /// What the rig runs, after `common.sh`.
    script: &'static str,
    /// C programs for the script.
    tools: &'static [Tool],
    /// Time for one round with one library, in seconds of this machine, with reserve.
    seconds_per_round: u32,
    /// For cases, the ratio to libkrun that is asked for.
    targets: &'static [(&'static str, f64)],
    /// Where more samples come from, after the script.
    collect: Option<Collect>,
}

/// Makes samples of these libraries from the files that the script left in the directory.
type Collect = fn(&Path, &[String]) -> Result<Vec<Sample>>;

/// A static C program, staged as `tools/NAME`, also in the guest's root directory.
struct Tool {
    name: &'static str,
    source: &'static str,
}

const BENCHES: &[Bench] = &[boot::BENCH, fs::BENCH, tsi::BENCH, stock::BENCH];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    rounds: u32,
    libraries: Vec<String>,
}

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    let (bench, options) = parse(args)?;
    let (names, samples) = run::run(bench, &options)?;
    print!("{}", table::text(&names, &samples, bench.targets)?);
    Ok(ExitCode::SUCCESS)
}

fn parse(mut args: Args) -> Result<(&'static Bench, Options)> {
    let mut words = Vec::new();
    let mut rounds = 5;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Positional(word) => words.push(word.into_string().ok().context("an argument is not UTF-8")?),
            Arg::Option(name) if name == "-n" => rounds = args.number()?,
            other => return Err(unexpected(&other)),
        }
    }
    if words.is_empty() {
        bail!("no bench named; --help lists them");
    }
    let name = words.remove(0);
    let bench = BENCHES.iter().find(|bench| bench.name == name);
    let bench = bench.with_context(|| format!("no bench is called {name}; --help lists them"))?;
    if words.is_empty() {
        let beside = if bench.name == stock::BENCH.name { "qemu" } else { "libkrun" };
        words = vec!["ours".into(), beside.into()];
    }
    Ok((bench, Options { rounds, libraries: words }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn parsed(words: &[&str]) -> Result<(&'static Bench, Options)> {
        parse(Args::new(words.iter().map(OsString::from)))
    }

    #[test]
    fn libraries_and_their_default() {
        let (bench, options) = parsed(&["boot"]).unwrap();
        assert_eq!((bench.name, options.rounds), ("boot", 5));
        assert_eq!(options.libraries, ["ours", "libkrun"]);
        let (_, options) = parsed(&["boot", "-n", "2", "ours", "ours"]).unwrap();
        assert_eq!(options, Options { rounds: 2, libraries: vec!["ours".into(), "ours".into()] });
    }

    #[test]
    fn mistakes() {
        for wrong in [&[][..], &["boat"], &["boot", "--fast"], &["boot", "-n", "none"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_help_names_every_bench() {
        for bench in BENCHES {
            assert!(HELP.contains(&format!(" {} ", bench.name)), "{}", bench.name);
        }
    }
}
