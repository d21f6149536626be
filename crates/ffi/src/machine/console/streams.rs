//! The three standard streams of a console.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use purlin_devices::virtio::console::terminal_size;

use super::HostEnds;
use crate::config::ConsoleStream;
use crate::machine::BuildError;

/// One stream with its descriptor, if it has one.
pub(super) struct Stream {
    fd: Option<OwnedFd>,
    tty: bool,
}

impl Stream {
    fn new(fd: Option<OwnedFd>) -> Self {
        let tty = fd.as_ref().is_some_and(|fd| terminal_size(fd.as_fd()).is_ok());
        Stream { fd, tty }
    }

    pub fn is_terminal(&self) -> bool {
        self.tty
    }

    /// The descriptor, if it is to be a port of its own.
    pub fn take_plain(&mut self) -> Option<OwnedFd> {
        if self.tty { None } else { self.fd.take() }
    }

    /// A copy of the descriptor, if it is a terminal.
    pub fn terminal(&self) -> Result<Option<OwnedFd>, BuildError> {
        match &self.fd {
            Some(fd) if self.tty => Ok(Some(fd.try_clone().map_err(BuildError::host("terminal"))?)),
            _ => Ok(None),
        }
    }
}

/// Opens input, output and error. The caller's ends of pipes go to `ends`.
pub(super) fn open_streams(
    [stdin, stdout, stderr]: [&ConsoleStream; 3],
    ends: &mut HostEnds,
) -> Result<(Stream, Stream, Stream), BuildError> {
    let pipe = || io::pipe().map_err(BuildError::host("console pipe"));
    let input = match stdin {
        ConsoleStream::Pipe => {
            let (reader, writer) = pipe()?;
            ends.stdin = Some(writer);
            Some(reader.into())
        }
        other => given(other, io::stdin().as_fd())?,
    };
    let output =
        |stream: &ConsoleStream, inherited: BorrowedFd<'_>, end: &mut Option<PipeReader>| match stream {
            ConsoleStream::Pipe => {
                let (reader, writer) = pipe()?;
                *end = Some(reader);
                Ok(Some(writer.into()))
            }
            other => given(other, inherited),
        };
    let out = output(stdout, io::stdout().as_fd(), &mut ends.stdout)?;
    let err = output(stderr, io::stderr().as_fd(), &mut ends.stderr)?;
    Ok((Stream::new(input), Stream::new(out), Stream::new(err)))
}

/// A copy of the descriptor; none for a stream that is absent or closed.
fn given(stream: &ConsoleStream, inherited: BorrowedFd<'_>) -> Result<Option<OwnedFd>, BuildError> {
    let copy = match stream {
        ConsoleStream::Inherit => inherited.try_clone_to_owned(),
        ConsoleStream::Fd(fd) => fd.try_clone(),
        ConsoleStream::Pipe | ConsoleStream::None => return Ok(None),
    };
    match copy {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
        Err(e) => Err(BuildError::host("console descriptor")(e)),
    }
}
