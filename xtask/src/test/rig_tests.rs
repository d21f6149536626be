//! The tests that need a KVM that runs ordinary kernels: on this machine, else in one start of the rig.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::cargo::{self, Metadata};
use crate::proc::{say, shell_quote};
use crate::setup::{self, Guest};
use crate::{dist, host, rig};

use super::tee::Tee;
use super::totals::{Libtest, Totals};
use super::{FEW, Options, RIG_PREFIX, clients};

const SCRIPT: &str = include_str!("../../rig/tests.sh");

/// How long all of them may take in the rig: several times what they take on two processors.
const LIMIT: Duration = Duration::from_secs(1800);

/// Tests at once, also in the rig with its one CPU: some wait more than they work.
const THREADS: u32 = 2;

/// A test program and the directory it runs in, that of its package as with cargo.
struct Program {
    dir: PathBuf,
    file: PathBuf,
}

/// Builds and runs them; with `--again`, those that failed a second time, in a rig of their own. `late` gets those that
/// passed only then.
pub fn all(
    cache: &Cache,
    options: &Options,
    metadata: &Metadata,
    guest: &Guest,
    late: &mut Vec<String>,
) -> Result<Totals> {
    let (programs, library) = build(metadata)?;
    if programs.is_empty() {
        say("this workspace has no tests for the rig");
        return Ok(Totals::default());
    }
    let clients =
        clients::prepare(cache, &library.context("cargo built no shared library")?, &metadata.target_dir)?;
    let here = match host::runner(metadata)? {
        Some(runner) => host::runs_stock_kernels(&runner)?,
        None => false,
    };
    let attempt = |filters: &[String]| {
        let job = |work: &Path| job(work, guest, &clients.environment(), filters, &programs);
        let (results, succeeded) = run(cache, here, &job)?;
        let totals = results.totals(programs.len() as u64, succeeded);
        anyhow::Ok((results, totals))
    };
    let (results, totals) = attempt(&options.filters)?;
    let failed = if options.again { results.few_failed(&totals) } else { &[] };
    if failed.is_empty() {
        return Ok(totals);
    }
    say(format_args!("a second attempt for {}", failed.join(", ")));
    let (_, second) = attempt(&[&["--exact".to_owned()], failed].concat())?;
    let after = second.after(totals);
    if after.failed == 0 {
        late.extend_from_slice(failed);
    }
    Ok(after)
}

/// Runs the job on this machine, or in the rig. Also says whether it succeeded.
fn run(cache: &Cache, here: bool, job: &dyn Fn(&Path) -> String) -> Result<(Results, bool)> {
    let mut results = Results::default();
    let mut tee = Tee::new(io::stdout(), |line: &str| results.line(line));
    let succeeded = if here {
        say("testing on this machine's KVM");
        let work = tempfile::tempdir()?;
        let mut bash = Command::new("bash");
        bash.args(["-c", &job(work.path())]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut bash = bash.spawn().context("cannot run `bash`")?;
        io::copy(&mut bash.stdout.take().context("bash has no stdout")?, &mut tee)?;
        bash.wait()?.success()
    } else {
        say("testing in the rig, an emulated machine");
        let machine = setup::machine(cache)?;
        let options = rig::Options { limit: LIMIT, ..rig::Options::default() };
        let script = format!("export PURLIN_RIG=1\n{}", job(Path::new("/run/purlin-test")));
        rig::run(&machine, &options, &script, &mut tee)? == 0
    };
    Ok((results, succeeded))
}

/// The programs, and the shared library that was built with them.
fn build(metadata: &Metadata) -> Result<(Vec<Program>, Option<PathBuf>)> {
    let (mut programs, mut library) = (Vec::new(), None);
    for target in &metadata.targets {
        if target.is("test") && target.name.starts_with(RIG_PREFIX) {
            let package = ["--package", &target.package, "--test", &target.name];
            let args =
                [["test", "--no-run", "--release", cargo::QUICK, "--all-features"].as_slice(), &package]
                    .concat();
            let start = format!("{}-", target.name);
            let is_it = |file: &PathBuf| {
                file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
            };
            let files = cargo::build(&args)?;
            library = cargo::named(files.clone(), dist::BUILT).ok().or(library);
            let file = files.into_iter().rfind(is_it);
            let Some(file) = file else { bail!("cargo built no test program {}", target.name) };
            programs.push(Program { dir: target.dir.clone(), file });
        }
    }
    Ok((programs, library))
}

fn job(
    work: &Path,
    guest: &Guest,
    environment: &[(&str, &Path)],
    filters: &[String],
    programs: &[Program],
) -> String {
    let mut words = vec![shell_quote(&work.to_string_lossy())];
    for path in [&guest.firmware, &guest.root, &guest.stock] {
        words.push(shell_quote(&path.to_string_lossy()));
    }
    words.push(THREADS.to_string());
    words.extend(filters.iter().map(|filter| shell_quote(filter)));
    words.push("--".into());
    for program in programs {
        words.push(shell_quote(&program.dir.to_string_lossy()));
        words.push(shell_quote(&program.file.to_string_lossy()));
    }
    let exports = environment.iter().map(|(name, value)| {
        let value = shell_quote(&value.to_string_lossy());
        format!("export {name}={value}\n")
    });
    format!("{}set -- {}\n{SCRIPT}", exports.collect::<String>(), words.join(" "))
}

/// What the script's output says. A program that ends without a result has crashed: that is one failure more.
#[derive(Default)]
struct Results {
    libtest: Libtest,
    failed: Vec<String>,
    has_result: bool,
    ended: u64,
    crashed: u64,
}

impl Results {
    fn line(&mut self, line: &str) {
        self.libtest.line(line);
        if line.starts_with("test result: ") {
            self.has_result = true;
        } else if let Some(status) = line.strip_prefix("xtask-ended ") {
            self.ended += 1;
            self.crashed += u64::from(status != "0" && !self.has_result);
            self.has_result = false;
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        }
    }

    /// The tests that failed, if that is all that went wrong and they are few.
    fn few_failed(&self, totals: &Totals) -> &[String] {
        let named = self.failed.len() as u64;
        // What a program that crashed has not run is in neither.
        let all = [self.libtest.totals().failed, totals.failed] == [named; 2];
        if all && self.failed.len() <= FEW { &self.failed } else { &[] }
    }

    /// The totals of `programs` test programs. A program that did not even end counts as a failure too.
    fn totals(&self, programs: u64, succeeded: bool) -> Totals {
        let mut totals = self.libtest.totals();
        totals.failed += self.crashed + programs.saturating_sub(self.ended);
        if !succeeded && totals.failed == 0 {
            totals.failed = 1;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: &[&str], programs: u64, succeeded: bool) -> Totals {
        let mut results = Results::default();
        lines.iter().for_each(|line| results.line(line));
        results.totals(programs, succeeded)
    }

    const GOOD: &str =
        "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 1s";
    const BAD: &str =
        "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";

    #[test]
    fn results_add_up() {
        let lines = [GOOD, "xtask-ended 0", BAD, "xtask-ended 101"];
        assert_eq!(totals(&lines, 2, false), Totals { passed: 3, failed: 1, skipped: 0 });
    }

    #[test]
    fn whatever_did_not_report_has_failed() {
        // One crashed, one was never reached because the machine died.
        let lines = [GOOD, "xtask-ended 0", "xtask-ended 139"];
        assert_eq!(totals(&lines, 3, false).failed, 2);
        assert_eq!(totals(&[GOOD, "xtask-ended 0"], 1, false).failed, 1);
        assert_eq!(totals(&[], 1, true).failed, 1);
    }

    #[test]
    fn only_a_few_named_tests_are_tried_again() {
        let after = |lines: &[&str]| {
            let mut results = Results::default();
            lines.iter().for_each(|line| results.line(line));
            results.few_failed(&results.totals(1, false)).to_vec()
        };
        let name = "test a::b ... FAILED";
        assert_eq!(after(&["test a::c ... ok", name, BAD, "xtask-ended 101"]), ["a::b"]);
        // Without a name, with a crash, and too many.
        assert!(after(&[BAD, "xtask-ended 101"]).is_empty());
        assert!(after(&[name, "xtask-ended 139"]).is_empty());
        assert!(after(&[name, BAD, "xtask-ended 101", "xtask-ended 1"]).is_empty());
        let many = "test result: FAILED. 1 passed; 6 failed; 0 ignored; 0 measured; 0 filtered out";
        assert!(after(&[&[name; 6], [many, "xtask-ended 101"].as_slice()].concat()).is_empty());
    }

    #[test]
    fn the_job_is_a_script_that_bash_accepts() {
        let guest = Guest { firmware: "/f w".into(), root: "/r".into(), stock: "/s".into() };
        let programs = [Program { dir: "/d".into(), file: "/it's".into() }];
        let environment = [("PURLIN_PREFIX", Path::new("/p"))];
        let script = job(Path::new("/w"), &guest, &environment, &["a b".into()], &programs);
        let start = "export PURLIN_PREFIX='/p'\nset -- '/w' '/f w' '/r' '/s' 2 'a b' -- '/d' '/it'\\''s'\n";
        assert!(script.starts_with(start), "{script}");
        assert!(Command::new("bash").args(["-n", "-c", &script]).status().unwrap().success());
    }
}
