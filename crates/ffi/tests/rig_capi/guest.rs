//! A guest that `boot.c` starts.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::c::Bench;

pub fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    value.unwrap_or_else(|| panic!("{name} is not set: run these tests with cargo xtask test")).into()
}

pub struct Host {
    pub bench: Bench,
}

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn done(code: i32, stdout: &str, stderr: &str) -> Done {
    Done { code: Some(code), stdout: stdout.into(), stderr: stderr.into() }
}

impl Host {
    /// With everything `boot` needs, in memory where that matters.
    pub fn new() -> Self {
        let bench = Bench::new();
        bench.program("boot");
        std::os::unix::fs::symlink(firmware(), bench.path("libkrunfw.so.5")).unwrap();
        Host { bench }
    }

    /// A guest that runs this shell script.
    pub fn sh(&self, options: &[&str], script: &str) -> Command {
        let mut command = self.bench.command("boot");
        command.args(options).arg(rootfs()).args(["/bin/sh", "-c", script]);
        command.env("PATH", "/bin:/sbin");
        command
    }

    /// Runs it to its end.
    pub fn run(&self, options: &[&str], script: &str, input: &[u8]) -> Done {
        let mut command = self.sh(options, script);
        let mut child = piped(&mut command).spawn().unwrap();
        // A guest that does not read it may be gone.
        let _ = child.stdin.take().unwrap().write_all(input);
        finish(child)
    }
}

pub fn rootfs() -> PathBuf {
    variable("PURLIN_ROOTFS")
}

pub fn firmware() -> PathBuf {
    variable("PURLIN_FW")
}

pub fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Waits for the end of a guest.
pub fn finish(child: Child) -> Done {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
