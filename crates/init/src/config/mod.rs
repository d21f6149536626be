//! What PID 1 is asked to do: its arguments, its environment and its files, made into one value.

mod bootstrap;
mod order;
mod warning;

#[cfg(test)]
mod tests;

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

pub use bootstrap::Bootstrap;
pub use order::Order;
pub use warning::Warning;

use crate::env::{Environment, name_of};
use crate::file_config::{FileConfig, User};
use crate::rlimit::Rlimit;

const ENV_PID1: &str = "KRUN_INIT_PID1";
const DEFAULT_PROGRAM: &CStr = c"/bin/sh";
const DEFAULT_HOSTNAME: &CStr = c"localhost";
/// Names that the configuration file sets although they are set: the kernel has values of its own for them.
const KERNEL_NAMES: [&[u8]; 2] = [b"HOME", b"TERM"];

/// What to set up and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The command, program first; never empty.
    pub command: Vec<CString>,
    /// The workload's environment.
    pub env: Environment,
    /// The workload's working directory, if not `/`.
    pub workdir: Option<CString>,
    /// The workload's resource limits, in the order they are set.
    pub rlimits: Vec<Rlimit>,
    /// Who the workload is.
    pub user: User,
    /// The machine's name.
    pub hostname: CString,
    /// Places of which the first that nothing is mounted on gets a tmpfs.
    pub tmpfs: Vec<CString>,
    /// Whether the workload takes PID 1's place, so that nobody reaps, stops or reports.
    pub pid1: bool,
}

impl Config {
    /// Puts together what the host's words and the configuration file say. The words come first, but for `HOME` and
    /// `TERM`; the file's command counts if the words name no program, and before the kernel's arguments.
    pub fn new(order: Order, file: FileConfig) -> (Self, Vec<Warning>) {
        let Order { program, args, workdir, rlimits: limits, mut env } = order;
        let mut warnings = Vec::new();
        for entry in file.env {
            let Some(name) = name_of(entry.as_bytes()) else {
                warnings.push(Warning::EnvironmentEntry(entry.into_bytes()));
                continue;
            };
            if KERNEL_NAMES.contains(&name) || !env.has(name) {
                // It has a name.
                let _ = env.set(entry);
            }
        }
        if let Some(home) = env.get("KRUN_HOME").map(CString::from) {
            env.set_value("HOME", &home);
        }
        if let Some(term) = env.get("KRUN_TERM").map(CString::from) {
            env.set_value("TERM", &term);
        }
        let mut rlimits = Vec::new();
        for item in limits {
            match Rlimit::parse(&item) {
                Some(limit) => rlimits.push(limit),
                None => warnings.push(Warning::Rlimit(item)),
            }
        }
        let config = Self {
            command: command(program, args, file.command),
            workdir: workdir.filter(|path| !path.is_empty()).or(file.workdir),
            rlimits,
            user: file.user,
            hostname: env.get("HOSTNAME").unwrap_or(DEFAULT_HOSTNAME).into(),
            tmpfs: file.tmpfs,
            pid1: env.get(ENV_PID1).is_some_and(|value| value.to_bytes().starts_with(b"1")),
            env,
        };
        (config, warnings)
    }
}

/// The program with the arguments, else the file's command, else the arguments alone, else a shell.
fn command(program: Option<CString>, mut args: Vec<CString>, file: Vec<CString>) -> Vec<CString> {
    if let Some(program) = program.filter(|program| !program.is_empty()) {
        args.insert(0, program);
    } else if !file.is_empty() {
        return file;
    } else if args.is_empty() {
        args.push(DEFAULT_PROGRAM.into());
    }
    args
}
