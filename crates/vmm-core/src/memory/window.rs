//! Windows: address space that a guest sees as memory and in which a device shows it parts of files.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::GuestAddress;

use super::layout::{HUGE_PAGE, RamRange};
use super::sys::{Mapping, Source};

/// A shared memory window (virtio 1.2 §2.10): guest addresses, and as many bytes of host address space that
/// nothing is mapped in yet. An access by the guest to a part that stays empty ends the machine.
///
/// Whatever the device shows there goes when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Window {
    guest: RamRange,
    mapping: Arc<Mapping>,
}

impl Window {
    /// Reserves host address space for `range`, congruent to it modulo 2 MiB.
    ///
    /// # Errors
    ///
    /// The host has no address space of that size.
    pub fn reserve(range: RamRange) -> io::Result<Self> {
        let len = usize::try_from(range.len).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let mapping = Arc::new(Mapping::reserve(len, HUGE_PAGE as usize, range.start)?);
        Ok(Window { guest: range, mapping })
    }

    /// First guest address.
    pub fn guest_addr(&self) -> GuestAddress {
        GuestAddress(self.guest.start)
    }

    /// Host address of the same byte.
    pub fn host_addr(&self) -> u64 {
        self.mapping.as_ptr() as u64
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.guest.len
    }

    /// Shows `len` bytes of `file` from `file_offset` on at `offset`, shared: what the guest writes reaches the
    /// file, and what others write the guest. All three are multiples of the page size.
    ///
    /// The guest must not touch what lies behind the end of the file.
    ///
    /// # Errors
    ///
    /// Of mmap(2); EINVAL beyond the end of the window.
    pub fn show_file(
        &self,
        offset: u64,
        len: u64,
        file: &File,
        file_offset: u64,
        writable: bool,
    ) -> io::Result<()> {
        let write = if writable { libc::PROT_WRITE } else { 0 };
        let source = Source {
            flags: libc::MAP_SHARED,
            fd: file.as_raw_fd(),
            offset: i64::try_from(file_offset).map_err(|_| invalid())?,
        };
        self.mapping.show(size(offset)?, size(len)?, libc::PROT_READ | write, &source)
    }

    /// Shows a copy of `bytes`, and zeros behind them, in the `len` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// Of mmap(2); EINVAL if `bytes` are more than `len`, or beyond the end of the window.
    pub fn show_bytes(&self, offset: u64, len: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > len {
            return Err(invalid());
        }
        let (offset, len) = (size(offset)?, size(len)?);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.mapping.show(offset, len, prot, &Source { flags: anonymous, fd: -1, offset: 0 })?;
        self.mapping.put(offset, bytes)
    }

    /// Shows nothing any more in the `len` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// Of mmap(2); EINVAL beyond the end of the window.
    pub fn hide(&self, offset: u64, len: u64) -> io::Result<()> {
        let nothing = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let source = Source { flags: nothing, fd: -1, offset: 0 };
        self.mapping.show(size(offset)?, size(len)?, libc::PROT_NONE, &source)
    }

    /// True for a window of no length, which `reserve` does not make.
    pub fn is_empty(&self) -> bool {
        self.guest.len == 0
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// True if something can be read there, by proc_pid_maps(5); `/proc/self/mem` passes by protections.
    fn readable(addr: u64) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(start)..number(end)).contains(&addr) && rest.starts_with('r')
        })
    }

    /// What a guest would read, or `None` where nothing is mapped.
    fn byte(window: &Window, offset: u64) -> Option<u8> {
        if !readable(window.host_addr() + offset) {
            return None;
        }
        let mut byte = [0];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut byte, window.host_addr() + offset).ok().map(|()| byte[0])
    }

    #[test]
    fn files_and_bytes_come_and_go() {
        let window = Window::reserve(RamRange { start: 1 << 32, len: 4 << 20 }).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.write_all(&[2; 4096]).unwrap();
        window.show_file(8192, 4096, &file, 4096, false).unwrap();
        window.show_bytes(4096, 4096, b"abc").unwrap();
        assert_eq!([4096, 4099, 8192, 8192 + 4095].map(|at| byte(&window, at)), [b'a', 0, 2, 2].map(Some));
        file.write_at(&[7], 4096).unwrap();
        assert_eq!(byte(&window, 8192), Some(7));
        window.hide(4096, 8192).unwrap();
        assert_eq!([4096, 8192].map(|at| byte(&window, at)), [None, None]);
        let end = 4 << 20;
        assert!(window.show_file(end, 4096, &file, 0, false).is_err());
        assert!(window.show_file(end - 4096, 8192, &file, 0, false).is_err());
        assert!(window.show_file(0, 4096, &file, u64::MAX, false).is_err());
        assert!(window.show_bytes(0, 2, b"abc").is_err());
        assert!(window.hide(u64::MAX, 4096).is_err());
    }

    #[test]
    fn reserved_where_large_pages_fit() {
        let range = RamRange { start: (1 << 32) + 0x20_0000, len: 64 << 20 };
        let window = Window::reserve(range).unwrap();
        assert_eq!(window.host_addr() % HUGE_PAGE, 0);
        assert_eq!((window.guest_addr().0, window.len(), window.is_empty()), (range.start, range.len, false));
        assert!(Window::reserve(RamRange { start: 0, len: u64::MAX }).is_err());
    }
}
