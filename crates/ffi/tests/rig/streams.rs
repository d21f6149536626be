//! Bytes between host and guest.

use std::io::{Read, Write};
use std::time::Duration;

use purlin::{Console, ConsoleStream, ExitReason};

use crate::support::{collect, config, run, sh, wait};

/// A sequence in which a lost, doubled or moved byte shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn ten_mib_pass_through_the_guest_intact() {
    let vm = config(sh("cat")).build().unwrap();
    let mut stdin = vm.take_stdin().unwrap();
    let stdout = collect(vm.take_stdout().unwrap());
    let sent = pattern(10 << 20);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let exit = wait(vm.start().unwrap());
    writer.join().unwrap();
    drop(vm);
    let got = stdout.join().unwrap();
    assert_eq!(exit.code, 0);
    assert_eq!(got.len(), sent.len());
    assert!(got == sent, "bytes differ");
}

/// The guest ends while most of its output is still in its ring and the reader is slow.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn output_before_the_end_reaches_a_slow_reader() {
    let vm = config(sh("head -c 1000000 /dev/zero | tr '\\0' x; echo end")).build().unwrap();
    let mut stdout = vm.take_stdout().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut total, mut last, mut chunk) = (0, 0, [0; 16384]);
        loop {
            match stdout.read(&mut chunk).unwrap() {
                0 => return (total, last),
                n => {
                    total += n;
                    last = chunk[n - 1];
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    });
    let exit = wait(vm.start().unwrap());
    drop(vm);
    assert_eq!(exit.code, 0);
    assert_eq!(reader.join().unwrap(), (1_000_004, b'\n'));
}

/// Nobody reads, the pipe is full, the guest blocks in write: stop and exit are not held up.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_reader_that_never_reads_does_not_hold_the_exit() {
    let vm = config(sh("cat /dev/zero")).build().unwrap();
    let stdout = vm.take_stdout().unwrap();
    vm.start().unwrap();
    std::thread::sleep(Duration::from_secs(10));
    vm.kill();
    let exit = wait(&vm);
    assert_eq!(exit.reason, ExitReason::Killed);
    drop(stdout);
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn standard_error_is_its_own_stream() {
    let done = run(config(sh("echo out; echo err >&2")));
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn console_to_a_file_and_no_console_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("console");
    let vm = config(sh("echo to the console")).console(Console::file(&file)).build().unwrap();
    assert_eq!(wait(vm.start().unwrap()).code, 0);
    drop(vm);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("to the console"), "{text:?}");

    // The control channel works without the implicit console.
    let vm = config(sh("sleep 100; exit 3")).console(Console::Disabled).build().unwrap();
    vm.start().unwrap();
    std::thread::sleep(Duration::from_secs(10));
    vm.stop(Duration::from_secs(30)).unwrap();
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (143, ExitReason::Stopped));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn absent_streams_are_end_of_file_and_dropped() {
    let streams = Console::Streams {
        stdin: ConsoleStream::None,
        stdout: ConsoleStream::Pipe,
        stderr: ConsoleStream::None,
    };
    let vm = config(sh("echo visible; echo lost >&2")).console(streams).build().unwrap();
    let stdout = collect(vm.take_stdout().unwrap());
    let exit = wait(vm.start().unwrap());
    drop(vm);
    assert_eq!((exit.code, stdout.join().unwrap().as_slice()), (0, &b"visible\n"[..]));
}
