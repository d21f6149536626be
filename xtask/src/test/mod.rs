//! `cargo xtask test`: every test there is, counted.

mod clients;
mod native;
mod rig_tests;
mod tee;
mod totals;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::args::{Arg, Args, unexpected};
use crate::cache::Cache;
use crate::cargo;
use crate::proc::say;
use crate::setup;

use totals::Totals;

/// Shown by `cargo xtask test --help`.
pub const HELP: &str = "\
cargo xtask test [--native-only | --rig-only] [--again] [FILTER...] [-- NEXTEST OPTION...]

Runs all tests, as CI does, and prints `N passed, N failed, N skipped` at the end: the workspace's tests and the replay
of the fuzz corpora (cargo-nextest, installed if missing), the documentation's examples, and the tests that need a
KVM that runs ordinary kernels, on this machine if it has one, else in the rig (cargo xtask setup, run if need be).
Fails if a test fails, and with CI=true also if one is skipped.

  --native-only   not the tests that need such a KVM; they count as skipped
  --rig-only      only those
  --again         what failed runs once more (in a new rig, if it needs one), if it is no more than five tests of either
                  kind; which tests passed only then is said before the last line. For a machine that nobody watches, on a
                  host that others may keep busy
  FILTER          only tests whose name contains it

A test that finds something absent prints a line `skipped: REASON` and counts as skipped. Tests that need a KVM that runs
ordinary kernels are `#[ignore]`d and live in integration tests called rig*; they find PURLIN_FW (libkrunfw),
PURLIN_ROOTFS (a busybox root directory), PURLIN_PREFIX (the library, installed) and PURLIN_KRUN_SYS_CLIENT (a client of it)
in the environment, and PURLIN_RIG=1 in the rig.
";

/// More failed tests than this are no accident, and not tried again.
const FEW: usize = 5;

/// Integration tests called so are for a KVM that runs ordinary kernels.
const RIG_PREFIX: &str = "rig";

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    without_native: bool,
    without_rig: bool,
    again: bool,
    filters: Vec<String>,
    nextest: Vec<String>,
}

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    let options = parse(args)?;
    let cache = Cache::open()?;
    let guest = setup::guest(&cache)?;
    let metadata = cargo::metadata()?;
    let (mut totals, mut late) = (Totals::default(), Vec::new());
    if !options.without_native {
        totals += native::all(&options, &metadata, &guest, &mut late)?;
    }
    if !options.without_rig {
        totals += rig_tests::all(&cache, &options, &metadata, &guest, &mut late)?;
    }
    let strict = std::env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1");
    if strict && totals.skipped > 0 {
        say("with CI=true no test may be skipped");
    }
    if !late.is_empty() {
        println!("passed at the second attempt only: {}", late.join(", "));
    }
    println!("{totals}");
    let good = totals.failed == 0 && !(strict && totals.skipped > 0);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(mut args: Args) -> Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = args.next_before_dashes()? {
        match arg {
            Arg::Positional(filter) => {
                options.filters.push(filter.into_string().ok().context("a filter is not UTF-8")?)
            }
            Arg::Option(name) => match name.as_str() {
                "--native-only" => options.without_rig = true,
                "--rig-only" => options.without_native = true,
                "--again" => options.again = true,
                _ => return Err(unexpected(&Arg::Option(name))),
            },
        }
    }
    options.nextest = args.rest()?;
    if options.without_native && options.without_rig {
        bail!("--native-only and --rig-only leave nothing to do");
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn parsed(words: &[&str]) -> Result<Options> {
        parse(Args::new(words.iter().map(OsString::from)))
    }

    #[test]
    fn filters_and_nextest_options_are_told_apart() {
        let options = parsed(&["--rig-only", "--again", "boot", "net", "--", "--no-capture", "-j1"]).unwrap();
        assert!(options.without_native && !options.without_rig && options.again);
        assert_eq!(options.filters, ["boot", "net"]);
        assert_eq!(options.nextest, ["--no-capture", "-j1"]);
        assert_eq!(parsed(&[]).unwrap(), Options::default());
    }

    #[test]
    fn mistakes() {
        assert!(parsed(&["--no-capture"]).is_err());
        assert!(parsed(&["--rig-only", "--native-only"]).is_err());
    }
}
