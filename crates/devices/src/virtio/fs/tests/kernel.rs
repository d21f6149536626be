//! Linux itself as the client: a mount whose requests go from `/dev/fuse` through the device's rings.
//!
//! Needs root and `/dev/fuse`. The mount is in a namespace of the test's thread, so nothing stays behind.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::Opcode;
use tempfile::{TempDir, tempdir};

use super::client::{Client, config};
use crate::testing::Buf;
use crate::virtio::fs::FsConfig;

/// Keeps requests of one opcode waiting.
#[derive(Default)]
pub struct Gate {
    closed_for: Mutex<Option<u32>>,
    opened: Condvar,
}

impl Gate {
    pub fn close(&self, opcode: Opcode) {
        *self.closed_for.lock().unwrap() = Some(opcode as u32);
    }

    pub fn open(&self) {
        *self.closed_for.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.opened.notify_all();
    }

    /// Opens it at the end of a scope, however that ends.
    pub fn open_at_end(self: &Arc<Self>) -> impl Drop + use<> {
        struct Opener(Arc<Gate>);
        impl Drop for Opener {
            fn drop(&mut self) {
                self.0.open();
            }
        }
        Opener(Arc::clone(self))
    }

    fn pass(&self, opcode: u32) {
        let closed = self.closed_for.lock().unwrap();
        // Bounded, because who waits for an answer of this file system cannot be killed.
        let limit = Duration::from_secs(60);
        drop(self.opened.wait_timeout_while(closed, limit, |closed| *closed == Some(opcode)).unwrap());
    }
}

/// Carries requests until the mount is gone. Counts them by opcode.
fn carry(mut fuse: File, mut client: Client, counts: Arc<Mutex<Vec<u64>>>, gate: Arc<Gate>) {
    let mut message = vec![0; (1 << 20) + (64 << 10)];
    loop {
        let len = match fuse.read(&mut message) {
            Ok(len) => len,
            // ENODEV: unmounted.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => panic!("/dev/fuse: {e}"),
        };
        let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        let opcode = word(4);
        if let Some(count) = counts.lock().unwrap().get_mut(opcode as usize) {
            *count += 1;
        }
        gate.pass(opcode);
        let room = match opcode {
            op if [Opcode::Read, Opcode::Readdir, Opcode::Readdirplus].iter().any(|o| *o as u32 == op) => {
                word(56)
            }
            op if op == Opcode::Getxattr as u32 || op == Opcode::Listxattr as u32 => 64 << 10,
            _ => 4096,
        };
        let reply = client.raw(&[Buf::Read(&message[..len]), Buf::Write(16), Buf::Write(room)]);
        if !reply.is_empty() {
            // ENOENT: the request was interrupted.
            let _ = fuse.write(&reply);
        }
    }
}

/// A mounted share, for the thread that made it and its children.
pub struct Mount {
    at: PathBuf,
    _dir: Option<TempDir>,
    pub gate: Arc<Gate>,
    counts: Arc<Mutex<Vec<u64>>>,
    carrier: Option<JoinHandle<()>>,
}

impl Mount {
    /// On a directory of its own. `None`, with a word why, where this cannot be done.
    pub fn new(config: FsConfig) -> Option<Self> {
        let dir = tempdir().unwrap();
        let mut mount = Mount::at(config, dir.path())?;
        mount._dir = Some(dir);
        Some(mount)
    }

    /// On this directory.
    pub fn at(config: FsConfig, at: &Path) -> Option<Self> {
        let fuse = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(file) if rustix::process::geteuid().is_root() => file,
            _ => {
                println!("skipped: needs root and /dev/fuse");
                return None;
            }
        };
        if !own_mounts() {
            return None;
        }
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            fuse.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount(c"purlin", at, c"fuse", 0, &options).unwrap();
        let counts = Arc::new(Mutex::new(vec![0; 64]));
        let gate = Arc::<Gate>::default();
        let (shared, gates) = (counts.clone(), gate.clone());
        let carrier = std::thread::spawn(move || carry(fuse, Client::start(config), shared, gates));
        Some(Mount { at: at.to_owned(), _dir: None, gate, counts, carrier: Some(carrier) })
    }

    pub fn sh(&self, script: &str) -> String {
        let out = Command::new("sh").args(["-euc", script]).current_dir(&self.at).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{script}\n{stdout}\n{stderr}");
        stdout.into_owned()
    }

    /// Requests since the last call, by opcode.
    fn requests(&self) -> Vec<(u32, u64)> {
        let mut counts = self.counts.lock().unwrap();
        let all = (0..).zip(counts.iter().copied()).filter(|(_, n)| *n > 0).collect();
        counts.fill(0);
        all
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.gate.open();
        let path = std::ffi::CString::new(self.at.to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        if let Some(carrier) = self.carrier.take() {
            let ended = carrier.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the carrier panicked");
        }
    }
}

/// Gives this thread its own table of mounts. False, with a word why, where that cannot be done.
pub fn own_mounts() -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    // SAFETY: takes no pointers; gives this thread its own mount table.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        println!("skipped: no mount namespaces: {}", std::io::Error::last_os_error());
        return false;
    }
    mount(c"none", Path::new("/"), c"none", libc::MS_REC | libc::MS_PRIVATE, c"").unwrap();
    true
}

pub fn mount(
    what: &std::ffi::CStr,
    at: &Path,
    kind: &std::ffi::CStr,
    flags: libc::c_ulong,
    options: &std::ffi::CStr,
) -> std::io::Result<()> {
    let at = std::ffi::CString::new(at.to_str().unwrap()).unwrap();
    let data = options.as_ptr().cast();
    // SAFETY: all strings are C strings that outlive the call.
    let result = unsafe { libc::mount(what.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_shell_session() {
    let dir = tempdir().unwrap();
    let Some(m) = Mount::new(config(dir.path())) else { return };
    m.sh("mkdir -p a/b/c; echo hello > a/b/c/f; test \"$(cat a/b/c/f)\" = hello");
    m.sh("echo more >> a/b/c/f; test $(wc -l < a/b/c/f) = 2; : > a/b/c/f; test ! -s a/b/c/f");
    m.sh("ln -s ../x a/link; test \"$(readlink a/link)\" = ../x; ln a/b/c/f hard; test a/b/c/f -ef hard");
    m.sh("mv a z; test -f z/b/c/f; echo 1 > z/b/c/f; test $(cat hard) = 1; rm hard; cat z/b/c/f");
    m.sh("umask 027; mkdir m; touch m/f; test $(stat -c %a m) = 750; test $(stat -c %a m/f) = 640");
    m.sh("exec 3<>gone; rm gone; echo text >&3; test $(stat -L -c %h /dev/fd/3) = 0");
    m.sh("cp /bin/true ./t; ./t; cp -a t t2; cmp t t2; truncate -s 1M t2; test $(stat -c %s t2) = 1048576");
    m.sh("mkfifo p; (echo through > p &) ; test $(cat p) = through");
    m.sh("touch -d @12345 t2; test $(stat -c %Y t2) = 12345; chmod 4755 t2; chown 7:8 t2; test $(stat -c %a:%u:%g t2) = 755:7:8");
    m.sh("df . > /dev/null; ls -lR > /dev/null; find . | sort > /tmp/purlin-fs-list.$$; rm /tmp/purlin-fs-list.$$");
    m.sh("dd if=/dev/urandom of=big bs=1M count=16 2>/dev/null; sync -d big; sync; cmp big big");
    assert_eq!(std::fs::metadata(dir.path().join("big")).unwrap().len(), 16 << 20);
    m.sh("i=0; mkdir many; while [ $i -lt 300 ]; do echo $i > many/$i; i=$((i+1)); done; test $(ls many | wc -l) = 300");
    m.sh("cp -a many copy; diff -r many copy; rm -r many copy; test ! -e many");
    m.sh("rm -rf ./* ; test -z \"$(ls -A)\"");
}

/// A tree of the host, read through the mount, is the same tree.
#[test]
fn a_tree_is_the_same_from_both_sides() {
    let dir = tempdir().unwrap();
    let copied = Command::new("cp").args(["-a", "/etc/.", "."]).current_dir(dir.path()).status().unwrap();
    assert!(copied.success());
    let mut small = config(dir.path());
    small.read_only = true;
    small.limits.cached_descriptors = 3;
    let Some(m) = Mount::new(small) else { return };
    m.sh(&format!("diff -r --no-dereference . {}", dir.path().display()));
    let list = "find . -printf '%p %y %m %U %G %s %T@ %l\\n' | sort";
    let host = Command::new("sh").args(["-c", list]).current_dir(dir.path()).output().unwrap().stdout;
    assert_eq!(m.sh(list).as_bytes(), host);
    m.sh("! touch x 2>/dev/null; ! rm passwd 2>/dev/null; ! sh -c 'echo >> passwd' 2>/dev/null");
}

/// How many requests common work costs: what a boot and a benchmark pay for.
#[test]
fn requests_per_operation() {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x".repeat(10_000)).unwrap();
    let Some(m) = Mount::new(config(dir.path())) else { return };
    m.sh("cat f > /dev/null");
    m.requests();
    m.sh("cat f > /dev/null; cat f > /dev/null");
    let again = m.requests();
    assert!(again.iter().all(|(op, _)| *op != Opcode::Read as u32), "cached pages are kept: {again:?}");
    m.sh("i=0; while [ $i -lt 100 ]; do echo x > n$i; i=$((i+1)); done");
    let requests = m.requests();
    let create: u64 = requests.iter().map(|(_, n)| n).sum();
    println!("{create} requests for 100 new files, by opcode: {requests:?}");
    // LOOKUP, CREATE, WRITE and RELEASE; Linux adds GETATTR of the directory and GETXATTR of
    // security.capability.
    assert!(create <= 100 * 6 + 10, "{create}");
}
