//! `krun_start_enter` with a kernel of a few instructions.

use std::path::Path;

use crate::c::{Bench, text};

fn bench() -> Bench {
    let bench = Bench::new();
    bench.bundle();
    std::fs::create_dir(bench.path("root")).unwrap();
    bench
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    assert!(Path::new("/dev/kvm").exists(), "this test needs a usable /dev/kvm");
    let bench = bench();
    bench.checks("start", &bench.path("root"));
}

/// The guest resets the machine without having told a status.
#[test]
fn the_process_ends_with_the_guest() {
    let bench = bench();
    bench.kernel();
    bench.program("run");
    let table: [(&[&str], i32); 14] = [
        (&[], 125),
        (&["report"], 125),
        (&["accept"], 0),
        (&["no-init"], 0),
        (&["no-init", "report"], 125),
        (&["fork"], 125),
        (&["fork", "accept"], 0),
        (&["user"], 125),
        (&["elf"], 0),
        (&["gz"], 125),
        (&["stdin"], 125),
        (&["stdout"], 125),
        (&["stderr"], 125),
        (&["stdin", "stdout", "stderr"], 125),
    ];
    for (words, code) in table {
        let done = bench.command("run").args(words).arg("root").output().unwrap();
        let what = "(this test needs a usable /dev/kvm)";
        assert_eq!(done.status.code(), Some(code), "{words:?} {what}: {}", text(&done));
        assert_eq!(text(&done), "", "{words:?}");
    }
}
