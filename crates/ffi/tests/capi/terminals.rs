//! Terminals of processes that end.

use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::c::Bench;
use crate::c::pty::{mode, terminal};

fn bench() -> Bench {
    let bench = Bench::new();
    bench.endless_bundle();
    bench.program("run");
    std::fs::create_dir(bench.path("root")).unwrap();
    bench
}

/// A guest that never ends, on this terminal, which is in raw mode when this returns.
fn start(bench: &Bench, words: &[&str], slave: &OwnedFd) -> Child {
    let before = mode(slave);
    let mut command = bench.command("run");
    command.args(words).arg("root");
    default_signals(&mut command);
    let end = || slave.try_clone().unwrap();
    let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    while mode(slave) == before {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Whoever runs the tests may ignore some.
fn default_signals(command: &mut Command) {
    let reset = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM] {
            // SAFETY: async-signal-safe, and gives a signal its default action.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: as said there.
    unsafe { command.pre_exec(reset) };
}

fn ended_by(mut child: Child, signal: i32) -> ExitStatus {
    // SAFETY: sends a signal to a child that was not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    child.wait().unwrap()
}

#[test]
fn signals_that_end_a_process_restore_the_terminal_and_end_it() {
    let bench = bench();
    let signals = [
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGINT,
        libc::SIGABRT,
        libc::SIGSEGV,
        libc::SIGUSR2,
    ];
    for signal in signals {
        let (_master, slave) = terminal();
        let before = mode(&slave);
        let status = ended_by(start(&bench, &[], &slave), signal);
        assert_eq!(status.signal(), Some(signal), "{status}");
        assert_eq!(mode(&slave), before, "after signal {signal}");
    }
}

/// A handler of the program itself stays, and `exit` on any thread restores the terminal.
#[test]
fn an_exit_restores_the_terminal() {
    let bench = bench();
    let (_master, slave) = terminal();
    let before = mode(&slave);
    let status = ended_by(start(&bench, &["exit"], &slave), libc::SIGUSR1);
    assert_eq!(status.code(), Some(3), "{status}");
    assert_eq!(mode(&slave), before);
}

/// The first 32 signals with a handler, by `/proc`.
fn caught(child: &Child) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() as u32
}

/// A window of a new size, Ctrl-C: nothing else is caught by a process whose streams are pipes.
#[test]
fn without_a_terminal_no_fatal_signal_is_caught() {
    let bench = bench();
    let mut command = bench.command("run");
    default_signals(&mut command);
    command.arg("root").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let interrupt = 1 << (libc::SIGINT - 1);
    while caught(&child) & interrupt == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(caught(&child), interrupt);
    child.kill().unwrap();
    child.wait().unwrap();
}
