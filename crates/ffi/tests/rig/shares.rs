//! Shares in a real guest: POSIX's rules, and files in a window of shared memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use purlin::{Share, Vm};
use tempfile::TempDir;

use crate::support::{collect, config, run, sh, wait};

const PAGE: u64 = 4096;
/// Twice the window: the guest has to give parts of it back.
const PAGES: u64 = (32 << 20) / PAGE;
const WINDOW: u64 = 16 << 20;

/// A directory in memory, whose file system has everything that the rules are about.
fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn compile(sources: &[PathBuf], program: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o"]).arg(program).args(sources);
    let done = cc.output().expect("cc");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The rules that the file server is tested by on the host, where the client is its kernel: for root and for a user.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_rules_of_posix_hold_in_a_guest() {
    let dir = memory();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../devices/tests/posix");
    let sources = ["main", "names", "data", "owners", "locks"].map(|name| sources.join(format!("{name}.c")));
    compile(&sources, &dir.path().join("program"));
    let script = "mkdir -p /tmp/s; mount -t virtiofs s /tmp/s && chmod 755 /tmp/s && mkdir -m 755 /tmp/s/rules && \
                  /tmp/s/program /tmp/s/rules";
    let finished = run(config(sh(script)).share(Share::new("s", dir.path())));
    let broken: Vec<&str> = finished.stdout.lines().filter(|line| !line.starts_with("ok ")).collect();
    let broken = broken.join("\n");
    assert_eq!(finished.exit.code, 0, "{broken}\n{}", finished.stderr);
    assert!(broken.contains(" 0 broken, 0 skipped"), "{broken}");
    println!("{broken}");
}

/// A guest's program at work in a window.
struct Program {
    vm: Vm,
    to: Box<dyn Write>,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Program {
    /// Waits for a word.
    fn says(&mut self, word: &str) {
        assert_eq!(self.lines.next().as_deref(), Some(word));
    }

    fn go_on(&mut self) {
        self.to.write_all(b"\n").unwrap();
    }
}

/// Everything goes through memory: the guest's program itself runs from the window.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn files_are_memory_that_guest_and_host_share() {
    let dir = memory();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig/guest/window.c");
    compile(&[source.into()], &dir.path().join("program"));
    let both = File::create_new(dir.path().join("both")).unwrap();
    both.set_len(PAGES * PAGE).unwrap();
    for page in 0..PAGES {
        both.write_all_at(&page.to_le_bytes(), page * PAGE).unwrap();
    }

    let script = "mkdir -p /tmp/s; mount -t virtiofs -o dax=always s /tmp/s && exec /tmp/s/program /tmp/s";
    let vm = config(sh(script)).share(Share::new("s", dir.path()).dax_window(WINDOW)).build().unwrap();
    let to = Box::new(vm.take_stdin().unwrap());
    let lines = Box::new(BufReader::new(vm.take_stdout().unwrap()).lines().map(Result::unwrap));
    let stderr = collect(vm.take_stderr().unwrap());
    vm.start().unwrap();
    let mut program = Program { vm, to, lines };

    program.says("written");
    let both = File::options().read(true).write(true).open(dir.path().join("both")).unwrap();
    let mut word = [0; 8];
    for page in 0..PAGES {
        both.read_exact_at(&mut word, page * PAGE + 8).unwrap();
        assert_eq!(u64::from_le_bytes(word), !page, "page {page}, as the guest wrote it");
        both.write_all_at(&(page * 3).to_le_bytes(), page * PAGE + 16).unwrap();
    }
    program.go_on();
    program.says("seen");
    program.go_on();

    program.says("made");
    let new = dir.path().join("new");
    let bytes = std::fs::read(&new).unwrap();
    let (filled, called) = bytes.split_at(bytes.len() - 9);
    assert_eq!((bytes.len(), called), (5 << 20, b"by a call".as_slice()));
    assert!(filled.iter().all(|byte| *byte == b'n'));
    program.go_on();
    let exit = wait(&program.vm);
    let rest: Vec<String> = program.lines.collect();
    drop(program.vm);
    let stderr = String::from_utf8(stderr.join().unwrap()).unwrap();
    assert_eq!(exit.code, 0, "{rest:?} {stderr}");
    let end = std::fs::read(&new).unwrap();
    assert_eq!((end.len(), end.ends_with(b"nend")), (4096 + 3, true));
}
