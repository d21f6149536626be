//! The process's standard streams, as they were when the machine was started.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::guard::Failure;
use super::outlet::try_write;
use crate::config::{Console, ConsoleStream};
use crate::machine::stdio;

/// Copies of those of the descriptors 0, 1 and 2 that are open.
pub(super) struct Stdio {
    streams: [Option<OwnedFd>; 3],
    occupied: Vec<File>,
}

impl Stdio {
    /// To be called before anything is opened.
    pub fn capture() -> Result<Self, Failure> {
        let [stdin, stdout, stderr] =
            [copy(io::stdin().as_fd()), copy(io::stdout().as_fd()), copy(io::stderr().as_fd())];
        Ok(Stdio { streams: [stdin?, stdout?, stderr?], occupied: Vec::new() })
    }

    /// Occupies the closed ones while this lives.
    pub fn occupy(&mut self) -> Result<(), Failure> {
        self.occupied = stdio::occupy().map_err(failed)?;
        Ok(())
    }

    /// The implicit console on these streams.
    pub fn console(&mut self) -> Console {
        let [stdin, stdout, stderr] =
            self.streams.each_mut().map(|fd| fd.take().map_or(ConsoleStream::None, ConsoleStream::Fd));
        Console::Streams { stdin, stdout, stderr }
    }
}

/// Writes to standard error what it takes without waiting: of a short text all or nothing, as it is with pipes
/// (pipe(7), PIPE_BUF).
pub(super) fn try_say(text: &str) {
    // There is nobody else to tell.
    let _ = try_write(io::stderr().as_fd(), text.as_bytes());
}

/// A copy, numbered from 3 on; none of a closed descriptor.
fn copy(fd: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Failure> {
    match fd.try_clone_to_owned() {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

fn failed(e: io::Error) -> Failure {
    Failure::invalid(format!("standard streams: {e}"))
}
