//! Programs of other people's kinds, built and run against the installed library.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::c::{succeeds, text};
use crate::guest::{firmware, rootfs, variable};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/clients");

/// A directory with programs, and how they find the installed library and libkrunfw.
struct Clients {
    dir: TempDir,
}

impl Clients {
    fn new() -> Self {
        Clients { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Compiles a program as its author would: with what pkg-config says, and nothing else to find the library.
    fn program(&self, name: &str) -> Command {
        let mut pkg_config = Command::new("pkg-config");
        pkg_config.args(["--cflags", "--libs", "libkrun"]);
        pkg_config.env("PKG_CONFIG_PATH", variable("PURLIN_PREFIX").join("lib/pkgconfig"));
        let flags = succeeds(&mut pkg_config);
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o"]).arg(self.path(name));
        cc.arg(format!("{SOURCES}/{name}.c")).args(flags.split_whitespace());
        succeeds(&mut cc);
        self.command(&self.path(name))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let libraries = variable("PURLIN_PREFIX").join("lib");
        let firmware = firmware();
        let libraries = std::env::join_paths([&libraries, firmware.parent().unwrap()]).unwrap();
        command.env_clear().env("LD_LIBRARY_PATH", libraries).current_dir(self.dir.path());
        command
    }
}

fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(output))
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_least_there_is() {
    let clients = Clients::new();
    let done = clients.program("hello").arg(rootfs()).output().unwrap();
    assert_eq!(ended(&done), (Some(0), "hello from a guest\n".to_owned()));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_sandbox_runtime() {
    let clients = Clients::new();
    for dir in ["work", "data"] {
        std::fs::create_dir(clients.path(dir)).unwrap();
    }
    std::fs::write(clients.path("data/input"), "input\n").unwrap();
    let script = r#"
        mkdir -p /tmp/sandbox/work /tmp/sandbox/data && cd /tmp/sandbox || exit 90
        mount -t virtiofs work work && mount -t virtiofs data data || exit 91
        echo "$GREETING, $OLDPWD, [$EMPTY]"
        grep "Max processes" /proc/self/limits
        cat data/input > work/output && ! touch data/more 2>/dev/null && exit 42
        exit 92"#;
    let mut command = clients.program("sandbox");
    command.arg(rootfs()).args(["work", "data", "console.log", script]);
    let done = command.output().unwrap();
    let console = std::fs::read_to_string(clients.path("console.log")).unwrap_or_default();
    assert_eq!(ended(&done), (Some(0), "exited 42\n".to_owned()), "{console}");
    assert!(console.contains("hello there, /tmp, []\r\n"), "{console}");
    let limits = console.lines().find(|line| line.starts_with("Max processes")).unwrap_or_default();
    let words: Vec<&str> = limits.split_whitespace().collect();
    assert_eq!(words.get(2..4), Some(["4096", "8192"].as_slice()), "{console}");
    assert_eq!(std::fs::read_to_string(clients.path("work/output")).unwrap(), "input\n");
    assert!(!clients.path("data/more").exists());
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn an_oci_runtime() {
    let clients = Clients::new();
    let root = clients.path("bundle");
    succeeds(Command::new("cp").arg("-a").arg(rootfs()).arg(&root));
    let config = r#"{"process": {"args": ["/bin/sh", "-c", "echo \"$A $PWD\"; exit 9"],
        "env": ["PATH=/bin", "A=from the bundle"], "cwd": "/tmp"}}"#;
    std::fs::write(root.join(".krun_config.json"), config).unwrap();
    let done = clients.program("container").arg(firmware()).arg(&root).output().unwrap();
    assert_eq!(ended(&done), (Some(9), "from the bundle /tmp\n".to_owned()));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn published_bindings() {
    let clients = Clients::new();
    let done = clients.command(&variable("PURLIN_KRUN_SYS_CLIENT")).arg(rootfs()).output().unwrap();
    assert_eq!(ended(&done), (Some(17), "hello from krun-sys\n".to_owned()));
}

/// They meet in a directory of the root they share.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn two_machines_in_two_children() {
    let clients = Clients::new();
    let root = clients.path("root");
    succeeds(Command::new("cp").arg("-a").arg(rootfs()).arg(&root));
    let done = clients.program("pair").arg(&root).output().unwrap();
    assert_eq!(ended(&done), (Some(0), "11\n12\n".to_owned()));
}
