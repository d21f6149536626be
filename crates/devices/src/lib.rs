//! Devices of a microVM: the virtio-mmio transport, virtio devices, and the few legacy devices a Linux
//! guest expects on x86.
//!
//! Every device can be stopped: see the contract of [`virtio::VirtioDevice`]. Register files and request
//! handling are pure; files below `shell/` and files named `sys.rs` are the ones that touch the operating
//! system.

#![warn(clippy::indexing_slicing)]

pub mod legacy;
pub mod shell;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
pub mod virtio;
