//! `cargo xtask deny`: licences, duplicates and origins of all dependencies.

use std::process::ExitCode;

use anyhow::Result;

use crate::args::Args;
use crate::cargo::{self, cargo};
use crate::proc;

/// Shown by `cargo xtask deny --help`.
pub const HELP: &str = "\
cargo xtask deny

Checks the licences, duplicates and origins of all dependencies against deny.toml, with cargo-deny (installed if missing).
";

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    args.finish()?;
    cargo::need_subcommand("cargo-deny")?;
    let status =
        proc::status(&mut cargo(["deny", "--all-features", "check", "licenses", "bans", "sources"]))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
