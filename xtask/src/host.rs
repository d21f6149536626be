//! What this machine's own KVM can do.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{self, Metadata};
use crate::proc::{self, say, tail};

const PROGRAM: &str = "purlin-run";

/// Builds the example program that runs a command in a VM; `None` if this workspace has none.
pub fn runner(metadata: &Metadata) -> Result<Option<PathBuf>> {
    let Some(target) = metadata.targets.iter().find(|target| target.name == PROGRAM) else { return Ok(None) };
    let kind = if target.is("example") { "--example" } else { "--bin" };
    let files =
        cargo::build(&["build", "--release", cargo::QUICK, "--package", &target.package, kind, PROGRAM])?;
    cargo::named(files, PROGRAM).map(Some)
}

/// Whether guests with ordinary kernels run on this machine, by our library's own probe; says why if not.
pub fn runs_stock_kernels(runner: &PathBuf) -> Result<bool> {
    let mut command = Command::new(runner);
    let output = proc::slow("probing this machine's KVM", || command.arg("--probe").output());
    let output = output.with_context(|| format!("cannot run {}", runner.display()))?;
    let reason = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        say(format_args!("this machine cannot run stock kernels: {}", tail(reason.trim(), 3)));
    }
    Ok(output.status.success())
}
