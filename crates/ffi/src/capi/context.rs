//! What the calls on a context have asked for.

use std::ffi::OsString;

use purlin_vmm_core::bundle::{Bundle, BundleError};

use crate::config::{Exec, Share, VmConfig};

/// A virtual machine as C calls describe it, until it is started. Plain data but for the kernel's library.
pub(super) struct Context {
    /// libkrunfw, loaded when the context was made: its caller may start the machine in another mount
    /// namespace, where the library is not to be found.
    pub firmware: Result<Bundle, BundleError>,
    pub vcpus: u8,
    pub ram_mib: u32,
    pub shares: Vec<Share>,
    pub exec: ExecCalls,
}

/// The program and its surroundings, set by several calls.
#[derive(Debug, Default)]
pub(super) struct ExecCalls {
    pub program: Option<String>,
    pub args: Vec<String>,
    /// `NAME=value`. Inherited entries may have any bytes.
    pub env: Vec<OsString>,
    pub workdir: Option<String>,
    pub rlimits: Vec<String>,
}

impl Context {
    pub fn new(firmware: Result<Bundle, BundleError>) -> Self {
        Context { firmware, vcpus: 1, ram_mib: 128, shares: Vec::new(), exec: ExecCalls::default() }
    }

    /// The machine described, but for its console.
    pub fn into_config(self) -> Result<VmConfig, BundleError> {
        let config = VmConfig::new()
            .vcpus(self.vcpus.into())
            .memory_mib(self.ram_mib.into())
            .opened_bundle(self.firmware?)
            .exec(self.exec.into_exec());
        Ok(self.shares.into_iter().fold(config, VmConfig::share))
    }
}

impl ExecCalls {
    fn into_exec(self) -> Exec {
        Exec {
            program: self.program.map(Into::into),
            args: self.args.into_iter().map(Into::into).collect(),
            env: self.env,
            workdir: self.workdir.map(Into::into),
            rlimits: self.rlimits,
        }
    }
}
