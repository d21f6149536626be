//! Arguments that are file descriptors: numbers that may or may not be open.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use super::guard::Failure;

/// True if the number is that of an open terminal.
pub(super) fn is_terminal(fd: RawFd) -> bool {
    // -1 is the one value that has no borrowed form.
    fd >= 0 && rustix::termios::isatty(borrow(fd))
}

/// True if the number is in use.
pub(super) fn is_open(fd: RawFd) -> bool {
    fd >= 0 && rustix::io::fcntl_getfd(borrow(fd)).is_ok()
}

/// A copy, numbered from 3 on, of a descriptor the caller keeps; `None` for a negative number, which stands
/// for "absent".
pub(super) fn duplicate(name: &str, fd: RawFd) -> Result<Option<OwnedFd>, Failure> {
    if fd < 0 {
        return Ok(None);
    }
    let refused = |e: io::Error| Failure::invalid(format!("{name}: descriptor {fd}: {e}"));
    borrow(fd).try_clone_to_owned().map(Some).map_err(refused)
}

/// `fd` is not negative.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it is only used in this file, for system calls that answer EBADF if the number is not open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn numbers_that_are_not_open() {
        let file = tempfile::tempfile().unwrap();
        assert!(is_open(file.as_raw_fd()) && !is_terminal(file.as_raw_fd()));
        assert!(duplicate("fd", file.as_raw_fd()).unwrap().is_some());
        for fd in [-1, i32::MIN] {
            assert!(!is_open(fd) && !is_terminal(fd));
            assert!(duplicate("fd", fd).unwrap().is_none());
        }
        assert!(!is_open(i32::MAX) && !is_terminal(i32::MAX));
        assert_eq!(duplicate("fd", i32::MAX).unwrap_err().errno, libc::EINVAL);
    }
}
