//! Lines for people, on the console, and putting their text together without the weight of `core::fmt`.

use alloc::string::String;
use core::ffi::CStr;

use crate::errno::Errno;
use crate::sys;

/// Writes a line to descriptor 2.
pub fn say(message: &str) {
    let mut line = String::from("purlin-init: ");
    line.push_str(message);
    line.push('\n');
    let _ = sys::write(2, line.as_bytes());
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
    let mut text = String::from(what);
    text.push(' ');
    text.push_str(&String::from_utf8_lossy(name.to_bytes()));
    text
}

/// Appends a number in decimal.
pub fn push_number(text: &mut String, number: u32) {
    if number > 9 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}
