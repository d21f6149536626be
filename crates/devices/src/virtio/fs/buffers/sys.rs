//! Guest memory by its host addresses, and the calls that move it to and from files.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::Target;
use purlin_vmm_core::memory::{
    GuestAddress, GuestMemory, GuestMemoryRegion, GuestRam, MemoryRegionAddress, VolatileSlice, Window,
};

/// A piece of guest RAM, or of a window. Laid out as `struct iovec`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct HostBuffer(libc::iovec);

// SAFETY: an address range of the process, which no thread has a special relation to. The address is only
// used together with the memory it came from (see the methods), which is shared between threads anyway.
unsafe impl Send for HostBuffer {}

impl std::fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl HostBuffer {
    /// `len` bytes at guest address `addr`, if they are in one region of `ram`.
    ///
    /// The result is good as long as `ram` is; whoever keeps it keeps `ram` too.
    pub fn in_ram(ram: &GuestRam, addr: u64, len: usize) -> Option<Self> {
        let slice = ram.get_slice(GuestAddress(addr), len).ok()?;
        Some(HostBuffer(libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        }))
    }

    /// The same in a window. What is shown there may be gone at any time, or never have been there: only the host's
    /// kernel may touch it, which says EFAULT then.
    ///
    /// The result is good as long as `window` is; whoever keeps it keeps `window` too.
    pub fn in_window(window: &Window, addr: u64, len: usize) -> Option<Self> {
        let offset = addr.checked_sub(window.guest_addr().0)?;
        let end = offset.checked_add(len as u64)?;
        if end > window.len() {
            return None;
        }
        let host = usize::try_from(window.host_addr().checked_add(offset)?).ok()?;
        Some(HostBuffer(libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(host), iov_len: len }))
    }

    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Adds a piece of the same RAM that begins where this one ends; false if it does not.
    pub fn append(&mut self, next: HostBuffer) -> bool {
        let adjacent = self.0.iov_base.wrapping_byte_add(self.0.iov_len) == next.0.iov_base;
        let len = self.0.iov_len.checked_add(next.0.iov_len).filter(|_| adjacent);
        self.0.iov_len = len.unwrap_or(self.0.iov_len);
        len.is_some()
    }

    /// Takes the first `len` bytes off, at most all.
    pub fn split_front(&mut self, len: usize) -> Self {
        let len = len.min(self.0.iov_len);
        let front = HostBuffer(libc::iovec { iov_base: self.0.iov_base, iov_len: len });
        self.0.iov_base = self.0.iov_base.wrapping_byte_add(len);
        self.0.iov_len -= len;
        front
    }

    /// The same without its last `len` bytes.
    pub fn without_tail(self, len: usize) -> Self {
        HostBuffer(libc::iovec { iov_len: self.0.iov_len.saturating_sub(len), ..self.0 })
    }

    /// `None` for what is not in this RAM, but in a window.
    fn slice<'a>(self, ram: &'a GuestRam) -> Option<VolatileSlice<'a>> {
        let start = self.0.iov_base as usize;
        let end = start.checked_add(self.0.iov_len)?;
        let is_here = ram.iter().any(|region| {
            let host = region.get_host_address(MemoryRegionAddress(0)).map_or(usize::MAX, |at| at as usize);
            let region_end = host.checked_add(usize::try_from(region.len()).unwrap_or(0));
            start >= host && region_end.is_some_and(|region_end| end <= region_end)
        });
        // SAFETY: the range is in a region of this RAM, which the caller lends for the lifetime of the slice. The
        // guest may change it at any time, which is what volatile slices are for.
        is_here.then(|| unsafe { VolatileSlice::new(self.0.iov_base.cast(), self.0.iov_len) })
    }

    /// Copies into `to`, which has the same length. False if it is not in RAM.
    pub fn read(self, ram: &GuestRam, to: &mut [u8]) -> bool {
        self.slice(ram).map(|slice| slice.copy_to(to)).is_some()
    }

    /// Copies from `from`, which has the same length. False if it is not in RAM.
    pub fn write(self, ram: &GuestRam, from: &[u8]) -> bool {
        self.slice(ram).map(|slice| slice.copy_from(from)).is_some()
    }
}

/// preadv2(2) into guest memory that the caller keeps alive.
pub(super) fn read_file(file: &File, list: &[HostBuffer], offset: u64, wait: bool) -> io::Result<usize> {
    let (offset, count) = arguments(offset, list)?;
    let flags = if wait { 0 } else { libc::RWF_NOWAIT };
    // SAFETY: a `HostBuffer` is an iovec. Each is guest RAM, or in a window; the addresses stay theirs as long as
    // the caller's references to both. No Rust reference to the bytes exists, so the kernel may write them, and where
    // nothing is shown it fails.
    retry(|| unsafe { libc::preadv2(file.as_raw_fd(), list.as_ptr().cast(), count, offset, flags) })
}

/// pwritev2(2) from guest memory that the caller keeps alive.
pub(super) fn write_file(file: &File, list: &[HostBuffer], target: Target) -> io::Result<usize> {
    let (offset, flags) = match target {
        Target::At(offset) => (offset, 0),
        Target::End => (0, libc::RWF_APPEND),
    };
    let (offset, count) = arguments(offset, list)?;
    // SAFETY: as for `read_file`; the kernel only reads the bytes.
    retry(|| unsafe { libc::pwritev2(file.as_raw_fd(), list.as_ptr().cast(), count, offset, flags) })
}

fn arguments(offset: u64, list: &[HostBuffer]) -> io::Result<(i64, libc::c_int)> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    Ok((i64::try_from(offset).map_err(invalid)?, libc::c_int::try_from(list.len()).map_err(invalid)?))
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(done) => return Ok(done),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
