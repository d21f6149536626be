//! Runs the real init binary as PID 1 of fresh namespaces, on a root directory with busybox in it.
//!
//! Needs root, `unshare` (util-linux), `chroot` and a static `/bin/busybox`; says so and skips if they are not there.
//! What only a machine has (virtio ports, `tsi_hijack`, the exit code by ioctl) is not covered here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking"
)]

mod boot;
mod config_file;
mod control;
mod machine;
mod network;
mod storage;
mod trust;
mod workload;
