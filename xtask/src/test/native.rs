//! The tests that run on any machine.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::{self, Metadata, cargo};
use crate::proc::{self, say};
use crate::setup::Guest;

use super::tee::Tee;
use super::totals::{self, Libtest, Totals};
use super::{FEW, Options, RIG_PREFIX};

/// The workspace that holds the fuzz targets, and the package in it whose tests replay their corpora.
const FUZZ_DIR: &str = "fuzz";
const FUZZ_PACKAGE: &str = "purlin-fuzz-common";

/// nextest ends so when tests failed.
const TESTS_FAILED: i32 = 100;

/// Runs them all; with `--again`, those that failed a second time. `late` gets those that passed only then.
pub fn all(options: &Options, metadata: &Metadata, guest: &Guest, late: &mut Vec<String>) -> Result<Totals> {
    cargo::need_subcommand("cargo-nextest")?;
    let root = cargo::workspace();
    let workspace = Nextest { selection: &["--workspace", "--all-features"], options, guest };
    let mut totals = workspace.run(&root, late)?;
    totals.skipped += workspace.ignored()?;
    let fuzz_target = format!("--target-dir={}", metadata.target_dir.join("fuzz-common").display());
    let fuzz_dir = root.join(FUZZ_DIR);
    let manifest = format!("--manifest-path={}", fuzz_dir.join("Cargo.toml").display());
    let fuzz = [&manifest, "--package", FUZZ_PACKAGE, &fuzz_target];
    totals += Nextest { selection: &fuzz, options, guest }.run(&fuzz_dir, late)?;
    totals += documentation(options)?;
    Ok(totals)
}

/// One selection of tests for nextest.
struct Nextest<'a> {
    selection: &'a [&'a str],
    options: &'a Options,
    guest: &'a Guest,
}

impl Nextest<'_> {
    fn command(&self, verb: &str) -> Command {
        let mut command = cargo(["nextest", verb]);
        command.args(self.selection).args(["--profile", "xtask", "--config-file"]);
        command.arg(cargo::workspace().join("xtask/nextest.toml")).args(&self.options.filters);
        command.env("PURLIN_FW", &self.guest.firmware).env("PURLIN_ROOTFS", &self.guest.root);
        command
    }

    /// Runs the tests that are not ignored, of the workspace in `root`.
    fn run(&self, root: &Path, late: &mut Vec<String>) -> Result<Totals> {
        // nextest's store is there whatever the target directory (its `store.dir`).
        let report = root.join("target/nextest/xtask/junit.xml");
        // A report of an earlier run must not be taken for this one's.
        if report.exists() {
            fs::remove_file(&report)?;
        }
        let mut command = self.command("run");
        let retries = if self.options.again { "1" } else { "0" };
        command.args(["--no-tests", "pass", "--retries", retries]);
        command.args(&self.options.nextest).stdin(Stdio::null());
        let status = proc::status(&mut command)?;
        if !status.success() && status.code() != Some(TESTS_FAILED) {
            bail!("cargo nextest could not run the tests: {status}");
        }
        match fs::read_to_string(&report) {
            Ok(report) => {
                let totals = totals::junit(&report).context("nextest's report is not as expected")?;
                let names = totals::passed_late(&report);
                let totals = totals.judged(names.len() as u64, FEW as u64);
                late.extend(names);
                Ok(totals)
            }
            // Without a test to run there is no report.
            Err(error) if error.kind() == io::ErrorKind::NotFound && status.success() => {
                Ok(Totals::default())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", report.display())),
        }
    }

    /// Counts the ignored tests, and names them; the rig's are left to the rig if that runs.
    fn ignored(&self) -> Result<u64> {
        let mut command = self.command("list");
        command.args(["--run-ignored", "only", "--message-format", "json"]);
        let listing = proc::quiet("listing ignored tests", &mut command)?;
        let listing = serde_json::from_slice(&listing).context("nextest's list is not JSON")?;
        let names =
            ignored_tests(&listing, self.options.without_rig).context("nextest's list is not as expected")?;
        for name in &names {
            say(format_args!("skipped, because ignored: {name}"));
        }
        Ok(names.len() as u64)
    }
}

fn ignored_tests(listing: &Value, with_rig: bool) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for suite in listing["rust-suites"].as_object()?.values() {
        let (kind, binary) = (suite["kind"].as_str()?, suite["binary-name"].as_str()?);
        if kind == "test" && binary.starts_with(RIG_PREFIX) && !with_rig {
            continue;
        }
        for (name, case) in suite["testcases"].as_object()? {
            if case["ignored"] == true && case["filter-match"]["status"] == "matches" {
                names.push(format!("{} {name}", suite["binary-id"].as_str()?));
            }
        }
    }
    Some(names)
}

/// Runs the examples in the documentation.
fn documentation(options: &Options) -> Result<Totals> {
    let mut command = cargo(["test", "--doc", "--workspace", "--all-features", "--no-fail-fast", "--"]);
    command.args(&options.filters).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run `cargo`")?;
    let mut from = child.stdout.take().context("cargo has no stdout")?;
    let mut libtest = Libtest::default();
    io::copy(&mut from, &mut Tee::new(io::stdout(), |line: &str| libtest.line(line)))?;
    let status = child.wait()?;
    let totals = libtest.totals();
    if !status.success() && totals.failed == 0 {
        bail!("cargo could not run the documentation's examples: {status}");
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_tests_of_the_rig_are_left_to_it() {
        let case =
            |ignored, status| serde_json::json!({ "ignored": ignored, "filter-match": { "status": status } });
        let suite = |kind, name: &str, cases| serde_json::json!({ "kind": kind, "binary-name": name, "binary-id": name, "testcases": cases });
        let listing = serde_json::json!({ "rust-suites": {
            "a": suite("lib", "rigid", serde_json::json!({ "slow": case(true, "matches"), "quick": case(false, "mismatch") })),
            "b": suite("test", "rig_boot", serde_json::json!({ "boots": case(true, "matches"), "other": case(true, "mismatch") })),
        }});
        assert_eq!(ignored_tests(&listing, false).unwrap(), ["rigid slow"]);
        assert_eq!(ignored_tests(&listing, true).unwrap(), ["rigid slow", "rig_boot boots"]);
        assert!(ignored_tests(&serde_json::json!({}), true).is_none());
    }
}
