//! Signals of threads, which the standard library does not have.

use std::mem::MaybeUninit;

/// The set of this signal alone.
pub(crate) fn signal_set(signal: libc::c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: `set` is an initialised set.
    unsafe { libc::sigaddset(&mut set, signal) };
    set
}

/// Blocks `signal` in the calling thread for good; for threads that are ours.
pub(super) fn block_signal(signal: libc::c_int) {
    let set = signal_set(signal);
    // SAFETY: `set` is initialised, and no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
}
