//! Terminals of tests.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

/// Both ends of a new terminal of 100 columns and 30 rows.
pub fn terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let none = std::ptr::null_mut();
    // SAFETY: the pointers are to two integers, to nothing, and to a size.
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), &size) }, 0);
    for fd in [master, slave] {
        // SAFETY: sets a flag of a descriptor that is open. Other tests start programs meanwhile.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: new, and nobody else's.
    unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

pub fn mode(terminal: &impl AsRawFd) -> (u32, u32, u32) {
    // SAFETY: all-zero is a termios.
    let mut mode: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: writes one termios.
    assert_eq!(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut mode) }, 0);
    (mode.c_iflag, mode.c_oflag, mode.c_lflag)
}

/// Nothing comes for longer than this: it will not come.
const SILENCE: Duration = Duration::from_secs(120);

/// Reads what a program prints on its terminal until the text has come.
pub fn expect(master: &mut File, child: &mut Child, text: &str) {
    let (mut seen, mut last) = (Vec::new(), Instant::now());
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut ready = libc::pollfd { fd: master.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one pollfd.
        if unsafe { libc::poll(&mut ready, 1, 500) } == 1 {
            let mut byte = [0];
            let count = master.read(&mut byte);
            assert!(matches!(count, Ok(1)), "{count:?} after {:?}", String::from_utf8_lossy(&seen));
            seen.extend(byte);
            last = Instant::now();
        } else if child.try_wait().unwrap().is_some() || last.elapsed() > SILENCE {
            panic!("no {text:?} after {:?}: {}", String::from_utf8_lossy(&seen), fate(child));
        }
    }
}

/// How a program ended, and what it complained of if that is a pipe. One that runs is killed.
fn fate(child: &mut Child) -> String {
    let ended = child.try_wait().unwrap();
    if ended.is_none() {
        child.kill().unwrap();
    }
    let mut complaints = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut complaints);
    }
    format!("{ended:?} {complaints}")
}
