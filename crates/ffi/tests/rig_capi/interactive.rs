//! A user at a terminal.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::c::pty::{expect, mode, terminal};
use crate::guest::{Host, rootfs};

/// A sequence in which a lost, doubled or moved byte shows, without what a terminal may keep to itself.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| b' ' + ((i ^ (i >> 8) ^ (i >> 16)) % 94) as u8).collect()
}

/// The implicit console on a terminal: its size and a new one, Ctrl-C, end of file, a megabyte pasted while the guest
/// reads slowly, and a screen that is not looked at for a minute.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_session_at_a_terminal() {
    let pasted = pattern(1 << 20);
    let copy = rootfs().join("tmp/pasted");
    std::fs::write(&copy, &pasted).unwrap();
    let script = r#"
        stty size
        trap 'stty size' WINCH; trap 'echo interrupted; step=next' INT
        echo ready-1; while [ -z "$step" ]; do sleep 0.1; done
        trap - INT WINCH
        echo ready-2; cat; echo "cat: $?"
        stty raw -echo
        echo ready-3; head -c 1048576 | cmp - /tmp/pasted; echo "cmp: $?"
        seq 1 5000
        exit 8"#;
    let host = Host::new();
    let (mut master, slave) = terminal();
    let before = mode(&slave);
    let mut command = host.sh(&[], script);
    let end = || slave.try_clone().unwrap();
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();

    expect(&mut master, &mut child, "30 100");
    expect(&mut master, &mut child, "ready-1");
    assert_ne!(mode(&slave), before);
    let size = libc::winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads one winsize.
    assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
    // SAFETY: sends a signal to a child that was not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGWINCH) }, 0);
    expect(&mut master, &mut child, "50 120");
    master.write_all(b"\x03").unwrap();
    expect(&mut master, &mut child, "interrupted");

    expect(&mut master, &mut child, "ready-2");
    master.write_all(b"a line\r\x04").unwrap();
    expect(&mut master, &mut child, "a line\r\na line\r\n");
    expect(&mut master, &mut child, "cat: 0");

    expect(&mut master, &mut child, "ready-3");
    let mut input = master.try_clone().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&pasted).unwrap());
    expect(&mut master, &mut child, "cmp: 0");
    writer.join().unwrap();

    // The terminal takes 4 KiB or so; the rest waits in the guest.
    std::thread::sleep(Duration::from_secs(60));
    assert!(child.try_wait().unwrap().is_none());
    let mut screen = Vec::new();
    let numbers: String = (1..=5000).map(|i| format!("{i}\n")).collect();
    while !screen.ends_with(b"5000\n") {
        let mut bytes = [0; 4096];
        let count = master.read(&mut bytes).unwrap();
        screen.extend(&bytes[..count]);
    }
    let shown = String::from_utf8_lossy(&screen).replace('\r', "");
    assert!(shown.trim_start() == numbers, "{} bytes of {}", shown.len(), numbers.len());
    assert_eq!(child.wait().unwrap().code(), Some(8));
    assert_eq!(mode(&slave), before);
    std::fs::remove_file(copy).unwrap();
}

/// A port of a console of its own on descriptor 0.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_terminal_port_on_standard_input() {
    let host = Host::new();
    let (mut master, slave) = terminal();
    let before = mode(&slave);
    let script = "exec </dev/hvc0 >/dev/hvc0 2>&1; echo ready; read word; echo \"got $word\"; exit 7";
    let mut command = host.sh(&["-n", "-m", "-t", "term=0,0"], script);
    let mut child = command.stdin(slave.try_clone().unwrap()).spawn().unwrap();
    expect(&mut master, &mut child, "ready");
    master.write_all(b"something\r").unwrap();
    expect(&mut master, &mut child, "got something");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(mode(&slave), before);
}

/// A standard stream that is closed is none; the terminal on the others works, and gets its mode back.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn closed_standard_streams() {
    let host = Host::new();
    for (closed, shows) in [([0].as_slice(), true), (&[2], true), (&[1], false), (&[0, 1, 2], false)] {
        let (mut master, slave) = terminal();
        let before = mode(&slave);
        let mut command = host.sh(&[], "echo \"size $(stty size </dev/hvc0)\"; exit 7");
        let end = || slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: close is async-signal-safe; these are the child's own.
        unsafe {
            command.pre_exec(move || {
                closed.iter().for_each(|fd| {
                    libc::close(*fd);
                });
                Ok(())
            })
        };
        let mut child = command.spawn().unwrap();
        if shows {
            expect(&mut master, &mut child, "size 30 100");
        }
        assert_eq!(child.wait().unwrap().code(), Some(7), "without {closed:?}");
        assert_eq!(mode(&slave), before, "without {closed:?}");
    }
}
