//! What differs between processor architectures. A port is one more file with the same items.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{number, spawn, syscall};
