//! The process's standard streams, as they were when the machine was started.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::guard::Failure;
use crate::config::{Console, ConsoleStream};

/// Descriptors 0, 1 and 2: copies of those that are open.
///
/// The closed ones are occupied while this lives: otherwise a device's descriptor would get such a number,
/// and what somebody prints would go to the device.
pub(super) struct Stdio {
    streams: [Option<OwnedFd>; 3],
    _occupied: Vec<File>,
}

impl Stdio {
    /// To be called before anything is opened.
    pub fn capture() -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::invalid(format!("standard streams: {e}"));
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [copy(stdin.as_fd()), copy(stdout.as_fd()), copy(stderr.as_fd())];
        let [stdin, stdout, stderr] = streams;
        let streams = [stdin.map_err(failed)?, stdout.map_err(failed)?, stderr.map_err(failed)?];
        let occupied = occupy().map_err(failed)?;
        Ok(Stdio { streams, _occupied: occupied })
    }

    /// The implicit console on these streams.
    pub fn console(&mut self) -> Console {
        let [stdin, stdout, stderr] =
            self.streams.each_mut().map(|fd| fd.take().map_or(ConsoleStream::None, ConsoleStream::Fd));
        Console::Streams { stdin, stdout, stderr }
    }
}

/// A copy, numbered from 3 on; none of a closed descriptor.
fn copy(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match fd.try_clone_to_owned() {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens `/dev/null` until the numbers 0 to 2 are in use.
fn occupy() -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    loop {
        let file = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        if file.as_raw_fd() > 2 {
            return Ok(files);
        }
        files.push(file);
    }
}
