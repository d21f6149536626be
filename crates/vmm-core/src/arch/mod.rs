//! What differs between processor architectures: registers, CPU identification, interrupt controllers.
//!
//! One folder per architecture with the same file names, chosen here and nowhere else.

#![forbid(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub mod x86_64;
