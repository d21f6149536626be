//! System calls as safe functions. Nothing but this, the start code and the heap is unsafe.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_void};
use core::ptr;

use crate::arch::{self, number as nr};
use crate::errno::Errno;
use crate::rlimit::Rlimit;

pub type Result<T> = core::result::Result<T, Errno>;

const AT_FDCWD: usize = -100_isize as usize;
const SIGCHLD: usize = 17;

/// Flags of [`open`]; all descriptors are opened so that the workload does not inherit them.
pub mod flag {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const READ_WRITE: usize = 2;
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

pub fn open(path: &CStr, flags: usize) -> Result<Fd> {
    open_raw(AT_FDCWD, path, flags | O_CLOEXEC)
}

/// Opens a file that programs executed later keep.
pub fn open_inheritable(path: &CStr, flags: usize) -> Result<Fd> {
    open_raw(AT_FDCWD, path, flags)
}

pub fn open_at(directory: &Fd, path: &CStr, flags: usize) -> Result<Fd> {
    open_raw(directory.argument(), path, flags | O_CLOEXEC)
}

fn open_raw(directory: usize, path: &CStr, flags: usize) -> Result<Fd> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::OPENAT, [directory, text(path), flags, 0, 0, 0]) }.map(new_fd)
}

pub fn read(fd: &Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    unsafe { call(nr::READ, [fd.argument(), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads the slice.
    unsafe { call(nr::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

pub fn directory_records(fd: &Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    unsafe { call(nr::GETDENTS64, [fd.argument(), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

/// A whole file; `EFBIG` if it is longer than `limit`.
pub fn read_file(path: &CStr, limit: usize) -> Result<Vec<u8>> {
    let file = open(path, flag::READ)?;
    let mut content = Vec::new();
    let mut length = 0;
    loop {
        if length > limit {
            return Err(Errno::FBIG);
        }
        content.resize(length + 4096.max(length), 0);
        let count = read(&file, content.get_mut(length..).unwrap_or_default())?;
        length += count;
        if count == 0 {
            content.truncate(length);
            return Ok(content);
        }
    }
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

pub fn make_directory(path: &CStr, mode: usize) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::MKDIRAT, [AT_FDCWD, text(path), mode, 0, 0, 0]) }.map(drop)
}

pub fn change_mode(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::FCHMODAT, [AT_FDCWD, text(path), mode as usize, 0, 0, 0]) }.map(drop)
}

pub fn symlink(target: &CStr, link: &CStr) -> Result<()> {
    // SAFETY: the strings live through the call.
    unsafe { call(nr::SYMLINKAT, [text(target), AT_FDCWD, text(link), 0, 0, 0]) }.map(drop)
}

/// Mounts a file system without a device, with its type as its source.
pub fn mount(kind: &CStr, target: &CStr, flags: usize) -> Result<()> {
    // SAFETY: the strings live through the call; there is no data argument.
    unsafe { call(nr::MOUNT, [text(kind), text(target), text(kind), flags, 0, 0]) }.map(drop)
}

pub fn share_mounts() -> Result<()> {
    const MS_REC: usize = 1 << 14;
    const MS_SHARED: usize = 1 << 20;
    // SAFETY: the string lives through the call; a change of propagation has no other argument.
    unsafe { call(nr::MOUNT, [0, text(c"/"), 0, MS_REC | MS_SHARED, 0, 0]) }.map(drop)
}

pub fn change_directory(path: &CStr) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::CHDIR, [text(path), 0, 0, 0, 0, 0]) }.map(drop)
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

/// A netlink socket for routing; network device ioctls work on it as on any socket.
pub fn route_socket() -> Result<Fd> {
    const AF_NETLINK: usize = 16;
    const SOCK_RAW: usize = 3;
    // SAFETY: no pointers.
    unsafe { call(nr::SOCKET, [AF_NETLINK, SOCK_RAW | O_CLOEXEC, 0, 0, 0, 0]) }.map(new_fd)
}

/// `struct ifreq`: a name of at most 15 bytes, then a union.
type InterfaceRequest = [u8; 40];

fn interface_request(socket: &Fd, request: usize, argument: &mut InterfaceRequest) -> Result<()> {
    // SAFETY: the requests used here read and write one `struct ifreq`.
    unsafe { call(nr::IOCTL, [socket.argument(), request, argument.as_mut_ptr() as usize, 0, 0, 0]) }
        .map(drop)
}

fn named(interface: &str) -> InterfaceRequest {
    let mut argument = [0; 40];
    for (to, from) in argument.iter_mut().zip(interface.bytes().take(15)) {
        *to = from;
    }
    argument
}

pub fn link_up(socket: &Fd, interface: &str) -> Result<()> {
    const SIOCGIFFLAGS: usize = 0x8913;
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP: u8 = 1;
    let mut argument = named(interface);
    interface_request(socket, SIOCGIFFLAGS, &mut argument)?;
    argument[16] |= IFF_UP; // the flags are the union's first two bytes, little endian
    interface_request(socket, SIOCSIFFLAGS, &mut argument)
}

pub fn interface_index(socket: &Fd, interface: &str) -> Result<u32> {
    const SIOCGIFINDEX: usize = 0x8933;
    let mut argument = named(interface);
    interface_request(socket, SIOCGIFINDEX, &mut argument)?;
    Ok(u32::from_ne_bytes([argument[16], argument[17], argument[18], argument[19]]))
}

/// Sends a message to the kernel and waits for its answer, which comes at once.
pub fn netlink_exchange<'a>(socket: &Fd, message: &[u8], answer: &'a mut [u8]) -> Result<&'a [u8]> {
    // SAFETY: the kernel reads the slice; no address.
    unsafe { call(nr::SENDTO, [socket.argument(), message.as_ptr() as usize, message.len(), 0, 0, 0]) }?;
    // SAFETY: the kernel writes at most the buffer's length; no address.
    let length = unsafe {
        call(nr::RECVFROM, [socket.argument(), answer.as_mut_ptr() as usize, answer.len(), 0, 0, 0])
    }?;
    Ok(answer.get(..length).unwrap_or_default())
}

pub fn set_limit(limit: &Rlimit) -> Result<()> {
    let values = [limit.soft, limit.hard];
    // SAFETY: the kernel reads two 64-bit values; the old ones are not asked for.
    unsafe { call(nr::PRLIMIT64, [0, limit.resource as usize, values.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// Pointers to strings, with a null pointer at the end, as `execve` wants them.
pub struct Pointers<'a> {
    pointers: Vec<*const c_char>,
    strings: core::marker::PhantomData<&'a [CString]>,
}

impl<'a> Pointers<'a> {
    pub fn new(strings: &'a [CString]) -> Self {
        let mut pointers = Vec::with_capacity(strings.len() + 1);
        pointers.extend(strings.iter().map(|string| string.as_ptr()));
        pointers.push(ptr::null());
        Self { pointers, strings: core::marker::PhantomData }
    }
}

/// Executes a program; returns only if that failed.
pub fn execute(file: &CStr, arguments: &Pointers<'_>, environment: &Pointers<'_>) -> Errno {
    let arguments = arguments.pointers.as_ptr() as usize;
    let environment = environment.pointers.as_ptr() as usize;
    // SAFETY: the strings and the two arrays, which end with a null pointer, live through the call.
    match unsafe { call(nr::EXECVE, [text(file), arguments, environment, 0, 0, 0]) } {
        Err(error) => error,
        Ok(_) => Errno::IO,
    }
}

/// Runs `main(argument)` in a new process, which borrows this one's memory: this one waits until the other has executed
/// a program or ended.
pub fn spawn_borrowing<T>(main: extern "C" fn(*const c_void) -> !, argument: &T) -> Result<i32> {
    const CLONE_VM: usize = 0x100;
    const CLONE_VFORK: usize = 0x4000;
    const STACK: usize = 32 << 10;
    // 16 bytes each, which is the alignment the stack needs.
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let top = stack.as_mut_ptr().wrapping_add(stack.capacity()).cast();
    // SAFETY: the stack is new memory. While the child shares the memory this process does not run, so the child has it
    // to itself; what it may not do is return, and `main` does not. This process goes on, and gives the stack back, when
    // the child has left it: it has executed a program, has ended, or was never made.
    let result =
        unsafe { arch::spawn(CLONE_VM | CLONE_VFORK | SIGCHLD, top, main, ptr::from_ref(argument).cast()) };
    check(result).map(|pid| pid as i32)
}

/// What `wait` found.
pub enum Child {
    /// This process ended, with this status.
    Ended(i32, i32),
    /// There are children, none has ended.
    Running,
    /// There are no children.
    None,
}

/// Reaps one child, waiting for it if `block`.
pub fn reap(block: bool) -> Child {
    const ANY: usize = usize::MAX;
    const WNOHANG: usize = 1;
    let mut status = 0_i32;
    let options = if block { 0 } else { WNOHANG };
    // SAFETY: the kernel writes one `int`.
    match unsafe { call(nr::WAIT4, [ANY, ptr::from_mut(&mut status) as usize, options, 0, 0, 0]) } {
        Ok(0) | Err(Errno::INTR) => Child::Running,
        Ok(pid) => Child::Ended(pid as i32, status),
        Err(_) => Child::None,
    }
}

/// A descriptor that becomes readable when a child ends.
pub fn child_events() -> Result<Fd> {
    const SIG_BLOCK: usize = 0;
    let set: u64 = 1 << (SIGCHLD - 1);
    let pointer = ptr::from_ref(&set) as usize;
    // SAFETY: the kernel reads 8 bytes; the old mask is not asked for.
    unsafe { call(nr::RT_SIGPROCMASK, [SIG_BLOCK, pointer, 0, 8, 0, 0]) }?;
    // SAFETY: the kernel reads 8 bytes.
    unsafe { call(nr::SIGNALFD4, [usize::MAX, pointer, 8, flag::NONBLOCK | O_CLOEXEC, 0, 0]) }.map(new_fd)
}

/// Sends a signal; to every other process if `pid` is -1.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no pointers. A process that is gone by now is no error for anyone.
    let _ = unsafe { call(nr::KILL, [pid as usize, signal as usize, 0, 0, 0, 0]) };
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

/// Milliseconds of a clock that does not go back.
pub fn now() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes one `struct timespec`.
    let _ = unsafe { call(nr::CLOCK_GETTIME, [CLOCK_MONOTONIC, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0].wrapping_mul(1000).wrapping_add(time[1] / 1_000_000)
}

pub fn process_id() -> usize {
    // SAFETY: no pointers.
    unsafe { call(nr::GETPID, [0; 6]) }.unwrap_or(0)
}

pub fn sync() {
    // SAFETY: no arguments.
    let _ = unsafe { call(nr::SYNC, [0; 6]) };
}

/// Restarts the machine; returns only if that is refused.
pub fn restart() {
    const MAGIC_1: usize = 0xfee1_dead;
    const MAGIC_2: usize = 0x2812_1969;
    const RESTART: usize = 0x0123_4567;
    // SAFETY: no pointers.
    let _ = unsafe { call(nr::REBOOT, [MAGIC_1, MAGIC_2, RESTART, 0, 0, 0]) };
}

pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: no pointers.
        let _ = unsafe { call(nr::EXIT, [code as usize, 0, 0, 0, 0, 0]) };
    }
}
