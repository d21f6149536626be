//! The workload as the host's words and its file ask for it, before it is interpreted.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use super::Warning;
use crate::env::Environment;
use crate::rlimit;
use crate::workload::Workload;

const ENV_PROGRAM: &str = "KRUN_INIT";
const ENV_WORKDIR: &str = "KRUN_WORKDIR";
const ENV_RLIMITS: &str = "KRUN_RLIMITS";

/// The same request from either source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub(super) program: Option<CString>,
    pub(super) args: Vec<CString>,
    pub(super) workdir: Option<CString>,
    pub(super) rlimits: Vec<Vec<u8>>,
    /// The environment: that of PID 1 with the file's entries in it.
    pub env: Environment,
}

impl Order {
    /// `args` are PID 1's own without its name, `env` its environment after
    /// [`Bootstrap::take`](super::Bootstrap::take).
    ///
    /// The workload file stands for what the kernel command line could not carry, so it replaces program, arguments,
    /// working directory and limits, and its environment entries count as words of the command line.
    pub fn new(args: Vec<CString>, env: Environment, file: Option<Workload>) -> (Self, Vec<Warning>) {
        match file {
            None => (Self::from_environment(args, env), Vec::new()),
            Some(file) => Self::from_file(file, env),
        }
    }

    fn from_environment(args: Vec<CString>, env: Environment) -> Self {
        let rlimits = env.get(ENV_RLIMITS).map_or(&[][..], CStr::to_bytes);
        Self {
            program: env.get(ENV_PROGRAM).map(CString::from),
            args,
            workdir: env.get(ENV_WORKDIR).map(CString::from),
            rlimits: rlimit::items(rlimits).map(<[u8]>::to_vec).collect(),
            env,
        }
    }

    fn from_file(file: Workload, mut env: Environment) -> (Self, Vec<Warning>) {
        let mut warnings = Vec::new();
        for entry in strings(file.env) {
            if let Err(entry) = env.set(entry) {
                warnings.push(Warning::EnvironmentEntry(entry.into_bytes()));
            }
        }
        let order = Self {
            program: file.program.and_then(|program| CString::new(program).ok()),
            args: strings(file.args),
            workdir: file.workdir.and_then(|path| CString::new(path).ok()),
            rlimits: file.rlimits,
            env,
        };
        (order, warnings)
    }
}

/// The workload decoder has already refused NUL bytes.
fn strings(items: Vec<Vec<u8>>) -> Vec<CString> {
    items.into_iter().filter_map(|item| CString::new(item).ok()).collect()
}
