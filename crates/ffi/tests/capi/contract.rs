//! What `krun_start_enter` does to its process, and what not.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::c::{Bench, text};

#[test]
fn configuration_does_nothing_to_the_process() {
    let bench = Bench::new();
    bench.bundle();
    bench.checks("before", Path::new(""));
}

/// A machine whose guest never ends.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.endless_bundle();
    bench.program("run");
    fs::create_dir(bench.path("root")).unwrap();
    bench
}

/// Starts it and waits until the machine is started. Its processors' threads are there before that, and before its
/// control socket; the thread that sees to its end is not.
fn running(command: &mut Command) -> Child {
    let mut child = command.spawn().unwrap();
    while !threads(&child).iter().any(|name| name == "purlin-vm") {
        assert_eq!(child.try_wait().unwrap(), None, "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn threads(child: &Child) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", child.id())) else { return Vec::new() };
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

/// A field of `/proc/PID/status`.
fn status(child: &Child, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

fn flags(file: &impl AsRawFd) -> i32 {
    // SAFETY: asks for the flags of an open descriptor.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }
}

#[test]
fn name_mask_and_flags_of_a_process_with_a_machine() {
    let bench = bench();
    for (variable, name) in
        [(None, "libkrun VM"), (Some("box"), "VM:box"), (Some("0123456789ab"), "VM:0123456789ab")]
    {
        let (input, _input_end) = std::io::pipe().unwrap();
        let (_output_end, output) = std::io::pipe().unwrap();
        let before = (flags(&input), flags(&output));
        let mut command = bench.command("run");
        command.envs(variable.map(|host| ("HOSTNAME", host))).args(["umask", "root"]);
        command.stdin(input.try_clone().unwrap()).stdout(output.try_clone().unwrap());
        let mut child = running(command.stderr(output.try_clone().unwrap()));
        assert_eq!(status(&child, "Name"), name);
        assert_eq!(status(&child, "Umask"), "0027");
        assert_eq!((flags(&input), flags(&output)), before, "while it runs");
        // SAFETY: sends a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert_eq!((flags(&input), flags(&output)), before, "when it has ended");
    }
}

/// The child sees a `/dev/kvm` that any user may open, whatever this machine's one is like.
fn with_kvm_for_everyone(command: &mut Command, node: &Path) {
    let made = Command::new("mknod").args(["-m", "666"]).arg(node).args(["c", "10", "232"]).status().unwrap();
    assert!(made.success());
    let node = CString::new(node.as_os_str().as_bytes()).unwrap();
    let mount = |source: Option<&CStr>, target: &CStr, flags| {
        let source = source.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: strings that end with a null, and nothing else.
        check(unsafe { libc::mount(source, target.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
    };
    let enter = move || {
        // SAFETY: a number.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
        mount(Some(&node), c"/dev/kvm", libc::MS_BIND)
    };
    // SAFETY: makes system calls only.
    unsafe { command.pre_exec(enter) };
}

fn check(result: i32) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// As another user from then on when its files are made, and its group with it.
#[test]
fn the_user_is_changed_before_files_are_made() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let bench = bench();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(&bench.path(""));
    fs::create_dir(bench.path("out")).unwrap();
    open(&bench.path("out"));
    let mut command = bench.command("run");
    with_kvm_for_everyone(&mut command, &bench.path("kvm"));
    let mut child = running(command.args(["nobody", "control", "root"]).stdin(Stdio::null()));
    assert_eq!(status(&child, "Uid"), "65534\t65534\t65534\t65534");
    assert_eq!(status(&child, "Gid"), "65534\t65534\t65534\t65534");
    for file in ["out/console", "control"] {
        let data = fs::symlink_metadata(bench.path(file)).unwrap();
        assert_eq!((data.uid(), data.gid()), (65534, 65534), "{file}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Without a word of the guest, what its processor did counts, by libkrun's rules or by ours.
#[test]
fn processors_that_end_by_themselves() {
    let bench = Bench::new();
    bench.bundle();
    bench.kernel("fault_kernel");
    bench.program("run");
    fs::create_dir(bench.path("root")).unwrap();
    for (word, code) in [("accept", 0), ("report", 125)] {
        let done = bench.command("run").args(["elf", word, "root"]).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{word}: {}", text(&done));
    }
}

/// In a container there is what its runtime puts there: `/dev/kvm`, and nothing else is needed.
#[test]
fn a_root_with_nothing_in_it_but_kvm() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let bench = Bench::new();
    bench.bundle();
    bench.program("clients/container");
    for dir in ["bundle", "bundle/dev", "bundle/proc"] {
        fs::create_dir(bench.path(dir)).unwrap();
    }
    let mut command = bench.command("container");
    let done = command.arg(bench.path("libkrunfw.so.5")).arg(bench.path("bundle")).output().unwrap();
    assert_eq!((done.status.code(), text(&done).as_str()), (Some(125), ""));
}
