//! Which files an unqualified command name may mean.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::abi::{EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND};
use crate::errno::Errno;

/// Searched when the environment has no `PATH`. The workload's environment stays without one.
pub const DEFAULT_PATH: &CStr = c"/usr/local/bin:/bin:/usr/bin";

/// The files to try for `command`, in order: itself if it has a slash, else one per element of `path`, where an empty
/// element means the working directory. None if `command` is empty.
pub fn candidates(command: &CStr, path: Option<&CStr>) -> Vec<CString> {
    let name = command.to_bytes();
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains(&b'/') {
        return Vec::from([CString::from(command)]);
    }
    let path = path.unwrap_or(DEFAULT_PATH).to_bytes();
    path.split(|&byte| byte == b':').filter_map(|directory| join(directory, name)).collect()
}

fn join(directory: &[u8], name: &[u8]) -> Option<CString> {
    let mut file = Vec::with_capacity(directory.len() + name.len() + 2);
    if !directory.is_empty() {
        file.extend_from_slice(directory);
        file.push(b'/');
    }
    file.extend_from_slice(name);
    CString::new(file).ok()
}

/// Tries the candidates with `exec`, which returns only when it failed, and says why none of them ran: the first error
/// other than "not there" and "not allowed" ends the search (POSIX `execvp`), and "not allowed" is remembered.
pub fn run<'a>(
    files: impl IntoIterator<Item = &'a CString>,
    mut exec: impl FnMut(&'a CStr) -> Errno,
) -> Errno {
    let mut answer = Errno::NOENT;
    for file in files {
        match exec(file) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCES => answer = Errno::ACCES,
            other => return other,
        }
    }
    answer
}

/// The exit code that reports a failed execution: 127 for "not found", else 126.
pub fn exit_code(why: Errno) -> i32 {
    if why == Errno::NOENT { EXIT_NOT_FOUND } else { EXIT_CANNOT_EXECUTE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(command: &CStr, path: Option<&CStr>) -> Vec<CString> {
        candidates(command, path)
    }

    #[test]
    fn where_a_command_is_looked_for() {
        assert_eq!(list(c"/bin/x", Some(c"/usr/bin")), [c"/bin/x".to_owned()]);
        assert_eq!(list(c"./x", None), [c"./x".to_owned()]);
        assert_eq!(
            list(c"x", None),
            [c"/usr/local/bin/x".to_owned(), c"/bin/x".to_owned(), c"/usr/bin/x".to_owned()]
        );
        assert_eq!(list(c"x", Some(c"/a::/b")), [c"/a/x".to_owned(), c"x".to_owned(), c"/b/x".to_owned()]);
        assert_eq!(list(c"x", Some(c"")), [c"x".to_owned()]);
        assert!(list(c"", Some(c"/bin")).is_empty());
    }

    fn outcome(errors: &[Errno]) -> (Errno, usize) {
        let files = alloc::vec![c"f".to_owned(); errors.len()];
        let mut tried = 0;
        let why = run(&files, |_| {
            tried += 1;
            errors[tried - 1]
        });
        (why, tried)
    }

    #[test]
    fn which_error_is_reported() {
        const ENOEXEC: Errno = Errno(8);
        assert_eq!(outcome(&[]), (Errno::NOENT, 0));
        assert_eq!(outcome(&[Errno::NOENT, Errno::NOTDIR]), (Errno::NOENT, 2));
        assert_eq!(outcome(&[Errno::ACCES, Errno::NOENT]), (Errno::ACCES, 2));
        assert_eq!(outcome(&[Errno::ACCES, ENOEXEC, Errno::NOENT]), (ENOEXEC, 2));
    }

    #[test]
    fn codes() {
        assert_eq!(exit_code(Errno::NOENT), 127);
        assert_eq!(exit_code(Errno::ACCES), 126);
        assert_eq!(exit_code(Errno(8)), 126);
    }
}
