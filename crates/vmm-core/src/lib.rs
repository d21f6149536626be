//! The machine below the devices: guest memory layout, boot protocols, device bus, interrupts and run
//! states; with the feature `kvm` also virtual machines and vCPU threads over `/dev/kvm`.
//!
//! Everything outside [`memory::alloc`](memory), [`memory::overlay`], [`boot::initramfs::shell`], [`bundle`] and
//! `kvm` is pure: bytes, tables and register values come out, nothing touches the operating system.
//!
//! ```
//! use purlin_vmm_core::boot::{cmdline, mptable::MpTable, zero_page};
//! use purlin_vmm_core::memory::{MemoryLayout, RamConfig, alloc::allocate, layout::mmio_slot};
//!
//! let layout = MemoryLayout::new(64 << 20)?;
//! let ram = allocate(&layout, &RamConfig::default())?;
//!
//! let mut line = cmdline::Cmdline::new(cmdline::Limits::default());
//! line.prolog("console=hvc0 root=/dev/vda ro")?;
//! line.virtio_mmio(mmio_slot(0).expect("the first slot exists"), 5)?;
//! let line = line.finish()?;
//!
//! cmdline::write_to(&ram, &line)?;
//! zero_page::write_to(&ram, &zero_page::build(&layout, line.len() as u32, None))?;
//! MpTable::new(2)?.write_to(&ram)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::indexing_slicing)]

pub mod arch;
pub mod boot;
pub mod bundle;
pub mod bus;
pub mod irq;
#[cfg(feature = "kvm")]
pub mod kvm;
pub mod memory;
pub mod numa;
pub mod run_state;
