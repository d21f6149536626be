//! What the fuzz target of the C interface does: sequences of calls with hostile arguments, in this process.
//!
//! No machine runs: `krun_start_enter` is called for contexts that do not exist, and for ones whose configuration
//! cannot start. So nothing but reads of the file system happens, whatever paths the input names.

mod calls;
mod values;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::guard::krun_get_last_error;
use super::logger::krun_init_log;
use calls::{COUNT, call};
use values::Values;

/// Calls of one input.
const MAX_CALLS: usize = 64;

/// Makes the calls that `data` describes.
///
/// # Panics
///
/// If a call does not answer a number C callers can use, fails without a text, or leaves a descriptor behind; or if
/// the host has no `/dev/null`.
#[expect(clippy::expect_used, reason = "test support")]
pub fn capi_calls(data: &[u8]) {
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    let pipe = std::io::pipe().expect("a pipe");
    log_to(&null);
    let lowest = lowest_free(&null);
    let mut values = Values::new(data, [null.as_raw_fd(), pipe.0.as_raw_fd()]);
    for _ in 0..MAX_CALLS {
        let Some(number) = values.byte() else { break };
        let Some((name, call)) = call(usize::from(number) % COUNT) else { break };
        let answer = call(&mut values);
        assert!(answer > -4096, "{name} answers {answer}");
        // SAFETY: the call gives a string that lives until the next failure.
        let text = unsafe { CStr::from_ptr(krun_get_last_error()) };
        assert!(answer >= 0 || !text.is_empty(), "{name} answers {answer} without a text");
        assert!(text.to_str().is_ok(), "{name} leaves a text that is not UTF-8");
        log_to(&null);
    }
    values.free_contexts();
    // Another thread of this process may have one open for a moment.
    let settles = (0..1000).any(|_| {
        let same = lowest_free(&null) <= lowest;
        if !same {
            std::thread::sleep(Duration::from_millis(1));
        }
        same
    });
    assert!(settles, "descriptors are left");
}

/// Everything is formatted, and goes nowhere.
fn log_to(null: &File) {
    assert_eq!(krun_init_log(null.as_raw_fd(), 5, 0, 1), 0);
}

/// The number of the next descriptor.
#[expect(clippy::expect_used, reason = "test support")]
fn lowest_free(file: &File) -> i32 {
    file.try_clone().expect("a descriptor").as_raw_fd()
}
