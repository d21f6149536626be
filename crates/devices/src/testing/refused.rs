//! Threads whose system calls the host refuses.

use std::io;

/// Runs `body` in a thread for which, and for the threads it starts, the host answers the system calls `refused` with EPERM.
///
/// # Panics
///
/// If there can be no such thread, or if `body` panics.
pub(crate) fn with_refused<T: Send>(refused: &[libc::c_long], body: impl FnOnce() -> T + Send) -> T {
    let filtered = || {
        filter(refused).expect("a seccomp filter");
        body()
    };
    std::thread::scope(|scope| {
        let ended = scope.spawn(filtered).join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Filters the system calls of the calling thread, for good.
fn filter(refused: &[libc::c_long]) -> io::Result<()> {
    let op = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let answer = |k| op(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    // The number is the first word of `struct seccomp_data`.
    let mut program = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in refused {
        program.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *number as u32, 0, 1));
        program.push(answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let done = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: takes numbers, and only makes set-user-id programs powerless for this thread.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: the program is as long as it says and outlives the call, which copies it.
    done(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) })
}
