//! Compiling C programs against the built library, and running them.

pub mod pty;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c");
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include");

/// The shared library that was built with this test.
pub fn library() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("libpurlin.so");
    if beside.exists() {
        return beside;
    }
    // A test program that was copied elsewhere.
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join(profile).join("deps/libpurlin.so")
}

/// A directory with the library under its installed names, and what is compiled.
pub struct Bench {
    dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libkrun.so.1", "libkrun.so"] {
            std::os::unix::fs::symlink(library(), dir.path().join(name)).unwrap();
        }
        Bench { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Compiles `tests/c/NAME.c` as strictly as possible and links it with `-lkrun`.
    pub fn program(&self, name: &str) -> PathBuf {
        let file = self.path(name.rsplit('/').next().unwrap());
        let mut cc = compiler("cc", "c11", &format!("{HERE}/{name}.c"));
        cc.args(["-pthread", "-D_POSIX_C_SOURCE=200809L", "-o"]).arg(&file).arg("-L").arg(self.dir.path());
        succeeds(cc.args(["-lkrun", "-ldl"]));
        file
    }

    /// Compiles the bundle of a few instructions as `libkrunfw.so.5`.
    pub fn bundle(&self) {
        self.make_bundle(&[]);
    }

    /// One whose kernel never ends.
    pub fn endless_bundle(&self) {
        self.make_bundle(&["-DSPIN"]);
    }

    fn make_bundle(&self, options: &[&str]) {
        let mut cc = compiler("cc", "c11", &format!("{HERE}/bundle.c"));
        cc.args(options);
        cc.args(["-shared", "-fPIC", "-Wl,-soname,libkrunfw.so.5", "-o"]).arg(self.path("libkrunfw.so.5"));
        succeeds(&mut cc);
    }

    /// Compiles a kernel of a few instructions, and compresses it: `kernel` and `kernel.gz`.
    pub fn kernel(&self, name: &str) {
        let file = self.path("kernel");
        let mut cc = compiler("cc", "gnu11", &format!("{HERE}/{name}.c"));
        cc.args(["-nostdlib", "-static", "-no-pie", "-Wl,-Ttext-segment=0x1000000", "-o"]).arg(&file);
        succeeds(&mut cc);
        succeeds(Command::new("gzip").arg("--keep").arg(&file));
    }

    /// A program that finds the library, and nothing of this process's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.env_clear().env("LD_LIBRARY_PATH", self.dir.path()).current_dir(self.dir.path());
        command
    }

    /// Compiles a program of checks and runs it with this argument; what it prints is what is wrong.
    pub fn checks(&self, name: &str, argument: &Path) {
        self.program(name);
        let done = self.command(name).arg(argument).output().unwrap();
        assert!(done.status.success(), "{name}: {}\n{}", done.status, text(&done));
    }
}

/// Everything a program printed.
pub fn text(done: &Output) -> String {
    String::from_utf8_lossy(&[done.stdout.as_slice(), &done.stderr].concat()).into_owned()
}

pub fn compiler(name: &str, standard: &str, source: &str) -> Command {
    let mut compiler = Command::new(name);
    compiler.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]).arg(format!("-std={standard}"));
    compiler.arg("-I").arg(INCLUDE).arg(source);
    compiler
}

pub fn succeeds(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}\n{}", done.status, text(&done));
    text(&done)
}
