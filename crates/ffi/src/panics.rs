//! Panics that end here.

use std::any::Any;

/// What a panic said, for the log and for whoever waits.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = format!("internal error: {}", text.unwrap_or("panic"));
    log::error!("{text}");
    text
}
