//! The C interface as C programs see it. Needs `cc` and `nm`, and for machines that run a `/dev/kvm` of any kind,
//! also one without hardware virtualization.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]

#[allow(dead_code, reason = "shared with the tests for the rig")]
#[path = "../c/mod.rs"]
mod c;
mod calls;
mod contract;
mod control;
mod header;
mod machines;
mod symbols;
mod terminals;
