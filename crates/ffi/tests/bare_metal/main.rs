//! Whole machines whose kernel is a few instructions. Needs a `/dev/kvm` of any kind, also one without
//! hardware virtualization; without it these tests fail and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]

mod ends;
mod guest;
mod views;
