//! Processes: limits, users, programs, children, signals, the end.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_void};
use core::ptr;

use super::{Fd, O_CLOEXEC, Result, call, check, flag, new_fd, text};
use crate::arch::{self, number as nr};
use crate::errno::Errno;
use crate::rlimit::Rlimit;

const SIGCHLD: usize = 17;

pub fn set_limit(limit: &Rlimit) -> Result<()> {
    let values = [limit.soft, limit.hard];
    // SAFETY: the kernel reads two 64-bit values; the old ones are not asked for.
    unsafe { call(nr::PRLIMIT64, [0, limit.resource as usize, values.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// Becomes a member of these groups and of no other.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads the slice.
    unsafe { call(nr::SETGROUPS, [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets the real, effective and saved group of this process.
pub fn set_group(gid: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::SETGID, [gid as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Sets the real, effective and saved user of this process.
pub fn set_user(uid: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::SETUID, [uid as usize, 0, 0, 0, 0, 0]) }.map(drop)
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

pub fn process_id() -> usize {
    // SAFETY: no pointers.
    unsafe { call(nr::GETPID, [0; 6]) }.unwrap_or(0)
}

pub fn sync() {
    // SAFETY: no arguments.
    let _ = unsafe { call(nr::SYNC, [0; 6]) };
}

fn reboot(command: usize) -> Result<()> {
    const MAGIC_1: usize = 0xfee1_dead;
    const MAGIC_2: usize = 0x2812_1969;
    // SAFETY: no pointers.
    unsafe { call(nr::REBOOT, [MAGIC_1, MAGIC_2, command, 0, 0, 0]) }.map(drop)
}

/// Restarts the machine; returns only if that is refused.
pub fn restart() {
    const RESTART: usize = 0x0123_4567;
    let _ = reboot(RESTART);
}

/// Lets Ctrl-Alt-Del interrupt PID 1, which that leaves cold, instead of restarting the machine at once.
pub fn disable_ctrl_alt_del() -> Result<()> {
    const CAD_OFF: usize = 0;
    reboot(CAD_OFF)
}

pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: no pointers.
        let _ = unsafe { call(nr::EXIT, [code as usize, 0, 0, 0, 0, 0]) };
    }
}
