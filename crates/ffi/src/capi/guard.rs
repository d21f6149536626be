//! What lies between a C caller and everything else: panics, errno values, and the text of the last error.

use std::cell::Cell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::panics::words;

/// Bytes kept of an error's text, with the NUL.
const TEXT_LEN: usize = 1024;

thread_local! {
    // Without a destructor: a library that is unloaded must not leave one behind.
    static LAST_ERROR: Cell<[u8; TEXT_LEN]> = const { Cell::new([0; TEXT_LEN]) };
}

/// Why a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// Positive.
    pub errno: i32,
    pub text: String,
}

impl Failure {
    pub fn new(errno: i32, text: impl Into<String>) -> Self {
        Failure { errno, text: text.into() }
    }

    /// The host refuses something.
    pub fn host(what: &str, e: &std::io::Error) -> Self {
        Self::new(e.raw_os_error().unwrap_or(libc::EIO), format!("{what}: {e}"))
    }

    /// A device this library does not have yet.
    pub fn not_built(device: &str) -> Self {
        Self::new(libc::ENOTSUP, format!("this build has no {device}"))
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(libc::EINVAL, text)
    }
}

/// Runs the body of an exported call and gives what it returns to C: its value, or a negative errno.
pub(super) fn call(body: impl FnOnce() -> Result<i32, Failure>) -> i32 {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::new(libc::EIO, words(&*panic)),
    };
    log::debug!("call fails with errno {}: {}", failure.errno, failure.text);
    LAST_ERROR.set(c_text(&failure.text));
    failure.errno.checked_neg().filter(|errno| *errno < 0).unwrap_or(-libc::EIO)
}

/// As [`call`], for bodies without a value.
pub(super) fn done(body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    call(|| body().map(|()| 0))
}

/// The text with a NUL, cut between characters, without inner NULs.
fn c_text(text: &str) -> [u8; TEXT_LEN] {
    let mut buffer = [0; TEXT_LEN];
    let cut = (0..TEXT_LEN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    for (to, from) in buffer.iter_mut().zip(text.as_bytes().iter().take(cut)) {
        *to = if *from == 0 { b' ' } else { *from };
    }
    buffer
}

/// Text of this thread's last failed call; empty if none failed. Never NULL. Valid until the next call that
/// fails on this thread, and until the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn krun_get_last_error() -> *const c_char {
    LAST_ERROR.with(|text| text.as_ptr().cast_const().cast())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last_error() -> String {
        // SAFETY: the call returns a string that lives as long as this thread.
        let text = unsafe { CStr::from_ptr(krun_get_last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn failures_are_negative_and_leave_a_text() {
        assert_eq!(last_error(), "");
        assert_eq!(done(|| Err(Failure::invalid("tag: too long"))), -libc::EINVAL);
        assert_eq!(last_error(), "tag: too long");
        assert_eq!(call(|| Ok(3)), 3);
        assert_eq!(last_error(), "tag: too long");
        assert_eq!(done(|| Err(Failure::new(0, "no errno"))), -libc::EIO);
        assert_eq!(done(|| Err(Failure::new(i32::MIN, "no errno"))), -libc::EIO);
        let elsewhere = std::thread::spawn(last_error).join().unwrap();
        assert_eq!(elsewhere, "");
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(done(|| panic!("on purpose")), -libc::EIO);
        assert_eq!(last_error(), "internal error: on purpose");
        assert_eq!(done(|| panic!("number {}", last_error().len())), -libc::EIO);
        assert_eq!(last_error(), "internal error: number 26");
        assert_eq!(done(|| std::panic::panic_any(7)), -libc::EIO);
        assert_eq!(last_error(), "internal error: panic");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for len in 1010..1030 {
            let text = format!("{}{}", "x".repeat(len), "ü".repeat(20));
            assert_eq!(done(|| Err(Failure::invalid(text.clone()))), -libc::EINVAL);
            assert!(text.starts_with(&last_error()) && last_error().len() >= TEXT_LEN - 2);
        }
        done(|| Err(Failure::invalid("a\0b")));
        assert_eq!(last_error(), "a b");
    }
}
