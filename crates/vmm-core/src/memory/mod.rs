//! Guest RAM: the types every crate of the family uses, where RAM lies, and how it is allocated.
//!
//! The vm-memory types are imported through this module only, so that a change of that crate's major
//! version is a change in one place.
//!
//! [`layout`] is pure arithmetic; [`alloc`], `reclaim.rs` and `sys.rs` talk to the operating system.

#![deny(unsafe_code)]

pub mod alloc;
mod alloc_error;
pub mod layout;
pub mod overlay;
mod ram;
mod reclaim;
mod registers;
#[allow(unsafe_code)]
mod sys;
mod window;

use std::sync::Arc;

pub use vm_memory::{
    Address, ByteValued, Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion,
    GuestUsize, MemoryRegionAddress, VolatileMemory, VolatileSlice,
};

pub use alloc::{AllocError, Backing, FileSharing, HostBinding, HugePageSize, RamConfig};
pub use layout::{LayoutError, MemoryLayout, RamRange};
pub use ram::{GuestRam, GuestRegion};
pub use reclaim::{MemoryReclaim, ReclaimError};
pub use registers::{Register, RegisterPage, RegisterWindow};
pub use window::Window;

/// Shared ownership of guest RAM, as devices and vCPU threads hold it.
///
/// The mapping lives as long as the last clone; dropping that unmaps the memory.
pub type SharedRam = Arc<GuestRam>;
