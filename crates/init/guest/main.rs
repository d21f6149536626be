//! PID 1 of the guest: sets the guest up, runs the workload, reports how it ended, restarts the machine.
//!
//! A program of its own, compiled by the package's build script: no standard library and no C library, so that it is
//! small and starts at once. The decisions are in modules that it shares with the library; what is only here does
//! system calls.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]
#![allow(dead_code, unused_imports, reason = "shared modules also hold what only the host uses")]

extern crate alloc;

#[path = "../src/abi.rs"]
mod abi;
#[path = "../src/cmdline.rs"]
mod cmdline;
#[path = "../src/config.rs"]
mod config;
#[path = "../src/control/mod.rs"]
mod control;
#[path = "../src/env.rs"]
mod env;
#[path = "../src/errno.rs"]
mod errno;
#[path = "../src/netlink.rs"]
mod netlink;
#[path = "../src/plan.rs"]
mod plan;
#[path = "../src/ports.rs"]
mod ports;
#[path = "../src/reap.rs"]
mod reap;
#[path = "../src/rlimit.rs"]
mod rlimit;
#[path = "../src/search.rs"]
mod search;
#[path = "../src/workload.rs"]
mod workload;

mod arch;
mod channel;
mod console;
mod discover;
mod finish;
mod heap;
mod launch;
mod setup;
mod supervise;
mod sys;

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;

use abi::EXIT_SETUP;
use channel::Channel;
use config::{Bootstrap, Config, Warning};
use console::say;
use control::{Event, PROTOCOL_VERSION, Stage};
use env::Environment;
use errno::Errno;
use finish::{fail, fail_quietly, finish};
use launch::{Launch, Outcome};
use ports::Ports;
use reap::Supervisor;
use setup::{Failure, perform_all};
use workload::Workload;

/// Called by the start code with the initial stack pointer.
extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the start code passes the stack pointer of the first instruction.
    let (mut arguments, environment) = unsafe { sys::start_strings(stack) };
    if sys::process_id() != 1 {
        say("this program sets up and restarts the machine it runs on; it runs as process 1 only");
        sys::exit(EXIT_SETUP);
    }
    if !arguments.is_empty() {
        arguments.remove(0);
    }
    run(arguments, environment)
}

fn run(arguments: Vec<CString>, entries: Vec<CString>) -> ! {
    let mut env = Environment::new();
    for entry in entries {
        // Words without a name are not environment, whatever put them there.
        let _ = env.set(entry);
    }
    let bootstrap = Bootstrap::take(&mut env);
    let stdio_missing = finish::open_root();
    // Before the mounts, which may hide it; the failure is kept until there is a channel to report it on.
    let file = bootstrap.exec_file.as_ref().map(|path| sys::read_file(path, workload::MAX_FILE));
    let base = perform_all(&plan::base());
    if stdio_missing {
        let _ = finish::fill_stdio();
    }

    let ports = discover::ports(&bootstrap.ports);
    let mut channel = open_channel(&bootstrap, &ports);
    if let Some(channel) = &mut channel {
        channel.send(&Event::Hello { version: PROTOCOL_VERSION });
    }
    let config = base.and_then(|()| configure(arguments, env, file));
    match config {
        Ok(config) => start(&config, &ports, channel),
        Err(failure) => fail(channel, failure, EXIT_SETUP),
    }
}

fn open_channel(bootstrap: &Bootstrap, ports: &Ports) -> Option<Channel> {
    match (bootstrap.control_fd, &ports.control) {
        (Some(number), _) => Channel::inherited(number).ok(),
        (None, Some(node)) => Channel::open(node).ok(),
        (None, None) => None,
    }
}

fn configure(
    arguments: Vec<CString>,
    env: Environment,
    file: Option<sys::Result<Vec<u8>>>,
) -> Result<Config, Failure> {
    let file = file.map(decode).transpose()?;
    let (config, warnings) = Config::new(arguments, env, file);
    for warning in &warnings {
        say_warning(warning);
    }
    perform_all(&plan::workload(&config))?;
    Ok(config)
}

fn decode(file: sys::Result<Vec<u8>>) -> Result<Workload, Failure> {
    let failure = |errno: Option<Errno>, message: &str| Failure {
        stage: Stage::WorkloadFile,
        errno,
        message: String::from(message),
    };
    let bytes = file.map_err(|why| failure(Some(why), "read the workload file"))?;
    Workload::decode(&bytes).map_err(|why| failure(None, why.text()))
}

fn say_warning(warning: &Warning) {
    let (what, item) = match warning {
        Warning::Rlimit(item) => ("not a resource limit, skipped: ", item),
        Warning::EnvironmentEntry(item) => ("not an environment entry, skipped: ", item),
    };
    let mut text = String::from(what);
    text.push_str(&String::from_utf8_lossy(item));
    say(&text);
}

fn start(config: &Config, ports: &Ports, mut channel: Option<Channel>) -> ! {
    let launch = Launch::new(config, &ports.stdio);
    let outcome = if config.pid1 { Outcome::NotExecuted(launch.become_workload()) } else { launch.spawn() };
    let failure =
        |stage, why, message: &str| Failure { stage, errno: Some(why), message: String::from(message) };
    match outcome {
        Outcome::NotSpawned(why) => fail(channel, failure(Stage::Spawn, why, "create a process"), EXIT_SETUP),
        Outcome::NotExecuted(why) => {
            let failure = failure(Stage::Execute, why, "execute the program");
            fail_quietly(channel, failure, search::exit_code(why))
        }
        Outcome::Started(pid) => {
            if let Some(channel) = &mut channel {
                channel.send(&Event::Started { pid: pid.unsigned_abs() });
            }
            let end = supervise::until_end(Supervisor::new(pid), channel.as_mut());
            finish(channel, end.code)
        }
    }
}
