//! What every call answers, as tables in C.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use crate::c::{Bench, library};

fn checks(name: &str) {
    Bench::new().checks(name, Path::new(""));
}

#[test]
fn contexts_logging_features_machine() {
    checks("context");
}

#[test]
fn shares_overlays_init_and_exec() {
    checks("files");
}

#[test]
fn consoles() {
    checks("consoles");
}

#[test]
fn disks_networks_sockets_and_graphics() {
    checks("devices");
}

#[test]
fn kernels_in_files() {
    checks("kernels");
}

#[test]
fn a_start_without_a_kernel() {
    let bench = Bench::new();
    bench.program("no_kernel");
    let done = bench.command("no_kernel").output().unwrap();
    assert!(done.status.success(), "{}", crate::c::text(&done));
    // For users who did not ask for a log.
    let printed = String::from_utf8(done.stderr).unwrap();
    assert!(printed.contains("libkrunfw.so.5") && printed.lines().count() == 1, "{printed}");
}

#[test]
fn the_library_can_be_unloaded() {
    let bench = Bench::new();
    bench.bundle();
    bench.checks("unload", &library());
}

/// A log goes where it was asked to go, with the level that was set last, and the environment decides if it may.
#[test]
fn logs() {
    let bench = Bench::new();
    bench.program("logging");
    let run = |variable: Option<&str>| {
        let mut command = bench.command("logging");
        command.envs(variable.map(|value| ("RUST_LOG", value)));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", crate::c::text(&done));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(done.stdout), text(done.stderr))
    };
    let (stdout, stderr) = run(None);
    assert_eq!((stdout.matches("context 1111").count(), stdout.lines().count()), (1, 1), "{stdout}");
    assert!(stdout.contains("DEBUG") && stdout.contains('\x1b'), "{stdout}");
    assert_eq!((stderr.matches("context 3333").count(), stderr.lines().count()), (1, 1), "{stderr}");
    // [2026-01-02T03:04:05.678901Z DEBUG ...
    assert!(
        stderr.contains("DEBUG") && stderr.find("Z ") == Some(27) && !stderr.contains('\x1b'),
        "{stderr}"
    );

    let (stdout, stderr) = run(Some("off"));
    assert_eq!(stdout, "");
    assert_eq!((stderr.matches("context 3333").count(), stderr.lines().count()), (1, 1), "{stderr}");
    let (stdout, _) = run(Some("trace"));
    assert!(stdout.contains("context 1111") && stdout.contains("context 2222"), "{stdout}");
}

/// Of a terminal the style is chosen as its environment says.
#[test]
fn logs_on_a_terminal_are_coloured() {
    let bench = Bench::new();
    bench.program("logging");
    for (variable, value, coloured) in
        [("TERM", "xterm", true), ("TERM", "dumb", false), ("NO_COLOR", "1", false)]
    {
        let (mut master, slave) = crate::c::pty::terminal();
        let mut command = bench.command("logging");
        command.env("TERM", "xterm").env(variable, value).stdout(Stdio::null()).stderr(slave);
        let mut child = command.spawn().unwrap();
        drop(command);
        let (mut said, mut some) = (Vec::new(), [0; 4096]);
        // The end of a terminal is an error.
        while let Ok(count @ 1..) = master.read(&mut some) {
            said.extend(&some[..count]);
        }
        assert!(child.wait().unwrap().success());
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("context 3333"), "{said}");
        assert_eq!(said.contains('\x1b'), coloured, "{variable}={value}: {said}");
    }
}
