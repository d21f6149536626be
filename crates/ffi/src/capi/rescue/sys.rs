//! Signal handlers, and what they may do: nothing but calls that are async-signal-safe (man 7 signal-safety).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use libc::{c_int, sigaction, sighandler_t, termios};

/// Signals that end a process by default and that somebody may send or a program may raise (man 7 signal).
const FATAL: [c_int; 18] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGIO,
    libc::SIGSYS,
];

/// Modes of terminals. In a list that only grows, by some tens of bytes for each start of a machine with a
/// terminal, of which all but one per process fail: a handler may be reading it on any thread.
pub(super) struct Saved {
    terminals: Vec<(RawFd, termios)>,
    wanted: AtomicBool,
    next: *const Saved,
}

static LIST: AtomicPtr<Saved> = AtomicPtr::new(ptr::null_mut());

impl Saved {
    /// Takes the modes of these terminals and puts them into the list.
    pub fn take<'a>(terminals: impl Iterator<Item = BorrowedFd<'a>>) -> &'static Self {
        let modes = terminals.filter_map(|fd| {
            let mut mode = MaybeUninit::<termios>::uninit();
            // SAFETY: the pointer is valid for one termios.
            let taken = unsafe { libc::tcgetattr(fd.as_raw_fd(), mode.as_mut_ptr()) };
            // SAFETY: tcgetattr succeeded and filled it.
            (taken == 0).then(|| (fd.as_raw_fd(), unsafe { mode.assume_init() }))
        });
        let entry = Saved { terminals: modes.collect(), wanted: AtomicBool::new(true), next: ptr::null() };
        let entry = Box::leak(Box::new(entry));
        let mut head = LIST.load(Ordering::Acquire);
        loop {
            entry.next = head;
            match LIST.compare_exchange(head, entry, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return entry,
                Err(now) => head = now,
            }
        }
    }

    /// These are not to be restored any more.
    pub fn forget(&self) {
        self.wanted.store(false, Ordering::Release);
    }
}

/// Async-signal-safe.
fn restore_all() {
    // In the background, setting a terminal would stop the process with SIGTTOU; blocked, it works.
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGTTOU) };
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first set is initialised, and the second is a place for one.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) } == 0;
    let mut entry = LIST.load(Ordering::Acquire).cast_const();
    // SAFETY: entries of the list were leaked, and do not change but for the flag.
    while let Some(saved) = unsafe { entry.as_ref() } {
        if saved.wanted.load(Ordering::Acquire) {
            for (fd, mode) in &saved.terminals {
                // SAFETY: reads one termios; a number that is no terminal any more is refused.
                unsafe { libc::tcsetattr(*fd, libc::TCSANOW, mode) };
            }
        }
        entry = saved.next;
    }
    if blocked {
        // SAFETY: filled by the call above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
}

extern "C" fn on_signal(signal: c_int) {
    restore_all();
    // The default action, which SA_RESETHAND has put back and SA_NODEFER lets through.
    // SAFETY: raises a signal in this thread.
    unsafe { libc::raise(signal) };
}

extern "C" fn on_exit() {
    restore_all();
}

/// Handlers of the fatal signals that had their default action. Dropping this gives it back.
pub(super) struct Handlers(Vec<c_int>);

impl Handlers {
    pub fn install() -> Self {
        static AT_EXIT: Once = Once::new();
        AT_EXIT.call_once(|| {
            // SAFETY: the function stays as long as this library, with which its registration goes.
            unsafe { libc::atexit(on_exit) };
        });
        let handler = on_signal as extern "C" fn(c_int) as sighandler_t;
        let flags = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
        let taken = FATAL
            .into_iter()
            .filter(|signal| action(*signal) == Some(libc::SIG_DFL) && set_action(*signal, handler, flags));
        Handlers(taken.collect())
    }

    /// Gives one signal its default action back.
    pub fn remove(&mut self, signal: c_int) {
        let ours = on_signal as extern "C" fn(c_int) as sighandler_t;
        if let Some(at) = self.0.iter().position(|own| *own == signal) {
            self.0.swap_remove(at);
            // Somebody may have put another handler in its place.
            if action(signal) == Some(ours) {
                set_action(signal, libc::SIG_DFL, 0);
            }
        }
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        while let Some(signal) = self.0.last().copied() {
            self.remove(signal);
        }
    }
}

/// What happens at a signal.
fn action(signal: c_int) -> Option<sighandler_t> {
    let mut now = MaybeUninit::<sigaction>::uninit();
    // SAFETY: nothing is set, and the pointer is valid for one sigaction.
    let got = unsafe { libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) };
    // SAFETY: the call succeeded and filled it.
    (got == 0).then(|| unsafe { now.assume_init() }.sa_sigaction)
}

fn set_action(signal: c_int, handler: sighandler_t, flags: c_int) -> bool {
    // SAFETY: all zeros are a valid sigaction: no flags, an empty mask.
    let mut new: sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    // SAFETY: the handler, if it is not the default, does nothing that is not async-signal-safe.
    unsafe { libc::sigaction(signal, &new, ptr::null_mut()) == 0 }
}
