//! Text for descriptors that nobody may be reading.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::termios::isatty;

/// At most so much is written at once: of that a pipe takes all or nothing (pipe(7)).
const PIECE: usize = libc::PIPE_BUF;

/// Writes records as far as their reader takes them without being waited for. What does not fit is left out, and the
/// next record that fits comes after a line that says how many were.
pub(super) struct Outlet<F> {
    to: F,
    left_out: u64,
    /// The last thing written has no end.
    cut: bool,
}

impl<F: AsFd> Outlet<F> {
    pub fn new(to: F) -> Self {
        Outlet { to, left_out: 0, cut: false }
    }

    /// True if all of it was taken.
    fn put(&mut self, text: &[u8]) -> bool {
        let mut begun = false;
        for piece in text.chunks(PIECE) {
            let taken = try_write(self.to.as_fd(), piece).unwrap_or(0);
            begun |= taken > 0;
            if taken < piece.len() {
                self.cut |= begun;
                return false;
            }
        }
        self.cut = false;
        true
    }

    /// True if whoever reads knows of all that was left out.
    fn confess(&mut self) -> bool {
        let end = if self.cut { "\n" } else { "" };
        self.left_out == 0
            || self
                .put(format!("{end}({} log records left out: not read in time)\n", self.left_out).as_bytes())
    }
}

impl<F: AsFd> Write for Outlet<F> {
    /// One record, which is always done with: there is nobody to tell that it was not.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if self.confess() {
            self.left_out = 0;
        }
        if self.left_out > 0 || !self.put(record) {
            self.left_out = self.left_out.saturating_add(1);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what is taken without waiting, however the descriptor was opened. Its own flag for that is not touched: others
/// may share it.
pub(super) fn try_write(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let stat = fstat(to)?;
    let own = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => return send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo => reopen(to),
        // The other side of a terminal cannot be opened anew: that makes another terminal.
        FileType::CharacterDevice if isatty(to) && stat.st_rdev != makedev(5, 2) => reopen(to),
        _ => None,
    };
    if let Some(own) = own {
        return rustix::io::write(own, bytes);
    }
    let mut ready = [PollFd::new(&to, PollFlags::OUT)];
    poll(&mut ready, Some(&Timespec::default()))?;
    if !ready[0].revents().contains(PollFlags::OUT) {
        return Err(Errno::AGAIN);
    }
    rustix::io::write(to, bytes)
}

/// The same file, not waiting. `None` without `/proc`, or if it belongs to somebody else.
fn reopen(file: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty()).ok()
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
