//! Real guests: libkrunfw's kernel with a busybox directory as root.
//!
//! These need a KVM that runs stock kernels. `cargo xtask test` provides one where the machine has none,
//! and sets `PURLIN_FW` (the libkrunfw library) and `PURLIN_ROOTFS` (the busybox directory).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]
mod balloon;
mod boot;
mod exits;
mod init;
mod lifecycle;
mod pipeline;
mod refused;
mod shares;
mod stock;
mod streams;
mod support;
mod tsi;
mod tsi_guest;
mod values;
