//! What the workload finds set up.

use purlin_init::abi;
use purlin_init::control::{Event, Stage};
use purlin_init::errno::Errno;

use crate::machine::{Machine, read};

#[test]
fn file_systems_are_mounted() {
    let Some(machine) = Machine::shell("cat /proc/self/mountinfo") else { return };
    let outcome = machine.run();
    for (target, kind, options) in [
        ("/dev", "devtmpfs", "rw,relatime"),
        ("/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
        ("/sys", "sysfs", "rw,nosuid,nodev,noexec,relatime"),
        ("/sys/fs/cgroup", "cgroup2", "rw,nosuid,nodev,noexec,relatime"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec,relatime"),
        ("/dev/shm", "tmpfs", "rw,nosuid,noexec,relatime"),
    ] {
        let line = outcome.output().lines().find(|line| line.contains(&format!(" {target} {options} ")));
        let line = line.unwrap_or_else(|| panic!("{target} is not mounted:\n{}", outcome.stdout));
        assert!(line.contains(&format!(" - {kind} ")), "{line}");
        assert!(line.contains(" shared:"), "{line}");
    }
}

#[test]
fn what_the_kernel_has_mounted_is_left_alone() {
    let Some(machine) = Machine::shell("grep -c ' /dev devtmpfs ' /proc/mounts") else { return };
    let prelude = "mkdir $0/dev && mount -t devtmpfs devtmpfs $0/dev";
    assert_eq!(machine.prelude(prelude).run().output(), "1\n");
}

#[test]
fn the_system_has_its_traits() {
    let script =
        "hostname; cat /sys/class/net/lo/flags; readlink /dev/fd; pwd; grep ^SigBlk /proc/self/status";
    let Some(machine) = Machine::shell(script) else { return };
    let plain = machine.run();
    assert_eq!(plain.output(), "localhost\n0x9\n/proc/self/fd\n/\nSigBlk:\t0000000000000000\n");
    let named = machine.env("HOSTNAME", "box").run();
    assert!(named.output().starts_with("box\n"));
}

#[test]
fn the_workload_leads_nothing_but_has_its_session() {
    let Some(machine) = Machine::shell("cat /proc/self/stat; exit 0") else { return };
    let outcome = machine.run();
    let fields: Vec<&str> = outcome.output().split(' ').collect();
    // Process group and session are those of PID 1, so that the terminal's signals reach the workload.
    assert_eq!((fields[4], fields[5]), ("1", "1"), "{}", outcome.stdout);
}

#[test]
fn the_workload_inherits_its_standard_descriptors_only() {
    let Some(machine) = Machine::shell("ls /proc/self/fd") else { return };
    assert_eq!(machine.run().output(), "0\n1\n2\n3\n"); // 3 is the listing itself
}

#[test]
fn missing_standard_descriptors_are_filled() {
    let script = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done > /out";
    let Some(machine) = Machine::shell(script) else { return };
    let outcome = machine.without_stdio();
    assert_eq!(outcome.run().code(), 0);
    // 1 is the script's own redirection.
    assert_eq!(read(outcome.path("out")), "/dev/null\n/out\n/dev/null\n");
}

#[test]
fn announced_ports_that_never_come_are_given_up() {
    let Some(machine) = Machine::shell("echo $PURLIN_PORTS") else { return };
    let outcome = machine.env(abi::ENV_PORTS, abi::PORT_STDOUT).run();
    assert_eq!(outcome.output(), "\n");
    assert_eq!(outcome.stderr, "purlin-init: a port that the host has announced is missing\n");
}

#[test]
fn malformed_words_are_named_and_the_boot_goes_on() {
    let Some(mut machine) = Machine::shell("env") else { return };
    for (name, value) in [
        ("PURLIN_STATIC_IP", "10.0.2.15"),
        ("KRUN_DHCP", "maybe"),
        ("PURLIN_VIRTIOFS_MOUNTS", "tag"),
        ("AGX_VIRTIOFS_MOUNTS", "tag:relative"),
        ("PURLIN_DISK_MOUNTS", "/dev/vdb"),
        ("PURLIN_CA_PATH", "relative"),
        ("KRUN_RLIMITS", "x"),
    ] {
        machine = machine.env(name, value);
    }
    let outcome = machine.run();
    assert!(!outcome.output().contains("PURLIN_"), "{}", outcome.stdout);
    assert!(outcome.output().contains("AGX_VIRTIOFS_MOUNTS=tag:relative\n"));
    let expected = "purlin-init: PURLIN_STATIC_IP: not address/prefix:router[:dns], skipped: 10.0.2.15\n\
        purlin-init: KRUN_DHCP: neither 0 nor 1, skipped: maybe\n\
        purlin-init: PURLIN_VIRTIOFS_MOUNTS: not tag:path[:ro], skipped: tag\n\
        purlin-init: AGX_VIRTIOFS_MOUNTS: the path is not absolute, skipped: tag:relative\n\
        purlin-init: PURLIN_DISK_MOUNTS: not device:type:path[:ro], skipped: /dev/vdb\n\
        purlin-init: PURLIN_CA_PATH: the path is not absolute, skipped: relative\n\
        purlin-init: not a resource limit, skipped: x\n";
    assert_eq!(outcome.stderr, expected);
}

#[test]
fn steps_are_told_when_asked_for() {
    let Some(machine) = Machine::shell("echo ${PURLIN_TRACE-unset}") else { return };
    let outcome = machine.env(abi::ENV_TRACE, "1").run();
    assert_eq!(outcome.output(), "unset\n");
    let steps: Vec<&str> = outcome
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("purlin-init: trace ")?.split_once(" ms: "))
        .map(|(_, step)| step)
        .collect();
    assert_eq!(steps.first(), Some(&"start"), "{}", outcome.stderr);
    assert!(steps.contains(&"mount /proc") && steps.contains(&"bring up lo"), "{steps:?}");
    assert_eq!(steps.last(), Some(&"the workload starts"));
}

#[test]
fn a_mount_that_fails_ends_the_boot() {
    let Some(machine) = Machine::shell("echo no") else { return };
    machine.put("sys", b"a file", 0o644);
    let outcome = machine.run();
    assert_eq!(outcome.code(), 125);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("purlin-init: mount /sys: ENOTDIR\n"), "{}", outcome.stderr);
    let failed =
        Event::SetupFailed { stage: Stage::Mount, errno: Some(Errno::NOTDIR), message: "mount /sys".into() };
    assert!(outcome.events.contains(&failed), "{:?}", outcome.events);
}

#[test]
fn outside_of_a_machine_nothing_happens() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("init");
    std::fs::write(&path, purlin_init::binary()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = std::process::Command::new(path).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("runs as process 1 only"));
}

#[test]
fn the_binary_is_small_and_needs_no_loader() {
    let binary = purlin_init::binary();
    assert!(binary.starts_with(b"\x7fELF\x02\x01"));
    assert!(binary.len() < 96 << 10, "{} bytes", binary.len());
    let headers = u16::from_le_bytes([binary[56], binary[57]]);
    for index in 0..usize::from(headers) {
        const PT_INTERP: u8 = 3;
        assert_ne!(binary[64 + 56 * index], PT_INTERP);
    }
}
