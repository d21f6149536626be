//! Pausing, saving, stopping, and several machines at once.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use purlin::{Exec, ExitReason, Share, VmError};

use crate::support::{collect, config, run, sh, wait};

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn two_machines_in_one_process() {
    let machines: Vec<_> = ["a", "b"]
        .map(|name| {
            std::thread::spawn(move || run(config(sh(&format!("sleep 1; echo {name}; exit {}", name.len())))))
        })
        .into();
    for (machine, name) in machines.into_iter().zip(["a\n", "b\n"]) {
        let done = machine.join().unwrap();
        assert_eq!((done.exit.code, done.stdout.as_str()), (1, name));
    }
}

/// Five seconds of the host's time pass; the guest prints nothing meanwhile and everything afterwards.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn pause_for_five_seconds_and_resume() {
    let script = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); usleep 50000; done";
    let vm = config(sh(script)).vcpus(2).build().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines();
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "0");
    vm.pause().unwrap();
    vm.pause().unwrap();
    let before = vm.device_state().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(vm.device_state().unwrap(), before, "paused means at rest");
    vm.resume().unwrap();
    vm.resume().unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let want: Vec<String> = (1..60).map(|i| i.to_string()).collect();
    assert_eq!(rest, want);
    assert_eq!(wait(&vm).code, 0);
    assert!(matches!(vm.pause(), Err(VmError::Ended)));
}

/// Console and file system are stopped, saved and resumed again and again while both are busy.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn quiesce_save_and_resume_under_load_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir -p /tmp/load; mount -t virtiofs load /tmp/load || exit 9; cd /tmp/load; \
                  (i=0; while [ $i -lt 120 ]; do echo $i > f$i; mv f$i g$i; i=$((i+1)); done; echo fs done >&2) & \
                  seq 1 60000; wait";
    let vm = config(sh(script)).share(Share::new("load", dir.path())).vcpus(2).build().unwrap();
    let stdout = collect(vm.take_stdout().unwrap());
    let stderr = collect(vm.take_stderr().unwrap());
    vm.start().unwrap();
    let mut rounds = 0;
    while vm.wait_timeout(Duration::from_millis(150)).unwrap().is_none() {
        match vm.pause() {
            Ok(()) => {
                let saved = vm.device_state().unwrap();
                assert_eq!(saved.len(), 2 * 5 + 1, "balloon, rng, console, root, share; keyboard");
                vm.resume().unwrap();
                rounds += 1;
            }
            Err(VmError::Ended) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Exited), "after {rounds} rounds");
    drop(vm);
    let want: String = (1..=60000).map(|i| format!("{i}\n")).collect();
    assert!(stdout.join().unwrap() == want.as_bytes(), "console output differs");
    assert_eq!(stderr.join().unwrap(), b"fs done\n");
    for i in 0..120 {
        let text = std::fs::read_to_string(dir.path().join(format!("g{i}"))).unwrap();
        assert_eq!(text, format!("{i}\n"));
    }
    assert!(rounds > 3, "only {rounds} rounds");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn device_state_needs_a_pause() {
    let vm = config(sh("sleep 100")).build().unwrap();
    assert!(matches!(vm.device_state(), Err(VmError::NotStarted)));
    assert!(matches!(vm.wait(), Err(VmError::NotStarted)));
    vm.start().unwrap();
    assert!(matches!(vm.start(), Err(VmError::AlreadyStarted)));
    assert!(matches!(vm.device_state(), Err(VmError::NotPaused)));
    vm.kill();
    assert_eq!(wait(&vm).reason, ExitReason::Killed);
    vm.kill();
    vm.stop(Duration::ZERO).unwrap();
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn stop_reaches_the_workload_as_sigterm() {
    let script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 1; done";
    let vm = config(sh(script)).build().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines();
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    vm.stop(Duration::from_secs(60)).unwrap();
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (5, ExitReason::Stopped));
    assert_eq!(lines.next().unwrap().unwrap(), "told");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_workload_that_ignores_sigterm_is_killed_after_the_grace_time() {
    let vm = config(sh("trap '' TERM; echo ready; while :; do sleep 1; done")).build().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines();
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    vm.stop(Duration::from_secs(1)).unwrap();
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Stopped));
}

/// A guest that is stopped before its init listens hears of it when it does; a paused one is resumed.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn stop_is_heard_by_a_booting_and_by_a_paused_guest() {
    let vm = config(Exec::new("/bin/sleep").arg("1000")).build().unwrap();
    vm.start().unwrap().stop(Duration::from_secs(60)).unwrap();
    assert_eq!(wait(&vm).reason, ExitReason::Stopped);

    let vm = config(sh("echo up; exec sleep 1000")).build().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines();
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    vm.pause().unwrap();
    vm.stop(Duration::from_secs(60)).unwrap();
    assert_eq!(wait(&vm).reason, ExitReason::Stopped);
}
