//! The system calls of the console that the standard library does not have.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use purlin_vmm_core::memory::VolatileSlice;

use super::protocol::WindowSize;
use super::ring::MAX_SLICES;
use crate::shell::sys::signal_set;

/// Guest memory as an argument of a vectored system call.
struct IoVecs<'a, 'm> {
    vecs: [libc::iovec; MAX_SLICES],
    len: usize,
    // The pointers above are into these slices.
    _slices: &'a [VolatileSlice<'m>],
}

impl<'a, 'm> IoVecs<'a, 'm> {
    /// At most [`MAX_SLICES`] of `slices`, and at most `limit` bytes.
    fn new(slices: &'a [VolatileSlice<'m>], limit: usize) -> Self {
        let mut vecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_SLICES];
        let (mut len, mut room) = (0, limit);
        for (vec, slice) in vecs.iter_mut().zip(slices) {
            let bytes = slice.len().min(room);
            if bytes == 0 {
                break;
            }
            *vec = libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: bytes };
            room -= bytes;
            len += 1;
        }
        IoVecs { vecs, len, _slices: slices }
    }

    fn header(&mut self) -> libc::msghdr {
        // SAFETY: msghdr is plain integers and pointers, for which all zeros is a valid value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = self.vecs.as_mut_ptr();
        header.msg_iovlen = self.len;
        header
    }

    fn count(&self) -> libc::c_int {
        // At most MAX_SLICES.
        self.len as libc::c_int
    }
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `writev` of at most `limit` bytes.
pub(super) fn write(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], limit: usize) -> io::Result<usize> {
    let v = IoVecs::new(slices, limit);
    // SAFETY: the vectors point into guest memory that the slices keep mapped for the call; the kernel
    // only reads it, and the guest changing it meanwhile changes only which bytes are written.
    check(unsafe { libc::writev(fd.as_raw_fd(), v.vecs.as_ptr(), v.count()) })
}

/// `pwritev2` with RWF_NOWAIT at the current position: EAGAIN instead of waiting, EOPNOTSUPP where the file
/// cannot promise that.
pub(super) fn write_nowait(
    fd: BorrowedFd<'_>,
    slices: &[VolatileSlice<'_>],
    limit: usize,
) -> io::Result<usize> {
    let v = IoVecs::new(slices, limit);
    // SAFETY: as for `write`.
    check(unsafe { libc::pwritev2(fd.as_raw_fd(), v.vecs.as_ptr(), v.count(), -1, libc::RWF_NOWAIT) })
}

/// `readv` of at most `limit` bytes.
pub(super) fn read(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], limit: usize) -> io::Result<usize> {
    let v = IoVecs::new(slices, limit);
    // SAFETY: the vectors point into guest memory that the slices keep mapped for the call and that no
    // Rust reference aliases; any bytes are valid there.
    check(unsafe { libc::readv(fd.as_raw_fd(), v.vecs.as_ptr(), v.count()) })
}

/// Non-blocking `sendmsg` without SIGPIPE.
pub(super) fn send(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], limit: usize) -> io::Result<usize> {
    let mut v = IoVecs::new(slices, limit);
    let header = v.header();
    // SAFETY: `header` points at `v.vecs`, which lives across the call; its memory as for `write`.
    check(unsafe { libc::sendmsg(fd.as_raw_fd(), &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

/// Non-blocking `recvmsg`.
pub(super) fn receive(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], limit: usize) -> io::Result<usize> {
    let mut v = IoVecs::new(slices, limit);
    let mut header = v.header();
    // SAFETY: `header` points at `v.vecs`, which lives across the call; its memory as for `read`.
    check(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut header, libc::MSG_DONTWAIT) })
}

/// Non-blocking `send` of ordinary bytes without SIGPIPE.
pub(super) fn send_bytes(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `bytes` is readable for its length during the call.
    check(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Waits until one of `fds` has one of its events (or an error). False after `limit`.
pub(super) fn poll(fds: &[(BorrowedFd<'_>, libc::c_short)], limit: Duration) -> io::Result<bool> {
    let mut list: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, events)| libc::pollfd { fd: fd.as_raw_fd(), events: *events, revents: 0 })
        .collect();
    let count = list.len() as libc::nfds_t;
    // Rounded up, so that a wait never turns into a spin.
    let millis = libc::c_int::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX);
    // SAFETY: `list` holds `count` entries and lives across the call.
    let ready = unsafe { libc::poll(list.as_mut_ptr(), count, millis) };
    match ready {
        0 => Ok(false),
        1.. => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True if `fd` reports POLLERR or POLLHUP: a pipe without reader, a socket without peer.
pub(super) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `entry` is one pollfd and lives across the call, which does not wait.
    let ready = unsafe { libc::poll(&mut entry, 1, 0) };
    ready > 0 && entry.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

/// True if the open file description has O_NONBLOCK.
pub(super) fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GETFL takes no further argument and changes nothing.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_NONBLOCK != 0
}

/// Read and write access of the open file description.
pub(super) fn access(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    // SAFETY: as in `is_nonblocking`.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = flags & libc::O_ACCMODE;
    Ok((mode != libc::O_WRONLY, mode != libc::O_RDONLY))
}

/// Keeps a signal from the calling thread while it lives, and takes back one that was raised meanwhile.
///
/// For threads that are not ours: a write to a closed pipe must not end the process. Must be dropped on the
/// thread that made it, so it is not `Send`.
pub(super) struct SignalBlock {
    signal: libc::c_int,
    old: libc::sigset_t,
    was_pending: bool,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl SignalBlock {
    pub(super) fn new(signal: libc::c_int) -> Self {
        let set = signal_set(signal);
        let mut old = signal_set(signal);
        let was_pending = is_pending(signal);
        // SAFETY: both sets are initialised.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut old) };
        SignalBlock { signal, old, was_pending, _not_send: std::marker::PhantomData }
    }
}

impl Drop for SignalBlock {
    fn drop(&mut self) {
        if !self.was_pending && is_pending(self.signal) {
            let set = signal_set(self.signal);
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the set is initialised, no information is asked for, and the timeout lives across the
            // call.
            unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &now) };
        }
        // SAFETY: `old` was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.old, std::ptr::null_mut()) };
    }
}

fn is_pending(signal: libc::c_int) -> bool {
    let mut set = signal_set(signal);
    // SAFETY: `set` is a valid place for the answer.
    if unsafe { libc::sigpending(&mut set) } != 0 {
        return false;
    }
    // SAFETY: `set` is initialised.
    unsafe { libc::sigismember(&set, signal) == 1 }
}

/// Terminal attributes.
pub(super) fn attributes(fd: BorrowedFd<'_>) -> io::Result<libc::termios> {
    let mut attributes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the pointer is valid for one termios.
    if unsafe { libc::tcgetattr(fd.as_raw_fd(), attributes.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: tcgetattr succeeded and filled it.
    Ok(unsafe { attributes.assume_init() })
}

/// Sets terminal attributes at once.
pub(super) fn set_attributes(fd: BorrowedFd<'_>, attributes: &libc::termios) -> io::Result<()> {
    // SAFETY: `attributes` is a valid termios.
    match unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, attributes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `attributes` as cfmakeraw leaves them.
pub(super) fn raw(attributes: &libc::termios) -> libc::termios {
    let mut raw = *attributes;
    // SAFETY: `raw` is a valid termios.
    unsafe { libc::cfmakeraw(&mut raw) };
    raw
}

/// TIOCGWINSZ.
pub(super) fn window_size(fd: BorrowedFd<'_>) -> io::Result<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(WindowSize { cols: size.ws_col, rows: size.ws_row })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::fd::{FromRawFd, OwnedFd};

    /// Master and slave of a new pseudo terminal.
    pub(in super::super) fn open_pty(size: WindowSize) -> (OwnedFd, OwnedFd) {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        let none = std::ptr::null_mut();
        // SAFETY: all pointers are valid or null, as openpty allows.
        let result = unsafe { libc::openpty(&mut master, &mut slave, none, std::ptr::null(), &size) };
        assert_eq!(result, 0, "openpty");
        // SAFETY: openpty succeeded, so this is a descriptor nobody else owns.
        let master = unsafe { OwnedFd::from_raw_fd(master) };
        // SAFETY: likewise.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        (master, slave)
    }

    pub(in super::super) fn raise(signal: libc::c_int) {
        // SAFETY: the calling thread blocks the signal.
        unsafe { libc::raise(signal) };
    }

    pub(in super::super) fn pending(signal: libc::c_int) -> bool {
        is_pending(signal)
    }
}
