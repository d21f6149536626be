#![doc = include_str!("../README.md")]

extern crate alloc;

pub mod abi;
pub mod ca;
pub mod clock;
pub mod cmdline;
pub mod config;
pub mod control;
pub mod dhcp;
pub mod env;
pub mod errno;
pub mod file_config;
#[doc(hidden)]
pub mod fuzz;
pub mod json;
pub mod mounts;
pub mod net;
pub mod netlink;
pub mod options;
pub mod plan;
pub mod ports;
pub mod reap;
pub mod rlimit;
pub mod search;
pub mod workload;

/// The init binary: a static x86-64 ELF executable, less than 96 KiB, that needs nothing but a Linux kernel. It goes to
/// the guest's [`abi::INIT_PATH`] with mode 0755.
pub fn binary() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/init"))
}
