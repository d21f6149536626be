//! The machine below the devices: guest memory layout, boot protocols, device bus, interrupts and run
//! states; with the feature `kvm` also virtual machines and vCPU threads over `/dev/kvm`.
//!
//! Everything outside [`memory::alloc`](memory), [`bundle`] and `kvm` is pure: bytes, tables and register
//! values come out, nothing touches the operating system.

#![warn(clippy::indexing_slicing)]

pub mod arch;
pub mod boot;
pub mod bundle;
pub mod bus;
pub mod irq;
#[cfg(feature = "kvm")]
pub mod kvm;
pub mod memory;
pub mod run_state;
