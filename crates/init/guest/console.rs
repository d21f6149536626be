//! Lines for people, on the console, and putting their text together without the weight of `core::fmt`.

use alloc::string::String;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::errno::Errno;
use crate::sys;

/// Writes a line to descriptor 2.
pub fn say(message: &str) {
    let mut line = String::from("purlin-init: ");
    line.push_str(message);
    line.push('\n');
    let _ = sys::write(2, line.as_bytes());
}

/// Whether [`trace`] writes. A static because every part of the program may tell what it does.
static TRACING: AtomicBool = AtomicBool::new(false);

/// Switches [`trace`] on or off.
pub fn set_tracing(on: bool) {
    TRACING.store(on, Ordering::Relaxed);
}

pub fn is_tracing() -> bool {
    TRACING.load(Ordering::Relaxed)
}

/// Writes a line about a step that went well, with the time since the kernel's start in milliseconds, if asked to.
pub fn trace(message: &str) {
    if is_tracing() {
        let mut line = String::from("trace ");
        push_number(&mut line, u32::try_from(sys::now()).unwrap_or(u32::MAX));
        line.push_str(" ms: ");
        line.push_str(message);
        say(&line);
    }
}

/// `what: why`.
pub fn with_error(what: &str, why: Errno) -> String {
    let mut text = String::from(what);
    text.push_str(": ");
    match why.name() {
        Some(name) => text.push_str(name),
        None => {
            text.push_str("errno ");
            push_number(&mut text, why.0.unsigned_abs());
        }
    }
    text
}

/// `what name`.
pub fn with_name(what: &str, name: &CStr) -> String {
    with_text(what, &String::from_utf8_lossy(name.to_bytes()))
}

/// `what text`.
pub fn with_text(what: &str, text: &str) -> String {
    let mut line = String::from(what);
    line.push(' ');
    line.push_str(text);
    line
}

/// Appends a number in decimal.
pub fn push_number(text: &mut String, number: u32) {
    if number > 9 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}
