//! Devices of a microVM: the virtio-mmio transport, virtio devices, and the few legacy devices a Linux
//! guest expects on x86.
//!
//! Every device can be stopped: see the contract of [`virtio::VirtioDevice`]. Register files and request
//! handling are pure; files below `shell/` and files named `sys.rs` are the ones that touch the operating
//! system.
//!
//! # Example: an entropy device for another VMM
//!
//! ```
//! use std::sync::Arc;
//!
//! use purlin_devices::shell::EventLoop;
//! use purlin_devices::virtio::mmio::{MmioTransport, TransportConfig};
//! use purlin_devices::virtio::rng::Rng;
//! use purlin_vmm_core::bus::BusDevice;
//! use purlin_vmm_core::irq::IrqLine;
//! use purlin_vmm_core::memory::{GuestAddress, GuestRam};
//!
//! struct Line; // your interrupt controller's input
//! impl IrqLine for Line {
//!     fn trigger(&self) -> std::io::Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = Arc::new(GuestRam::from_ranges(&[(GuestAddress(0), 16 << 20)])?);
//! let threads = EventLoop::spawn("devices")?;
//! let config = TransportConfig { memory, irq: Arc::new(Line), shm: None };
//! let mut device = MmioTransport::new(Rng::new(threads.handle())?, config)?;
//!
//! // What a vCPU does when the guest reads the first register.
//! let mut magic = [0; 4];
//! device.read(0, &mut magic);
//! assert_eq!(&magic, b"virt");
//! # Ok(())
//! # }
//! ```

#![warn(clippy::indexing_slicing)]

pub mod legacy;
pub mod shell;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
pub mod virtio;
