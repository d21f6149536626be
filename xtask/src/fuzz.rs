//! `cargo xtask fuzz`: the fuzz targets, each for a while.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::args::{Arg, Args, unexpected};
use crate::cargo::{self, cargo};
use crate::proc::{self, say};

/// Shown by `cargo xtask fuzz --help`.
pub const HELP: &str = "\
cargo xtask fuzz [TARGET...] [--seconds N]

Runs each fuzz target, or only those named, for N seconds (60) with cargo-fuzz (installed if missing) and the address
sanitizer, on the installed compiler; it needs a C++ compiler. Starts from fuzz/corpus/TARGET; what it finds beyond that is
kept under the target directory. An input that breaks a target is written to fuzz/artifacts/TARGET.

The committed corpora are replayed by `cargo xtask test`, without any of this.
";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u32,
    targets: Vec<String>,
}

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    let options = parse(args)?;
    let fuzz_dir = cargo::workspace().join("fuzz");
    let targets = choose(options.targets, all_targets(&fuzz_dir)?)?;
    cargo::need_subcommand("cargo-fuzz")?;
    let build_dir = cargo::metadata()?.target_dir.join("fuzz");
    let mut broken = Vec::new();
    for target in &targets {
        say(format_args!("fuzzing {target} for {} s", options.seconds));
        let found = build_dir.join("corpus").join(target);
        fs::create_dir_all(&found)?;
        // The first corpus directory is the one that libFuzzer adds to.
        let corpora = [found, fuzz_dir.join("corpus").join(target)];
        if !proc::status(&mut command(&fuzz_dir, &build_dir, target, &corpora, options.seconds))?.success() {
            broken.push(target.as_str());
        }
    }
    if broken.is_empty() {
        println!("clean: {}", targets.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    println!("broken: {}; see above and fuzz/artifacts", broken.join(" "));
    Ok(ExitCode::FAILURE)
}

fn parse(mut args: Args) -> Result<Options> {
    let mut options = Options { seconds: 60, targets: Vec::new() };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Option(name) if name == "--seconds" => options.seconds = args.number()?,
            Arg::Positional(target) => {
                options.targets.push(target.into_string().ok().context("a target is not UTF-8")?)
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(options)
}

fn all_targets(fuzz_dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(fuzz_dir.join("fuzz_targets")).context("no fuzz targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn choose(wanted: Vec<String>, all: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(" "));
    }
    Ok(if wanted.is_empty() { all } else { wanted })
}

fn command(fuzz_dir: &Path, build_dir: &Path, target: &str, corpora: &[PathBuf], seconds: u32) -> Command {
    let mut command = cargo(["fuzz", "run", "--fuzz-dir"]);
    command.arg(fuzz_dir).arg("--target-dir").arg(build_dir).arg(target).args(corpora);
    command.args(["--", &format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=1024"]);
    // The sanitizer and its coverage are unstable compiler flags; this lets a stable compiler take them.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn targets_and_seconds() {
        let words = ["section_decode", "--seconds", "5"].map(OsString::from);
        assert_eq!(
            parse(Args::new(words)).unwrap(),
            Options { seconds: 5, targets: vec!["section_decode".into()] }
        );
        assert!(parse(Args::new(["--minutes".into()])).is_err());
    }

    #[test]
    fn only_targets_that_exist() {
        let all = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(choose(vec![], all()).unwrap(), ["a", "b"]);
        assert_eq!(choose(vec!["b".into()], all()).unwrap(), ["b"]);
        assert!(choose(vec!["c".into()], all()).unwrap_err().to_string().contains("a b"));
    }
}
