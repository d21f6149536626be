//! The three standard streams of a console.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};

use purlin_devices::virtio::console::terminal_size;

use super::HostEnds;
use super::stdio::copy;
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
        other => given(other)?,
    };
    let output = |stream: &ConsoleStream, end: &mut Option<PipeReader>| match stream {
        ConsoleStream::Pipe => {
            let (reader, writer) = pipe()?;
            *end = Some(reader);
            Ok(Some(writer.into()))
        }
        other => given(other),
    };
    let out = output(stdout, &mut ends.stdout)?;
    let err = output(stderr, &mut ends.stderr)?;
    Ok((Stream::new(input), Stream::new(out), Stream::new(err)))
}

/// A copy of the descriptor, if the stream has one.
fn given(stream: &ConsoleStream) -> Result<Option<OwnedFd>, BuildError> {
    match stream {
        ConsoleStream::Fd(fd) => copy(fd.as_fd()),
        // Inherited streams have become descriptors before anything was opened.
        ConsoleStream::Inherit | ConsoleStream::Pipe | ConsoleStream::None => Ok(None),
    }
}
