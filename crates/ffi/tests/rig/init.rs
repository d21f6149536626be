//! What the guest's init does for its workload, with what only a machine has: shares, a clock, an exit code by
//! ioctl.

use std::borrow::Cow;
use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex};

use purlin::devices::fs::{OverlayEntry, OverlayKind};
use purlin::{Exec, ExitReason, Share};

use crate::support::{config, rootfs, run, sh, wait, without_root};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";

/// A configuration file on the root, a share that is mounted without the workload's doing, and a certificate on
/// that share.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_configuration_file_a_mount_and_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), PEM).unwrap();
    let file = br#"{"process":{"args":["/bin/sh","-c",
        "id -u; id -g; pwd; echo $A $B; grep -c ' /tmp/made/mount virtiofs ro' /proc/mounts; cat /tmp/trust/test.crt; exit 5"],
        "env":["A=file","B=file"],"cwd":"/tmp","user":{"uid":1000,"gid":100}}}"#;
    let kind = OverlayKind::File { data: Cow::Borrowed(file), one_shot: false };
    let entry = OverlayEntry { path: "/.krun_config.json".into(), mode: 0o600, kind };
    let exec = Exec::default()
        .env("B", "words")
        .env("PURLIN_CA_SOURCE", "/tmp/made/mount/ca.pem")
        .env("PURLIN_CA_PATH", "/tmp/trust/test.crt");
    let done = run(without_root(exec)
        .share(Share::new("/dev/root", rootfs()).overlay(entry))
        .share(Share::new("data", dir.path()).mount_at("/tmp/made/mount").read_only()));
    assert_eq!(done.exit.code, 5, "{}{}", done.stdout, done.stderr);
    assert_eq!(done.stdout, format!("1000\n100\n/tmp\nfile words\n1\n{PEM}"), "{}", done.stderr);
}

/// The guest's clock is wrong; a pause and a resume later it is the host's.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_clock_is_set_after_a_pause() {
    let script = "date -s @1000000000 > /dev/null; echo wrong; \
                  while [ $(date +%s) -lt 1700000000 ]; do usleep 20000; done; echo right";
    let vm = config(sh(script)).build().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines();
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "wrong");
    vm.pause().unwrap();
    vm.resume().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "right");
    assert_eq!(wait(&vm).code, 0);
}

/// The root is another file system than the one that PID 1 was started on.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_exit_code_survives_another_root() {
    let script = "grep ' / ' /proc/mounts | tail -n 1 | cut -d ' ' -f 1,3; test -e /dev/null && exit 7";
    let exec = sh(script).env("KRUN_BLOCK_ROOT_DEVICE", "other").env("KRUN_BLOCK_ROOT_FSTYPE", "virtiofs");
    let done = run(config(exec).share(Share::new("other", rootfs())));
    let code = (done.exit.code, &done.exit.reason);
    assert_eq!(code, (7, &ExitReason::Exited), "{}{}", done.stdout, done.stderr);
    assert_eq!(done.stdout, "other virtiofs\n");
}

/// libkrunfw's kernel has no keyboard driver. Observers and counters on the way.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn ctrl_alt_del_ends_the_workload_and_observers_hear_of_all() {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let (boot, end) = (heard.clone(), heard.clone());
    let config = config(sh("trap 'exit 5' TERM; echo ready; while :; do sleep 1; done"));
    let config = config.on_boot(move || boot.lock().unwrap().push("boot".into()));
    let vm = config.on_exit(move |exit| end.lock().unwrap().push(exit.code.to_string())).build().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines();
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    assert_eq!(*heard.lock().unwrap(), ["boot"]);
    let stats = vm.stats().unwrap();
    let phases: Vec<_> = stats.boot.iter().rev().take(2).map(|phase| phase.name).collect();
    assert_eq!(phases, ["workload started", "guest booted"]);
    let root = stats.devices.iter().find(|d| d.device.id == "/dev/root").unwrap();
    assert!(root.bytes.to_guest > 1000 && root.bytes.from_guest > 1000, "{root:?}");
    assert!(stats.vcpus[0].mmio_writes > 0 && stats.vcpus[0].port_writes > 0, "{stats:?}");

    vm.send_ctrl_alt_del().unwrap();
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (5, ExitReason::Stopped));
    assert_eq!(*heard.lock().unwrap(), ["boot", "5"]);
}
