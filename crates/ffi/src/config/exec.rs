//! What runs in the guest.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::ConfigError;

/// A program with its arguments, environment, working directory and limits.
///
/// Values may hold any byte but NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    pub(crate) program: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<OsString>,
    pub(crate) workdir: Option<OsString>,
    pub(crate) rlimits: Vec<String>,
}

impl Exec {
    /// A program: a path in the guest, or a name searched in the guest's `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Exec { program: Some(program.into()), ..Default::default() }
    }

    /// Adds an argument (the program itself is argument 0 and not given here).
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. A later value for the same name wins.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let mut entry = name.into();
        entry.push("=");
        entry.push(value.into());
        self.env.push(entry);
        self
    }

    /// The working directory in the guest. Default `/`. A directory that is missing ends the machine with
    /// [`ExitReason::SetupFailed`](crate::ExitReason::SetupFailed).
    pub fn workdir(mut self, path: impl Into<OsString>) -> Self {
        self.workdir = Some(path.into());
        self
    }

    /// Sets a resource limit in the guest: the number of the resource (`RLIMIT_NOFILE` is 7), soft and hard
    /// limit; `u64::MAX` is no limit.
    pub fn rlimit(mut self, resource: u32, soft: u64, hard: u64) -> Self {
        self.rlimits.push(format!("{resource}={soft}:{hard}"));
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let values = self.program.iter().chain(&self.args).chain(&self.env).chain(&self.workdir);
        for value in values {
            if value.as_bytes().contains(&0) {
                return Err(ConfigError::field("exec", format!("{value:?}"), "remove the NUL byte"));
            }
        }
        if self.program.as_ref().is_some_and(|p| p.is_empty()) {
            return Err(ConfigError::field("exec", "\"\"", "name a program"));
        }
        if let Some(entry) = self.env.iter().find(|e| e.as_bytes().first() == Some(&b'=')) {
            return Err(ConfigError::field("exec", format!("{entry:?}"), "environment names are not empty"));
        }
        Ok(())
    }

    pub(crate) fn workload(&self) -> purlin_init::workload::Workload {
        let bytes = |list: &[OsString]| list.iter().map(|v| v.clone().into_vec()).collect();
        purlin_init::workload::Workload {
            program: self.program.clone().map(OsString::into_vec),
            args: bytes(&self.args),
            env: bytes(&self.env),
            workdir: self.workdir.clone().map(OsString::into_vec),
            rlimits: self.rlimits.iter().map(|r| r.clone().into_bytes()).collect(),
        }
    }
}
