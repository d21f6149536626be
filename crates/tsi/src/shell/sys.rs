//! System calls on guest memory.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};

use purlin_vmm_core::memory::VolatileSlice;
use rustix::net::SocketAddrAny;

/// Most pieces of guest memory in one system call (the kernel's limit is 1024).
pub(super) const MAX_PIECES: usize = 256;

/// Guest memory as an argument of a vectored system call. Reused, so that calls allocate nothing.
pub(super) struct IoVecs(Vec<libc::iovec>);

// SAFETY: the vector is filled and used within one call, and empty otherwise.
unsafe impl Send for IoVecs {}

impl IoVecs {
    pub fn new() -> Self {
        IoVecs(Vec::with_capacity(MAX_PIECES))
    }

    /// The first [`MAX_PIECES`] of `slices`.
    fn fill(&mut self, slices: &[VolatileSlice<'_>]) -> &mut [libc::iovec] {
        self.0.clear();
        self.0.extend(slices.iter().take(MAX_PIECES).map(|slice| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        }));
        &mut self.0
    }
}

/// The first `limit` bytes of `slices`, if they hold more.
pub(super) fn shorten<'m>(slices: &[VolatileSlice<'m>], limit: usize) -> Option<Vec<VolatileSlice<'m>>> {
    let mut left = limit;
    if slices.iter().map(|s| s.len()).sum::<usize>() <= left {
        return None;
    }
    let mut short = Vec::with_capacity(slices.len());
    for slice in slices {
        let len = slice.len().min(left);
        left -= len;
        short.extend(slice.subslice(0, len).ok().filter(|s| !s.is_empty()));
    }
    Some(short)
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn message(vecs: &mut [libc::iovec], name: *mut libc::c_void, name_len: u32) -> libc::msghdr {
    // SAFETY: msghdr is plain integers and pointers, for which all zeros is a valid value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = vecs.as_mut_ptr();
    header.msg_iovlen = vecs.len();
    header.msg_name = name;
    header.msg_namelen = name_len;
    header
}

/// `readv(2)` into guest memory.
pub(super) fn read(fd: BorrowedFd<'_>, vecs: &mut IoVecs, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let vecs = vecs.fill(slices);
    let count = vecs.len() as libc::c_int;
    // SAFETY: the vectors point into guest memory that the slices keep mapped for the call and that no
    // Rust reference aliases; any bytes are valid there.
    check(unsafe { libc::readv(fd.as_raw_fd(), vecs.as_ptr(), count) })
}

/// `sendmsg(2)` from guest memory, without SIGPIPE; to `to`, or to the peer.
pub(super) fn send(
    fd: BorrowedFd<'_>,
    vecs: &mut IoVecs,
    slices: &[VolatileSlice<'_>],
    to: Option<&SocketAddrAny>,
) -> io::Result<usize> {
    let (name, len) = match to {
        // The kernel only reads the name.
        Some(addr) => (addr.as_ptr().cast_mut().cast(), addr.addr_len()),
        None => (std::ptr::null_mut(), 0),
    };
    let header = message(vecs.fill(slices), name, len);
    // SAFETY: `header` points at the vectors and the address, which live across the call; the guest memory
    // behind them stays mapped, the kernel only reads it, and the guest changing it meanwhile changes only
    // which bytes are sent.
    check(unsafe { libc::sendmsg(fd.as_raw_fd(), &header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
}

/// `recvmsg(2)` of one datagram into guest memory: its whole length, even if it did not fit, and its sender.
pub(super) fn receive(
    fd: BorrowedFd<'_>,
    vecs: &mut IoVecs,
    slices: &[VolatileSlice<'_>],
) -> io::Result<(usize, Option<SocketAddrAny>)> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let name_len = size_of::<libc::sockaddr_storage>() as u32;
    let mut header = message(vecs.fill(slices), name.as_mut_ptr().cast(), name_len);
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: `header` points at the vectors and the name, which live across the call; guest memory as for
    // `read`.
    let len = check(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut header, flags) })?;
    let filled = header.msg_namelen;
    let from = (2..=name_len).contains(&filled).then(|| {
        // SAFETY: the kernel wrote an address of `filled` bytes there, which is in the range the function
        // accepts.
        unsafe { SocketAddrAny::read(name.as_ptr().cast(), filled) }
    });
    Ok((len, from))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use purlin_devices::testing::guest_ram;
    use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestMemory};

    use super::*;

    #[test]
    fn pieces_of_memory_are_one_stream() {
        let ram = guest_ram(1 << 20);
        ram.write_slice(b"hello, world", GuestAddress(100)).unwrap();
        let slice = |at, len| ram.get_slice(GuestAddress(at), len).unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        let mut vecs = IoVecs::new();
        let sent = send(a.as_fd(), &mut vecs, &[slice(100, 5), slice(105, 7)], None).unwrap();
        assert_eq!(sent, 12);
        let got = read(b.as_fd(), &mut vecs, &[slice(5000, 2), slice(9000, 100)]).unwrap();
        assert_eq!(got, 12);
        let mut bytes = [0; 10];
        ram.read_slice(&mut bytes, GuestAddress(9000)).unwrap();
        assert_eq!(&bytes, b"llo, world");
    }

    #[test]
    fn a_datagram_tells_its_whole_length() {
        let ram = guest_ram(1 << 20);
        let slice = |at, len| ram.get_slice(GuestAddress(at), len).unwrap();
        let (a, b) = UnixDatagram::pair().unwrap();
        a.send(&[7; 500]).unwrap();
        let (len, from) = receive(b.as_fd(), &mut IoVecs::new(), &[slice(0, 100)]).unwrap();
        assert_eq!((len, from.is_some()), (500, false));
    }
}
