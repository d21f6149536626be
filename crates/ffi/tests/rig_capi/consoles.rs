//! Consoles on files, pipes and terminals.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::c::pty::{expect, mode, terminal};
use crate::guest::{Host, finish, piped, variable};

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn output_to_a_file() {
    let host = Host::new();
    let file = host.bench.path("console.log");
    let ended = host.run(&["-o", file.to_str().unwrap()], "echo out; echo err >&2; exit 4", b"ignored");
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(4), "", ""));
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("out\r\n") && text.contains("err\r\n"), "{text:?}");
}

/// A stock kernel prints before it has a driver for the console; its own init is on the same line, and powers off.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn early_output_of_a_stock_kernel() {
    let host = Host::new();
    let file = host.bench.path("console.log");
    let stock = variable("PURLIN_STOCK");
    let [initramfs, kernel] = ["initramfs.cpio", "vmlinuz"].map(|name| stock.join(name));
    let words = "console=hvc0 panic=-1 purlin.bench";
    let mut options = vec!["-o", file.to_str().unwrap(), "-i", initramfs.to_str().unwrap(), "-w", words];
    options.extend(["-k", kernel.to_str().unwrap()]);
    let ended = host.run(&options, "true", b"");
    let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}{text}", ended.stderr);
    assert!(
        text.contains("Linux version") && text.contains("earlycon: uart8250 at I/O port 0x3f8"),
        "{text}"
    );
    assert!(text.contains("init-runs"), "{text}");
}

/// The child has these descriptors from 100 on, more than this process has.
fn with_descriptors(command: &mut Command, list: Vec<OwnedFd>) {
    // SAFETY: dup2 is async-signal-safe, and the list is open in the child as it is here.
    unsafe {
        command.pre_exec(move || {
            for (number, fd) in (100..).zip(&list) {
                if libc::dup2(fd.as_raw_fd(), number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    };
}

fn read_all(mut reader: impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn streams_of_named_ports_and_of_another_console() {
    let ways: [&[&str]; 2] = [
        &["-n", "-c", "100,101,102"],
        &[
            "-n",
            "-m",
            "-p",
            "krun-stdin=0,100,-1",
            "-p",
            "krun-stdout=0,-1,101",
            "-p",
            "krun-stderr=0,-1,102",
        ],
    ];
    for options in ways {
        let host = Host::new();
        let mut command = host.sh(options, "cat; echo err >&2; exit 6");
        let (input, mut write_input) = std::io::pipe().unwrap();
        let (read_output, output) = std::io::pipe().unwrap();
        let (read_error, error) = std::io::pipe().unwrap();
        with_descriptors(&mut command, vec![input.into(), output.into(), error.into()]);
        let child = piped(&mut command).spawn().unwrap();
        drop(command);
        write_input.write_all(b"through ports\n").unwrap();
        drop(write_input);
        assert_eq!(read_all(read_output), "through ports\n", "{options:?}");
        assert_eq!(read_all(read_error), "err\n", "{options:?}");
        assert_eq!(finish(child).code, Some(6), "{options:?}");
    }
}

/// A terminal of its own console, or a port of one: the guest sees its size and new sizes, and Ctrl-C is a
/// signal there; the mode is raw meanwhile and restored.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn terminals() {
    let script = |tty: &str| {
        format!(
            "exec <{tty} >{tty} 2>&1; stty size; trap 'stty size' WINCH; trap 'echo int; exit 8' INT
            echo up; while :; do sleep 0.1; done"
        )
    };
    // The workload's own terminal; Ctrl-C needs it to be the controlling one, which a second console is not.
    for (options, tty, ctrl_c) in [
        (["-n", "-c", "100,100,100"].as_slice(), "/dev/console", true),
        (&["-m", "-t", "term=0,100"], "/dev/hvc1", false),
    ] {
        let (mut master, slave) = terminal();
        let before = mode(&slave);
        let host = Host::new();
        let mut command = host.sh(options, &script(tty));
        with_descriptors(&mut command, vec![slave.try_clone().unwrap()]);
        let mut child = piped(&mut command).spawn().unwrap();
        expect(&mut master, &mut child, "30 100");
        expect(&mut master, &mut child, "up");
        assert_ne!(mode(&slave), before, "{options:?}");

        let size = libc::winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: reads one winsize.
        assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
        // SAFETY: sends a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGWINCH) }, 0);
        if ctrl_c {
            expect(&mut master, &mut child, "50 120");
            master.write_all(b"\x03").unwrap();
            expect(&mut master, &mut child, "int");
            assert_eq!(child.wait().unwrap().code(), Some(8), "{options:?}");
            assert_eq!(mode(&slave), before, "{options:?}");
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
