//! Threads and descriptors after a machine equal those before it. One test in a program of its own, because
//! it counts what the whole process has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]
#[allow(dead_code, reason = "shared with the other tests for the rig")]
#[path = "../rig/support.rs"]
mod support;

use std::time::{Duration, Instant};

use purlin::{Exec, Kernel, Root};
use support::{config, sh, wait};

fn threads_and_descriptors() -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("task"), count("fd"))
}

fn settles_at(before: (usize, usize), what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while threads_and_descriptors() != before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(threads_and_descriptors(), before, "after {what}");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn nothing_is_left_of_a_machine() {
    let run_once =
        || assert_eq!(wait(config(Exec::new("/bin/true")).build().unwrap().start().unwrap()).code, 0);
    run_once();
    let before = threads_and_descriptors();

    run_once();
    settles_at(before, "a machine that ended");

    let running = config(sh("sleep 1000")).build().unwrap();
    running.start().unwrap();
    drop(running);
    settles_at(before, "a machine that was dropped while it ran");

    drop(config(sh("sleep 1000")).build().unwrap());
    settles_at(before, "a machine that never ran");

    let refused = [
        config(sh("true")).vcpus(0),
        config(sh("true")).memory_mib(17),
        config(sh("true")).kernel(Kernel::Bundle("/bin/sh".into())),
        config(sh("true")).root(Root::dir("/no/such/directory")),
    ];
    for config in refused {
        assert!(config.build().is_err());
    }
    settles_at(before, "machines that were refused");
}
