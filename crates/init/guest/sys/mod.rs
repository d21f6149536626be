//! System calls as safe functions. Nothing but this folder, the start code and the heap is unsafe.

mod clock;
mod files;
mod network;
mod process;

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::ptr;

use crate::arch::{self, number as nr};
use crate::errno::Errno;

pub use clock::*;
pub use files::*;
pub use network::*;
pub use process::*;

pub type Result<T> = core::result::Result<T, Errno>;

const AT_FDCWD: usize = -100_isize as usize;

/// Flags of [`open`]; all descriptors are opened so that the workload does not inherit them.
pub mod flag {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const READ_WRITE: usize = 2;
    pub const CREATE: usize = 0o100;
    pub const EXCLUSIVE: usize = 0o200;
    pub const TRUNCATE: usize = 0o1000;
    pub const APPEND: usize = 0o2000;
    pub const NONBLOCK: usize = 0o4000;
    pub const DIRECTORY: usize = 0o200_000;
}
const O_CLOEXEC: usize = 0o2_000_000;

/// A descriptor that is closed with its owner.
pub struct Fd(i32);

impl Fd {
    /// Takes over a descriptor that the process was started with.
    pub fn inherited(number: i32) -> Self {
        Self(number)
    }

    pub fn number(&self) -> i32 {
        self.0
    }

    fn argument(&self) -> usize {
        self.0 as usize
    }

    /// The same file under a number from 3.
    pub fn above_stdio(self) -> Result<Self> {
        const F_DUPFD_CLOEXEC: usize = 1030;
        if self.0 > 2 {
            return Ok(self);
        }
        // SAFETY: no pointers.
        unsafe { call(nr::FCNTL, [self.argument(), F_DUPFD_CLOEXEC, 3, 0, 0, 0]) }.map(new_fd)
    }

    /// Gives the descriptor up without closing it.
    pub fn leak(self) {
        core::mem::forget(self);
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: no pointers; the number is this value's own.
        let _ = unsafe { call(nr::CLOSE, [self.argument(), 0, 0, 0, 0, 0]) };
    }
}

/// # Safety
///
/// As for [`arch::syscall`].
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller vouches.
    let result = unsafe { arch::syscall(number, arguments) };
    check(result)
}

fn check(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| Errno(i32::try_from(result.wrapping_neg()).unwrap_or(i32::MAX)))
}

fn new_fd(number: usize) -> Fd {
    Fd(number as i32)
}

fn text(string: &CStr) -> usize {
    string.as_ptr() as usize
}

/// The arguments and the environment that the kernel put on the stack.
///
/// # Safety
///
/// `stack` is the stack pointer at the process's first instruction.
pub unsafe fn start_strings(stack: *const usize) -> (Vec<CString>, Vec<CString>) {
    // SAFETY: the argument count is the first word.
    let count = unsafe { *stack };
    let arguments = stack.wrapping_add(1).cast::<*const c_char>();
    let environment = arguments.wrapping_add(count).wrapping_add(1);
    // SAFETY: the argument pointers, as many as were counted, and a null one.
    let arguments = unsafe { strings(arguments) };
    // SAFETY: the environment's pointers and a null one come behind.
    let environment = unsafe { strings(environment) };
    (arguments, environment)
}

/// # Safety
///
/// `pointers` is an array of pointers to strings, with a null pointer at its end.
unsafe fn strings(mut pointers: *const *const c_char) -> Vec<CString> {
    let mut all = Vec::new();
    loop {
        // SAFETY: not past the null pointer at the end.
        let pointer = unsafe { *pointers };
        if pointer.is_null() {
            return all;
        }
        // SAFETY: a string, as the caller says.
        let string = unsafe { CStr::from_ptr(pointer) };
        all.push(string.into());
        pointers = pointers.wrapping_add(1);
    }
}

pub fn map(length: usize) -> Option<*mut u8> {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    // SAFETY: a new mapping, at an address the kernel chooses.
    let result = unsafe { call(nr::MMAP, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]) };
    result.ok().map(ptr::with_exposed_provenance_mut)
}

/// # Safety
///
/// The block came from [`map`] with the same length and is not used again.
pub unsafe fn unmap(block: *mut u8, length: usize) {
    // SAFETY: the caller gives the mapping up.
    let _ = unsafe { call(nr::MUNMAP, [block as usize, length, 0, 0, 0, 0]) };
}

pub fn read(fd: &Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    unsafe { call(nr::READ, [fd.argument(), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads the slice.
    unsafe { call(nr::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

/// Makes a descriptor private to this process and non-blocking.
pub fn adopt(fd: &Fd) -> Result<()> {
    const F_SETFD: usize = 2;
    const F_SETFL: usize = 4;
    const FD_CLOEXEC: usize = 1;
    // SAFETY: no pointers.
    unsafe { call(nr::FCNTL, [fd.argument(), F_SETFD, FD_CLOEXEC, 0, 0, 0]) }?;
    // SAFETY: no pointers.
    unsafe { call(nr::FCNTL, [fd.argument(), F_SETFL, flag::NONBLOCK, 0, 0, 0]) }.map(drop)
}

/// Lets `target` be the same file as `fd`, for programs executed later too.
pub fn duplicate_to(fd: &Fd, target: usize) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::DUP3, [fd.argument(), target, 0, 0, 0, 0]) }.map(drop)
}

pub fn set_hostname(name: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads the slice.
    unsafe { call(nr::SETHOSTNAME, [name.as_ptr() as usize, name.len(), 0, 0, 0, 0]) }.map(drop)
}

/// Starts a session, with descriptor 0 as its terminal.
pub fn new_session() -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    // SAFETY: no pointers.
    unsafe { call(nr::SETSID, [0; 6]) }?;
    // SAFETY: the argument is a number: 0, do not steal the terminal from another session.
    unsafe { call(nr::IOCTL, [0, TIOCSCTTY, 0, 0, 0, 0]) }.map(drop)
}

/// `ioctl` with a number as its argument.
pub fn ioctl_value(fd: i32, request: u32, value: i32) -> Result<()> {
    // SAFETY: the request takes no pointer.
    unsafe { call(nr::IOCTL, [fd as usize, request as usize, value as usize, 0, 0, 0]) }.map(drop)
}

/// `struct pollfd`.
#[repr(C)]
pub struct Poll {
    fd: i32,
    asked: u16,
    found: u16,
}

impl Poll {
    pub const READ: u16 = 0x1;
    pub const WRITE: u16 = 0x4;
    pub const HANG_UP: u16 = 0x10;

    pub fn new(fd: &Fd, asked: u16) -> Self {
        Self { fd: fd.number(), asked, found: 0 }
    }

    /// An entry that stays silent.
    pub fn nothing() -> Self {
        Self { fd: -1, asked: 0, found: 0 }
    }

    pub fn found(&self, what: u16) -> bool {
        self.found & what != 0
    }

    pub fn found_anything(&self) -> bool {
        self.found != 0
    }
}

/// Waits until something is found, or for `timeout` milliseconds.
pub fn poll(entries: &mut [Poll], timeout: Option<u64>) {
    let time = timeout.map(|ms| [ms / 1000, ms % 1000 * 1_000_000]);
    let time = time.as_ref().map_or(0, |time| ptr::from_ref(time) as usize);
    // SAFETY: the kernel reads and writes the entries, and reads one `struct timespec`; no signal mask.
    let _ = unsafe { call(nr::PPOLL, [entries.as_mut_ptr() as usize, entries.len(), time, 0, 0, 0]) };
}
