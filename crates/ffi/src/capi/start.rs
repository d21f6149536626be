//! `krun_start_enter`: from a context to a running machine, and to the end of the process.

use std::sync::Arc;

use purlin_devices::virtio::fs::FsConfigError;
use rustix::thread::set_name;

use super::guard::{Failure, call};
use super::signals;
use super::stdio::Stdio;
use super::table;
use crate::config::ConfigError;
use crate::machine::BuildError;
use crate::vm::{VmError, VmExit};

/// Starts the machine and ends the process with the guest's exit code. Returns only if the machine cannot
/// be started; the context is gone then, too.
#[unsafe(no_mangle)]
pub extern "C" fn krun_start_enter(ctx_id: u32) -> i32 {
    call(|| {
        name_thread();
        let failed = |failure: Failure| {
            log::error!("the virtual machine is not started: {}", failure.text);
            failure
        };
        let exit = run(ctx_id).map_err(failed)?;
        log::info!("{exit:?}: {}", exit.reason);
        end_process(exit.code)
    })
}

/// What `ps` shows.
fn name_thread() {
    let name = match std::env::var("HOSTNAME") {
        Ok(host) => format!("VM:{host}"),
        Err(_) => "libkrun VM".to_owned(),
    };
    if let Ok(name) = std::ffi::CString::new(name) {
        // Only a name; the kernel cuts it to 15 bytes.
        let _ = set_name(&name);
    }
}

fn run(ctx_id: u32) -> Result<VmExit, Failure> {
    let context = table::take(ctx_id)?;
    let mut stdio = Stdio::capture()?;
    let config = context.into_config().map_err(|e| {
        // Not to the log alone: nobody may have asked for one, and this is what goes wrong first.
        eprintln!("libkrun: {e}");
        Failure::new(libc::ENOENT, e.to_string())
    })?;
    let pipes = signals::BlockedPipe::new();
    let vm = Arc::new(config.console(stdio.console()).build()?);
    vm.start()?;
    signals::relay(&vm);
    let exit = vm.wait()?;
    drop(pipes);
    Ok(exit)
}

/// The only place of this library that ends a process; that it does is the contract of `krun_start_enter`.
fn end_process(code: i32) -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(code & 0xff) }
}

impl From<BuildError> for Failure {
    fn from(e: BuildError) -> Self {
        Failure::new(errno(&e), chain(&e))
    }
}

impl From<VmError> for Failure {
    fn from(e: VmError) -> Self {
        Failure::invalid(chain(&e))
    }
}

fn errno(e: &BuildError) -> i32 {
    match e {
        BuildError::Host(host) => host.errno(),
        BuildError::Config(ConfigError::Share { source: FsConfigError::Source { source, .. }, .. }) => {
            source.raw_os_error().unwrap_or(libc::EINVAL)
        }
        _ => libc::EINVAL,
    }
}

/// The error and what caused it, but for causes whose text an outer one repeats.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let inner = e.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = e.source();
    }
    text
}
