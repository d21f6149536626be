//! The standard streams of this process, before a machine opens anything.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};

use crate::config::{Console, ConsoleStream, VmConfig};
use crate::machine::BuildError;

/// Gives consoles that inherit a stream a copy of its descriptor, or nothing if that is closed.
///
/// To be called before anything is opened: a closed descriptor's number goes to the next one that is.
pub(crate) fn inherit(config: &mut VmConfig) -> Result<(), BuildError> {
    for console in std::iter::once(&mut config.console).chain(&mut config.more_consoles) {
        if let Console::Streams { stdin, stdout, stderr } = console {
            resolve(stdin, io::stdin().as_fd())?;
            resolve(stdout, io::stdout().as_fd())?;
            resolve(stderr, io::stderr().as_fd())?;
        }
    }
    Ok(())
}

fn resolve(stream: &mut ConsoleStream, inherited: BorrowedFd<'_>) -> Result<(), BuildError> {
    if matches!(stream, ConsoleStream::Inherit) {
        *stream = copy(inherited)?.map_or(ConsoleStream::None, ConsoleStream::Fd);
    }
    Ok(())
}

/// A copy, numbered from 3 on; none of a closed descriptor.
pub(super) fn copy(fd: BorrowedFd<'_>) -> Result<Option<OwnedFd>, BuildError> {
    match fd.try_clone_to_owned() {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
        Err(e) => Err(BuildError::host("console descriptor")(e)),
    }
}

/// Occupies those of the numbers 0 to 2 that are free, as long as the result lives: otherwise a device's descriptor
/// would get such a number, and what somebody prints would go to the device.
pub(crate) fn occupy() -> io::Result<Vec<File>> {
    let mut occupied = Vec::new();
    loop {
        // Reads and writes fail as those of a closed descriptor do. There may be no /dev/null in a container.
        let nothing = File::from(open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        if nothing.as_raw_fd() > 2 {
            return Ok(occupied);
        }
        occupied.push(nothing);
    }
}
