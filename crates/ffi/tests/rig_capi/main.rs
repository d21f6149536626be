//! Real guests started by C programs. These need `cc`, and a KVM that runs stock kernels: `cargo xtask test`
//! provides one, and sets `PURLIN_FW` (the libkrunfw library) and `PURLIN_ROOTFS` (a busybox directory).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]

#[allow(dead_code, reason = "shared with the tests that need no guest")]
#[path = "../c/mod.rs"]
mod c;
mod clients;
mod consoles;
mod egress;
mod ends;
mod files;
mod guest;
mod interactive;
