//! Threads and descriptors after a machine equal those before it. One test in a program of its own, because
//! it counts what the whole process has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]
#[allow(dead_code, reason = "shared with the other tests for the rig")]
#[path = "../rig/support.rs"]
mod support;

use std::time::Duration;

use purlin::{Exec, Kernel, Root};
use support::{config, sh, wait};

fn threads_and_descriptors() -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("task"), count("fd"))
}

/// The counts once they stand still: a joined thread is in `/proc` for a moment more.
fn settled() -> (usize, usize) {
    let (mut last, mut same) = (threads_and_descriptors(), 0);
    while same < 25 {
        std::thread::sleep(Duration::from_millis(20));
        let now = threads_and_descriptors();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

fn settles_at(before: (usize, usize), what: &str) {
    assert_eq!(settled(), before, "after {what}");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn nothing_is_left_of_a_machine() {
    let run_once =
        || assert_eq!(wait(config(Exec::new("/bin/true")).build().unwrap().start().unwrap()).code, 0);
    run_once();
    let before = settled();

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
