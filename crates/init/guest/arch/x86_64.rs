//! x86-64 Linux: entry point, system calls, the child's first instructions, and the memory functions that compiled
//! Rust code calls by name (System V ABI, x86-64 supplement; Linux `syscall(2)`).

use core::arch::{asm, global_asm};
use core::ffi::c_void;

// The kernel starts a process with the argument count on top of the stack, 16-byte aligned (System V ABI §3.4.1).
// The memory functions use string instructions: short, and fast for everything larger than a few words. RDI is the
// destination, RSI the source, RDX the length; the direction flag is clear on function entry.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",

    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",

    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "sub rdi, rsi",
    "cmp rdi, rdx", // unsigned: the destination starts inside the source
    "mov rdi, rax",
    "jb 2f",
    "rep movsb",
    "ret",
    "2:",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",

    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",

    ".globl bcmp",
    ".globl memcmp",
    "bcmp:",
    "memcmp:",
    "xor eax, eax",
    "mov rcx, rdx",
    "cmp rcx, rcx", // equal, for a length of 0
    "repe cmpsb",
    "je 2f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "2:",
    "ret",

    ".globl strlen",
    "strlen:",
    "xor eax, eax",
    "mov rcx, -1",
    "repne scasb",
    "not rcx",
    "lea rax, [rcx - 1]",
    "ret",
    entry = sym crate::entry,
);

/// System call numbers (Linux `arch/x86/entry/syscalls/syscall_64.tbl`).
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const SENDTO: usize = 44;
    pub const RECVFROM: usize = 45;
    pub const BIND: usize = 49;
    pub const SETSOCKOPT: usize = 54;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80;
    pub const FCHOWN: usize = 93;
    pub const SETUID: usize = 105;
    pub const SETGID: usize = 106;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const CHROOT: usize = 161;
    pub const SYNC: usize = 162;
    pub const MOUNT: usize = 165;
    pub const REBOOT: usize = 169;
    pub const SETHOSTNAME: usize = 170;
    pub const GETDENTS64: usize = 217;
    pub const CLOCK_SETTIME: usize = 227;
    pub const CLOCK_GETTIME: usize = 228;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266;
    pub const FCHMODAT: usize = 268;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const PRLIMIT64: usize = 302;
    pub const GETRANDOM: usize = 318;
}

/// Makes a system call and gives its raw result: negative error numbers are errors.
///
/// # Safety
///
/// The arguments must be what the call with this number asks for, with pointers valid for what it does with them.
pub unsafe fn syscall(number: usize, arguments: [usize; 6]) -> isize {
    let result: isize;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller vouches for the arguments; the instruction itself changes RAX, RCX and R11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Calls `clone` with `flags` and lets the child run `main(argument)` on its own stack; gives the raw result in the
/// parent.
///
/// # Safety
///
/// `stack` is the upper end, 16-byte aligned, of memory that nothing else uses while the child runs on it. If the flags
/// share memory, `main` and what it calls must be fit to run beside, or in place of, the parent.
pub unsafe fn spawn(
    flags: usize,
    stack: *mut c_void,
    main: extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> isize {
    let result: isize;
    // SAFETY: the parent comes back behind the block with RAX, RCX and R11 changed. The child never does: it calls
    // `main`, which does not return, on a stack that the caller has vouched for.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number::CLONE => result,
            in("rdi") flags, in("rsi") stack, in("rdx") 0, in("r10") 0, in("r8") 0, in("r9") argument,
            in("r12") main,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}
