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
#[path = "../src/ca.rs"]
mod ca;
#[path = "../src/clock.rs"]
mod clock;
#[path = "../src/cmdline.rs"]
mod cmdline;
#[path = "../src/config/mod.rs"]
mod config;
#[path = "../src/control/mod.rs"]
mod control;
#[path = "../src/dhcp/mod.rs"]
mod dhcp;
#[path = "../src/env.rs"]
mod env;
#[path = "../src/errno.rs"]
mod errno;
#[path = "../src/file_config/mod.rs"]
mod file_config;
#[path = "../src/json/mod.rs"]
mod json;
#[path = "../src/mounts.rs"]
mod mounts;
#[path = "../src/net.rs"]
mod net;
#[path = "../src/netlink.rs"]
mod netlink;
#[path = "../src/options.rs"]
mod options;
#[path = "../src/plan/mod.rs"]
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
mod files;
mod finish;
mod heap;
mod interfaces;
mod launch;
mod lease;
mod setup;
mod storage;
mod supervise;
mod sys;

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;

use abi::EXIT_SETUP;
use channel::Channel;
use config::{Bootstrap, Config, Order, Warning};
use console::{say, trace, with_error, with_name};
use control::{Event, PROTOCOL_VERSION, Stage};
use env::Environment;
use errno::Errno;
use file_config::FileConfig;
use finish::{fail, fail_quietly, finish};
use launch::{Launch, NotRun, Outcome};
use lease::Dhcp;
use options::{ConfigPath, Network, Options};
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
    console::set_tracing(bootstrap.trace);
    trace("start");
    let stdio_missing = finish::open_root();
    // Before the mounts, which may hide it; the failure is kept until there is a channel to report it on.
    let order = read_order(&bootstrap, arguments, env);
    let base = prepare(order);
    if stdio_missing {
        let _ = finish::fill_stdio();
    }

    let ports = discover::ports(&bootstrap.ports);
    let mut channel = open_channel(&bootstrap, &ports);
    if let Some(channel) = &mut channel {
        channel.send(&Event::Hello { version: PROTOCOL_VERSION });
        // Otherwise it goes with the next message: every write is work for the host.
        if base.as_ref().is_ok_and(|(_, options)| options.network == Network::Dhcp) {
            channel.flush();
        }
    }
    match base.and_then(|(order, options)| configure(order, &options)) {
        Ok((config, dhcp)) => start(&config, &ports, channel, dhcp),
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

/// The steps before anything is known of the workload. They are made, without what the host asks for, also if that cannot
/// be read: the control channel's port needs the file systems.
fn prepare(order: Result<Order, Failure>) -> Result<(Order, Options), Failure> {
    let mut order = match order {
        Ok(order) => order,
        Err(failure) => {
            let (nothing, _) = Options::take(&mut Environment::new());
            return perform_all(&plan::base(&nothing)).and(Err(failure));
        }
    };
    // Words in the workload file count too, as far as they are not needed to read it.
    let late = Bootstrap::take(&mut order.env);
    console::set_tracing(console::is_tracing() || late.trace);
    let (options, warnings) = Options::take(&mut order.env);
    say_all(&warnings);
    perform_all(&plan::base(&options))?;
    Ok((order, options))
}

/// What the host's words and the workload file ask for.
fn read_order(bootstrap: &Bootstrap, arguments: Vec<CString>, env: Environment) -> Result<Order, Failure> {
    let failure = |errno: Option<Errno>, message: &str| Failure {
        stage: Stage::WorkloadFile,
        errno,
        message: String::from(message),
    };
    let file = match &bootstrap.exec_file {
        None => None,
        Some(path) => {
            let bytes = sys::read_file(path, workload::MAX_FILE);
            let bytes = bytes.map_err(|why| failure(Some(why), "read the workload file"))?;
            Some(Workload::decode(&bytes).map_err(|why| failure(None, why.text()))?)
        }
    };
    let (order, warnings) = Order::new(arguments, env, file);
    say_all(&warnings);
    Ok(order)
}

/// The network's server, the configuration file, and the steps that depend on them.
fn configure(order: Order, options: &Options) -> Result<(Config, Option<Dhcp>), Failure> {
    let dhcp = if options.network == Network::Dhcp { Dhcp::acquire() } else { None };
    let file = read_config(&options.config)?;
    let (config, warnings) = Config::new(order, file);
    say_all(&warnings);
    perform_all(&plan::workload(&config, options))?;
    Ok((config, dhcp))
}

/// Reads the configuration file. One that cannot be used is named and ignored, but for a user that is not understood.
fn read_config(config: &ConfigPath) -> Result<FileConfig, Failure> {
    let bytes = match sys::read_file(&config.path, file_config::MAX_FILE) {
        Ok(bytes) => bytes,
        Err(Errno::NOENT) if !config.asked => return Ok(FileConfig::default()),
        Err(why) => {
            say(&with_error(&with_name("read", &config.path), why));
            return Ok(FileConfig::default());
        }
    };
    match file_config::read(&bytes) {
        Ok((file, problems)) => {
            problems.into_iter().for_each(|problem| say(&Warning::ConfigKey(problem).text()));
            match file.user_problem {
                None => Ok(file),
                Some(problem) => {
                    let message = Warning::ConfigKey(problem).text();
                    Err(Failure { stage: Stage::ConfigFile, errno: None, message })
                }
            }
        }
        Err(error) => {
            say(&Warning::ConfigFile(error).text());
            Ok(FileConfig::default())
        }
    }
}

fn say_all(warnings: &[Warning]) {
    warnings.iter().for_each(|warning| say(&warning.text()));
}

fn start(config: &Config, ports: &Ports, mut channel: Option<Channel>, dhcp: Option<Dhcp>) -> ! {
    let launch = Launch::new(config, &ports.stdio);
    if let (true, Some(channel)) = (config.pid1, &mut channel) {
        channel.flush();
    }
    trace("the workload starts");
    let outcome = if config.pid1 { Outcome::NotRun(launch.become_workload()) } else { launch.spawn() };
    let failure =
        |stage, why, message: &str| Failure { stage, errno: Some(why), message: String::from(message) };
    match outcome {
        Outcome::NotSpawned(why) => fail(channel, failure(Stage::Spawn, why, "create a process"), EXIT_SETUP),
        Outcome::NotRun(NotRun::User(why)) => {
            fail_quietly(channel, failure(Stage::User, why, "become the user"), EXIT_SETUP)
        }
        Outcome::NotRun(NotRun::Execute(why)) => {
            let failure = failure(Stage::Execute, why, "execute the program");
            fail_quietly(channel, failure, search::exit_code(why))
        }
        Outcome::Started(pid) => {
            if let Some(channel) = &mut channel {
                channel.send(&Event::Started { pid: pid.unsigned_abs() });
            }
            let end = supervise::until_end(Supervisor::new(pid), channel.as_mut(), dhcp);
            finish(channel, end.code)
        }
    }
}
