//! Host ends of ports: descriptors that never make the loop wait.
//!
//! The caller's open file description is never changed: O_NONBLOCK set on it would also hold for the shell
//! that shares it. A pipe or terminal is opened a second time through /proc instead; a socket takes a flag
//! per call; a regular file does not wait, and keeps the shared position; the rest is asked with `poll` before
//! each small write.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin_vmm_core::memory::{Bytes, VolatileSlice};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::lines::{LineSink, LineSplitter};
use super::sys;

/// A write of this many bytes to a pipe that polls writable does not wait (POSIX PIPE_BUF on Linux).
const PIPE_CHUNK: usize = 4096;
/// Device number of /dev/ptmx: opening it again would make another terminal.
const PTMX: (u32, u32) = (5, 2);

/// How a descriptor is used without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// MSG_DONTWAIT.
    Socket,
    /// The description is non-blocking: opened by us, or given so.
    NonBlocking,
    /// Never waits: regular files, /dev/null. epoll refuses these.
    Plain,
    /// Ask first, then write at most this many bytes.
    Guarded(usize),
}

/// A descriptor and how to use it.
#[derive(Debug)]
pub(crate) struct FdEnd {
    file: File,
    access: Access,
}

impl FdEnd {
    /// Finds out how to use `fd`.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        if kind.is_socket() {
            return Ok(FdEnd { file, access: Access::Socket });
        }
        if !is_pollable(file.as_fd()) {
            return Ok(FdEnd { file, access: Access::Plain });
        }
        if sys::is_nonblocking(file.as_fd()) {
            return Ok(FdEnd { file, access: Access::NonBlocking });
        }
        if (kind.is_fifo() || file.is_terminal())
            && let Some(own) = reopen(&file)
        {
            return Ok(FdEnd { file: own, access: Access::NonBlocking });
        }
        let chunk = if kind.is_fifo() { PIPE_CHUNK } else { 1 };
        Ok(FdEnd { file, access: Access::Guarded(chunk) })
    }

    /// Writes what goes without waiting, or fails with `WouldBlock`.
    pub(crate) fn write(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let fd = self.file.as_fd();
        match self.access {
            Access::Socket => sys::send(fd, slices, usize::MAX),
            Access::NonBlocking | Access::Plain => sys::write(fd, slices, usize::MAX),
            Access::Guarded(chunk) => {
                ask(fd, libc::POLLOUT)?;
                match sys::write_nowait(fd, slices, usize::MAX) {
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                        sys::write(fd, slices, chunk)
                    }
                    other => other,
                }
            }
        }
    }

    /// Reads what there is, or fails with `WouldBlock`. 0 is the end.
    pub(crate) fn read(&self, slices: &[VolatileSlice<'_>], limit: usize) -> io::Result<usize> {
        let fd = self.file.as_fd();
        match self.access {
            Access::Socket => sys::receive(fd, slices, limit),
            Access::NonBlocking | Access::Plain => sys::read(fd, slices, limit),
            Access::Guarded(_) => {
                ask(fd, libc::POLLIN)?;
                sys::read(fd, slices, limit)
            }
        }
    }

    /// The descriptor to wait on; `None` if there is never anything to wait for.
    pub(crate) fn wait_fd(&self) -> Option<RawFd> {
        (self.access != Access::Plain).then(|| self.file.as_raw_fd())
    }
}

/// `WouldBlock` unless `fd` is ready.
fn ask(fd: BorrowedFd<'_>, events: libc::c_short) -> io::Result<()> {
    if sys::poll(&[(fd, events)], Duration::ZERO)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// epoll refuses files that are always ready with EPERM.
fn is_pollable(fd: BorrowedFd<'_>) -> bool {
    let Ok(epoll) = Epoll::new() else { return true };
    let outcome = epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(EventSet::IN, 0));
    !matches!(outcome, Err(e) if e.raw_os_error() == Some(libc::EPERM))
}

/// The same pipe or terminal under an open file description of our own. `None` if that is not permitted,
/// or not possible.
fn reopen(file: &File) -> Option<File> {
    let before = file.metadata().ok()?;
    let device = (libc::major(before.rdev()), libc::minor(before.rdev()));
    if before.file_type().is_char_device() && device == PTMX {
        return None;
    }
    let (read, write) = sys::access(file.as_fd()).ok()?;
    let own = OpenOptions::new()
        .read(read)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .ok()?;
    let after = own.metadata().ok()?;
    let same = |m: &std::fs::Metadata| (m.dev(), m.ino(), m.rdev());
    (same(&before) == same(&after)).then_some(own)
}

/// Where a port's bytes come from.
#[derive(Debug)]
pub(super) enum HostInput {
    Fd(FdEnd),
    /// Each event is one byte 0x03.
    Interrupts(Arc<EventFd>),
}

impl HostInput {
    /// Reads straight into guest memory. 0 is the end.
    pub(super) fn read(&self, slices: &[VolatileSlice<'_>], limit: usize) -> io::Result<usize> {
        match self {
            HostInput::Fd(end) => end.read(slices, limit),
            HostInput::Interrupts(event) => {
                event.read()?;
                // Several at once are one: nobody presses Ctrl-C to be counted.
                let first = slices.first().ok_or(io::ErrorKind::WouldBlock)?;
                first.write_obj(0x03u8, 0).map_err(io::Error::other)?;
                Ok(1)
            }
        }
    }

    pub(super) fn wait_fd(&self) -> Option<RawFd> {
        match self {
            HostInput::Fd(end) => end.wait_fd(),
            HostInput::Interrupts(event) => Some(event.as_raw_fd()),
        }
    }
}

/// Where a port's bytes go.
pub(super) enum HostOutput {
    Fd(FdEnd),
    Lines(Box<dyn LineSink>, LineSplitter),
    /// Never there: bytes are dropped.
    Nowhere,
    /// Given up on: bytes are dropped.
    Broken,
}

impl HostOutput {
    /// Writes from guest memory; how many bytes went out.
    pub(super) fn write(&mut self, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        match self {
            HostOutput::Fd(end) => end.write(slices),
            HostOutput::Lines(sink, splitter) => {
                let now = Instant::now();
                let mut bytes = Vec::new();
                for slice in slices {
                    let start = bytes.len();
                    bytes.resize(start + slice.len(), 0);
                    slice.copy_to(bytes.get_mut(start..).unwrap_or_default());
                }
                splitter.push(&bytes, now, sink.as_mut());
                Ok(bytes.len())
            }
            HostOutput::Nowhere | HostOutput::Broken => Ok(slices.iter().map(VolatileSlice::len).sum()),
        }
    }

    /// True if the descriptor's reader is known to be gone.
    pub(super) fn is_hung_up(&self) -> bool {
        self.borrow_fd().is_some_and(sys::is_hung_up)
    }

    /// Ends an unfinished line.
    pub(super) fn finish(&mut self) {
        if let HostOutput::Lines(sink, splitter) = self {
            splitter.finish(Instant::now(), sink.as_mut());
        }
    }

    pub(super) fn wait_fd(&self) -> Option<RawFd> {
        match self {
            HostOutput::Fd(end) => end.wait_fd(),
            _ => None,
        }
    }

    pub(super) fn borrow_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            HostOutput::Fd(end) => Some(end.file.as_fd()),
            _ => None,
        }
    }

    /// True if bytes are dropped.
    pub(super) fn drops(&self) -> bool {
        matches!(self, HostOutput::Nowhere | HostOutput::Broken)
    }

    /// The unfinished line of a log port.
    pub(super) fn partial_line(&self) -> &[u8] {
        match self {
            HostOutput::Lines(_, splitter) => splitter.partial(),
            _ => &[],
        }
    }

    pub(super) fn set_partial_line(&mut self, bytes: &[u8]) {
        if let HostOutput::Lines(_, splitter) = self {
            splitter.set_partial(bytes);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io::Read;

    use purlin_vmm_core::memory::{GuestAddress, GuestMemory};

    use super::*;
    use crate::testing::guest_ram;

    /// How each kind of descriptor is used.
    #[test]
    fn kinds_of_descriptors() {
        let (reader, writer) = io::pipe().unwrap();
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let (master, slave) = sys::tests::open_pty(Default::default());
        b.set_nonblocking(true).unwrap();
        let null = File::open("/dev/null").unwrap();
        let table: Vec<(&str, OwnedFd, Access)> = vec![
            ("pipe, reading", reader.into(), Access::NonBlocking),
            ("pipe, writing", writer.into(), Access::NonBlocking),
            ("socket", a.into(), Access::Socket),
            ("file", tempfile::tempfile().unwrap().into(), Access::Plain),
            ("/dev/null", null.into(), Access::Plain),
            ("terminal", slave, Access::NonBlocking),
            ("master of a terminal", master, Access::Guarded(1)),
        ];
        for (name, fd, want) in table {
            assert_eq!(FdEnd::new(fd).unwrap().access, want, "{name}");
        }
    }

    /// Where a pipe cannot be opened again, writes still never wait, and nothing is lost.
    #[test]
    fn a_guarded_pipe_never_waits() {
        let ram = guest_ram(1 << 20);
        let bytes: Vec<u8> = (0..1u32 << 18).map(|i| (i / 7) as u8).collect();
        ram.write_slice(&bytes, GuestAddress(0)).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let end = FdEnd { file: File::from(OwnedFd::from(writer)), access: Access::Guarded(PIPE_CHUNK) };
        let (mut sent, mut got) = (0, Vec::new());
        while sent < bytes.len() {
            let slice = ram.get_slice(GuestAddress(sent as u64), bytes.len() - sent).unwrap();
            match end.write(&[slice]) {
                Ok(n) => sent += n,
                Err(e) => {
                    assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                    let mut chunk = [0; 10_000];
                    let n = reader.read(&mut chunk).unwrap();
                    got.extend_from_slice(&chunk[..n]);
                }
            }
        }
        drop(end);
        reader.read_to_end(&mut got).unwrap();
        assert!(got == bytes);
    }

    /// The way that does not need RWF_NOWAIT.
    #[test]
    fn a_pipe_that_polls_writable_takes_a_chunk() {
        let ram = guest_ram(1 << 20);
        let (_reader, writer) = io::pipe().unwrap();
        let slice = ram.get_slice(GuestAddress(0), 1 << 20).unwrap();
        let mut sent = 0;
        while ask(writer.as_fd(), libc::POLLOUT).is_ok() {
            sent += sys::write(writer.as_fd(), std::slice::from_ref(&slice), PIPE_CHUNK).unwrap();
        }
        assert_eq!(sent, 1 << 16);
    }
}
