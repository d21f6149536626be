//! Virtual machines with a few bytes of real-mode code. Needs a `/dev/kvm` of any kind, also one without
//! hardware virtualization; without it these tests fail and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]
#![cfg(feature = "kvm")]

mod guest;
mod lifecycle;
mod machine;
mod posted;
mod registers;
