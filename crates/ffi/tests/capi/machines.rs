//! `krun_start_enter` with a kernel of a few instructions.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use crate::c::{Bench, text};

/// What is said of a guest that ends without a status, if there is no log.
const NO_STATUS: &str =
    "libkrun: exit code 125: the guest restarted without a status (kernel panic, lost init)\n";

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
    bench.kernel("kernel");
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
        // The code is not the guest's word, so somebody has to say what it means, if there is no log.
        let said = code == 125 && !words.contains(&"stderr");
        let line = if said { NO_STATUS } else { "" };
        assert_eq!(text(&done), line, "{words:?}");
    }
}

/// A standard error that nobody reads does not keep the process, and is not waited for; nor does a log there, in which every
/// thread says something.
#[test]
fn a_full_standard_error_at_the_end() {
    let bench = bench();
    bench.program("run");
    for words in [&["root"][..], &["log", "root"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while (&writer).write(&[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        let mut command = bench.command("run");
        command.env("RUST_LOG", "trace").args(words).stdin(Stdio::null()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(125), "{words:?}");
        drop(reader);
    }
}

#[test]
fn a_serial_line() {
    let bench = bench();
    bench.kernel("serial_kernel");
    bench.program("run");
    let mut command = bench.command("run");
    command
        .args(["elf", "lines", "root"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let sent: Vec<u8> = (0..5000u32).map(|i| b'a' + (i % 15) as u8).collect();
    let mut input = child.stdin.take().unwrap();
    let all = [sent.as_slice(), b"q"].concat();
    let writer = std::thread::spawn(move || input.write_all(&all).unwrap());
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(done.status.code(), Some(0), "(this test needs a usable /dev/kvm): {}", text(&done));
    let expected: Vec<u8> = sent.iter().map(|byte| byte + 1).collect();
    assert!(done.stdout == expected, "{} bytes: {}", done.stdout.len(), text(&done));
}

/// A guest that this library's init is not in, and whose kernel listens to the keyboard, is asked to end by it.
#[test]
fn a_guest_with_an_init_of_its_own_is_asked_by_its_keyboard() {
    let bench = bench();
    bench.kernel("keyboard_kernel");
    bench.program("run");
    for way in ["event", "ctrl-alt-del"] {
        let mut command = bench.command("run");
        command.args(["elf", "no-init", "out", way, "root"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut up = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        assert_eq!(up, *b"u");
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{way}: {}", text(&done));
        assert_eq!(text(&done), "", "{way}");
    }
}

/// What a kernel prints before it has its console is in the console's file, unless a serial line was asked for.
#[test]
fn early_output_of_a_kernel_in_a_file() {
    let bench = bench();
    bench.kernel("early_kernel");
    bench.program("run");
    for (words, file, printed) in [(&["file"][..], "early\n", ""), (&["file", "line"], "", "early\n")] {
        let done = bench.command("run").args(["elf", "accept"]).args(words).arg("root").output().unwrap();
        assert_eq!((done.status.code(), text(&done).as_str()), (Some(0), printed), "{words:?}");
        assert_eq!(std::fs::read_to_string(bench.path("console")).unwrap(), file, "{words:?}");
    }
}
