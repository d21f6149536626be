//! `krun_start_enter`: from a context to a running machine, and to the end of the process.

use std::sync::Arc;

use purlin_devices::virtio::fs::FsConfigError;
use rustix::thread::set_name;

use super::console::Added;
use super::guard::{Failure, call};
use super::rescue::Rescue;
use super::serial::AddedLine;
use super::stdio::Stdio;
use super::{control, exit, resident, running, serial, shutdown, signals, table};
use crate::config::{ConfigError, Console, VmConfig};
use crate::machine::BuildError;
use crate::vm::{Vm, VmError, VmExit};

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
        end_process(run(ctx_id).map_err(failed)?)
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

fn run(ctx_id: u32) -> Result<i32, Failure> {
    let mut context = table::take(ctx_id)?;
    let serial_inputs = context.serial_lines.iter().map(|line| line.input);
    let rescue = Rescue::new(context.consoles.descriptors().into_iter().chain(serial_inputs))?;
    let mut stdio = Stdio::capture()?;
    let added = context.consoles.added.iter().map(Added::open).collect::<Result<Vec<_>, _>>()?;
    let lines = serial::effective(&context.serial_lines)
        .iter()
        .map(AddedLine::open)
        .collect::<Result<Vec<_>, _>>()?;
    let implicit = match context.consoles.output.take() {
        _ if context.consoles.implicit_disabled => Console::Disabled,
        Some(path) => Console::file(path),
        None => stdio.console(),
    };
    stdio.occupy()?;
    let report_failure = context.missing_status_is_failure();
    let shutdown = context.shutdown.take();
    let control_socket = context.control_socket.take();
    let user = std::mem::take(&mut context.user);
    let config = added.into_iter().fold(context.into_config()?.console(implicit), VmConfig::add_console);
    let config = lines.into_iter().fold(config, VmConfig::serial_line);
    user.become_it()?;

    let _pipes = signals::BlockedPipe::new();
    let vm = Arc::new(config.build()?);
    control::serve(&vm, control_socket.as_deref())?;
    vm.start()?;
    running::insert(ctx_id, &vm);
    signals::relay(&vm, &rescue);
    if let Some(event) = shutdown {
        shutdown::relay(&vm, event);
    }
    let exit = wait(&vm)?;
    exit::say(&exit, report_failure);
    Ok(exit::code(&exit, report_failure))
}

/// Waits for the end of the machine, without the memory that only its start needed.
fn wait(vm: &Vm) -> Result<VmExit, VmError> {
    for wait in resident::WAITS {
        if let Some(exit) = vm.wait_timeout(wait)? {
            return Ok(exit);
        }
        resident::give_back();
    }
    vm.wait()
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
        BuildError::Config(ConfigError::CpuTemplate(_)) => libc::ENOTSUP,
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
