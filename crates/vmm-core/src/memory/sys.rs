//! The system calls behind guest RAM.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::{self, NonNull};

use libc::{c_int, c_void};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder, MmapRegionError};

use super::layout::PAGE_SIZE;

/// What a [`Mapping`] shows.
pub(super) struct Source {
    /// `MAP_PRIVATE` or `MAP_SHARED`, with `MAP_ANONYMOUS`, `MAP_NORESERVE`, `MAP_HUGETLB`… as wanted.
    pub flags: c_int,
    /// File and offset in bytes, or -1 and 0.
    pub fd: RawFd,
    pub offset: i64,
}

/// Whether a part of a mapping can still be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryThere(pub bool);

/// A readable and writable mapping that is unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    addr: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range of the process; no thread has a special relation to it, and the
// struct itself never dereferences the address.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; no method changes the struct through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `source` at an address congruent to `congruent_to` modulo `align`.
    ///
    /// `align` must be a power of two and a multiple of the page size. The address is found by reserving
    /// more than needed, placing the mapping inside the reservation and giving the rest back.
    pub fn new(len: usize, align: usize, congruent_to: u64, source: &Source) -> io::Result<Self> {
        let reservation = Mapping::reserve(len, align, congruent_to)?;
        let placed = Source { flags: source.flags | libc::MAP_FIXED, fd: source.fd, offset: source.offset };
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let mapping = Mapping::map(reservation.addr.as_ptr(), reservation.len, prot, &placed)?;
        // The new mapping replaced the reservation page for page and owns the range from here on.
        std::mem::forget(reservation);
        Ok(mapping)
    }

    /// As [`Mapping::new`], but nothing can be read or written there.
    pub fn reserve(len: usize, align: usize, congruent_to: u64) -> io::Result<Self> {
        let page = PAGE_SIZE as usize;
        let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
        let len = len.checked_next_multiple_of(page).ok_or_else(too_large)?;
        let reserved = len.checked_add(align).ok_or_else(too_large)?;
        let nothing = Source {
            flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            fd: -1,
            offset: 0,
        };
        let mut reservation = Mapping::map(ptr::null_mut(), reserved, libc::PROT_NONE, &nothing)?;
        let base = reservation.addr.as_ptr() as usize;
        let wanted = congruent_to as usize & (align - 1) & !(page - 1);
        let head = wanted.wrapping_sub(base) & (align - 1);
        reservation.split_off_front(head);
        reservation.truncate(len);
        Ok(reservation)
    }

    fn map(addr: *mut u8, len: usize, prot: c_int, source: &Source) -> io::Result<Self> {
        // SAFETY: `addr` is null without MAP_FIXED, or lies in a reservation this process owns and nobody
        // uses, so no existing object is replaced; the kernel checks all other arguments.
        let addr =
            unsafe { libc::mmap(addr.cast::<c_void>(), len, prot, source.flags, source.fd, source.offset) };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let addr = NonNull::new(addr.cast::<u8>()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Mapping { addr, len })
    }

    fn split_off_front(&mut self, count: usize) {
        let count = count.min(self.len);
        unmap(self.addr, count);
        // SAFETY: `count` is at most `len`, so the result is inside the mapping or one past its end.
        self.addr = unsafe { self.addr.add(count) };
        self.len -= count;
    }

    fn truncate(&mut self, len: usize) {
        let len = len.min(self.len);
        // SAFETY: `len` is at most the old length, so the result is inside the mapping or one past its end.
        let tail = unsafe { self.addr.add(len) };
        unmap(tail, self.len - len);
        self.len = len;
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.addr.as_ptr()
    }

    /// Drops pages of private anonymous memory; the next access finds zeros.
    pub fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        self.drop_pages(offset, len, libc::MADV_DONTNEED)
    }

    /// Drops pages of shared memory and of the file behind it; the next access finds zeros.
    pub fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        self.drop_pages(offset, len, libc::MADV_REMOVE)
    }

    fn drop_pages(&self, offset: usize, len: usize, advice: c_int) -> io::Result<()> {
        let addr = self.part(offset, len)?;
        // SAFETY: the range is part of this mapping. Its contents become zero (or, in a private file mapping,
        // the file's): guest RAM holds bytes the guest may change at any time, and no Rust reference to them
        // exists; it is accessed through volatile slices only.
        let ret = unsafe { libc::madvise(addr.cast::<c_void>(), len, advice) };
        if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Puts fresh anonymous memory in the place of a part of the mapping.
    pub fn map_over(&self, offset: usize, len: usize) -> io::Result<()> {
        let addr = self.part(offset, len)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is part of this mapping, which owns it and unmaps it whole whatever is mapped
        // there; it stays readable and writable throughout, and is accessed through volatile slices only, for
        // which other contents are as good as a write by the guest.
        let got = unsafe { libc::mmap(addr.cast::<c_void>(), len, prot, flags, -1, 0) };
        if got == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the same range. Leaves it out of core dumps, as the rest of RAM is; advice only.
        unsafe { libc::madvise(addr.cast::<c_void>(), len, libc::MADV_DONTDUMP) };
        Ok(())
    }

    /// Puts something else in the place of a part of a reservation.
    pub fn show(&self, offset: usize, len: usize, prot: c_int, source: &Source) -> io::Result<()> {
        let addr = self.part(offset, len)?;
        let flags = source.flags | libc::MAP_FIXED;
        // SAFETY: the range is part of this mapping, which owns it and unmaps it whole whatever is mapped there.
        // Nothing in this process refers to bytes of a reservation; only a guest reads and writes them.
        let got = unsafe { libc::mmap(addr.cast::<c_void>(), len, prot, flags, source.fd, source.offset) };
        if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Copies to a part that [`Mapping::show`] made writable and that no guest knows of yet.
    pub fn put(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let addr = self.part(offset, bytes.len())?;
        // SAFETY: the range is part of this mapping, writable by the caller's word, and does not overlap a slice
        // of the caller's, as no Rust object lies in it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), addr, bytes.len()) };
        Ok(())
    }

    /// Resident bytes.
    #[cfg(test)]
    pub fn resident(&self) -> io::Result<usize> {
        let mut pages = vec![0u8; self.len / PAGE_SIZE as usize];
        // SAFETY: the range is this mapping, a whole number of pages, and the vector has a byte for each.
        let ret = unsafe { libc::mincore(self.addr.as_ptr().cast::<c_void>(), self.len, pages.as_mut_ptr()) };
        let count = pages.iter().filter(|page| **page & 1 != 0).count();
        if ret == 0 { Ok(count * PAGE_SIZE as usize) } else { Err(io::Error::last_os_error()) }
    }

    /// The address of `len` bytes at `offset`, if they are in the mapping.
    fn part(&self, offset: usize, len: usize) -> io::Result<*mut u8> {
        match offset.checked_add(len) {
            // SAFETY: `offset` is at most the mapping's length.
            Some(end) if end <= self.len => Ok(unsafe { self.addr.as_ptr().add(offset) }),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    /// Replaces `len` bytes from `offset` on by a private, writable mapping of the start of `file`.
    ///
    /// `offset` and `len` are multiples of the page size. The error says whether there still is memory in the range: if
    /// the kernel had none left for its own records, it may have removed the old pages and have put nothing there.
    pub fn overlay(&self, offset: usize, len: usize, file: &File) -> Result<(), (io::Error, MemoryThere)> {
        let Err(error) = self.map_file(offset, len, file) else { return Ok(()) };
        if error.raw_os_error() != Some(libc::ENOMEM) || self.map_over(offset, len).is_ok() {
            return Err((error, MemoryThere(true)));
        }
        Err((error, MemoryThere(false)))
    }

    fn map_file(&self, offset: usize, len: usize, file: &File) -> io::Result<()> {
        let page = PAGE_SIZE as usize;
        if len == 0 || !offset.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let at = self.part(offset, len)?.cast::<c_void>();
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: the replaced pages are part of this mapping, checked above, and stay readable and writable under
        // the new one. Only guest memory accesses read them, which expect their content to change at any time.
        let got = unsafe { libc::mmap(at, len, prot, flags, file.as_raw_fd(), 0) };
        if got == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range just mapped; the advice keeps its content.
        if unsafe { libc::madvise(at, len, libc::MADV_DONTDUMP) } != 0 {
            log::debug!("guest RAM: madvise of an overlay refused: {}", io::Error::last_os_error());
        }
        Ok(())
    }

    /// Takes pages of a part that are not there yet from these nodes of the host: only from them, or (not `strict`)
    /// from the first one first. Refused if any of them does not exist.
    pub fn bind(&self, offset: usize, len: usize, nodes: &[u32], strict: bool) -> io::Result<()> {
        // The kernel leaves out of a list what it does not have, unless nothing remains.
        nodes.iter().try_for_each(|node| self.set_policy(offset, len, libc::MPOL_BIND, &[*node]))?;
        match nodes {
            [first, ..] if !strict => self.set_policy(offset, len, libc::MPOL_PREFERRED, &[*first]),
            nodes => self.set_policy(offset, len, libc::MPOL_BIND, nodes),
        }
    }

    fn set_policy(&self, offset: usize, len: usize, mode: c_int, nodes: &[u32]) -> io::Result<()> {
        const WORD: usize = u64::BITS as usize;
        /// More than any kernel has (`CONFIG_NODES_SHIFT` is at most 10).
        const MAX_NODE: usize = 1024;
        let addr = self.part(offset, len)?;
        let mut mask = [0u64; MAX_NODE / WORD];
        for &node in nodes {
            let word = mask.get_mut(node as usize / WORD);
            *word.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))? |= 1 << (node as usize % WORD);
        }
        // One more than the number of bits: the kernel takes one off (mbind(2), BUGS).
        let bits = MAX_NODE + 1;
        // SAFETY: the range is part of this mapping, and a policy changes none of its content. The mask has as many
        // bits as the kernel reads, one less than told.
        let ret = unsafe { libc::syscall(libc::SYS_mbind, addr, len, mode, mask.as_ptr(), bits, 0) };
        if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Advises the kernel about the whole mapping.
    pub fn advise(&self, advice: c_int) -> io::Result<()> {
        // SAFETY: the range is exactly this mapping. Callers pass advice that keeps the contents
        // (MADV_HUGEPAGE, MADV_DONTDUMP).
        let ret = unsafe { libc::madvise(self.addr.as_ptr().cast::<c_void>(), self.len, advice) };
        if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.addr, self.len);
    }
}

/// Unmaps a part of a mapping the caller owns and stops using.
fn unmap(addr: NonNull<u8>, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: only `Mapping` calls this, with a part of itself that it forgets or drops. A failure (which
    // valid arguments do not have, short of the mapping count limit) leaks address space, nothing else.
    let ret = unsafe { libc::munmap(addr.as_ptr().cast::<c_void>(), len) };
    if ret != 0 {
        log::warn!("munmap of {len} bytes failed: {}", io::Error::last_os_error());
    }
}

/// Finishes `builder` with a view of `mapping`, which the view does not own.
///
/// The caller keeps `mapping` alive for as long as the view.
pub(super) fn view_of(
    builder: MmapRegionBuilder<()>,
    mapping: &Mapping,
) -> Result<MmapRegion<()>, MmapRegionError> {
    // SAFETY: the builder's size is at most the mapping's (the mapping is the page-rounded range), and
    // `GuestRegion` keeps the mapping until after the view is gone.
    unsafe { builder.with_raw_mmap_pointer(mapping.as_ptr()) }.build()
}

/// An anonymous file of `len` bytes whose size nobody can change any more.
///
/// A holder of the descriptor who could shrink the file would make guest memory accesses fault in the VMM.
pub(super) fn sealed_memfd(len: u64) -> io::Result<File> {
    let name = c"purlin-ram";
    // SAFETY: `name` is a NUL-terminated string that lives through the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nothing else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes an integer and touches no memory.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANONYMOUS: Source =
        Source { flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, fd: -1, offset: 0 };

    #[test]
    fn placed_congruent_for_any_guest_address() {
        for guest in [0u64, 0x1000, 0x1f_f000, 0x20_0000, 0x10_0000, 1 << 32] {
            let mapping = Mapping::new(0x30_0000, 0x20_0000, guest, &ANONYMOUS).unwrap();
            assert_eq!(mapping.as_ptr() as u64 & 0x1f_ffff, guest & 0x1f_ffff, "{guest:#x}");
        }
    }

    #[test]
    fn overflowing_lengths_are_refused() {
        assert!(Mapping::new(usize::MAX, 0x20_0000, 0, &ANONYMOUS).is_err());
        assert!(Mapping::new(usize::MAX - 0x1000, 0x20_0000, 0, &ANONYMOUS).is_err());
    }

    #[test]
    fn the_memfd_keeps_its_size() {
        let file = sealed_memfd(0x3000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0x3000);
        assert!(file.set_len(0x1000).is_err());
        assert!(file.set_len(0x4000).is_err());
    }
}
