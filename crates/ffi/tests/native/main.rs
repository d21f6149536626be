//! Machines with a kernel of a few instructions. They need a `/dev/kvm` of any kind, also one without hardware
//! virtualization; without it these tests fail and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]
mod boot;
mod ends;
mod firmware;
mod guest;
mod kernels;
mod life;
#[allow(dead_code, reason = "these guests print nothing")]
#[path = "../c/pty.rs"]
mod pty;
mod ram;
mod views;
