//! The MMIO transport (virtio 1.2 §4.2), usable without the rest of this workspace.
//!
//! [`Registers`] is the register file as a pure machine: writes give an [`Action`], reads a value or the
//! name of the party that knows it. [`MmioTransport`] executes the actions on a
//! [`VirtioDevice`](super::VirtioDevice) and answers as a [`BusDevice`](purlin_vmm_core::bus::BusDevice).

mod interrupt;
mod registers;
mod shown;
mod transport;

pub use interrupt::MmioInterrupt;
pub use registers::{Action, Read, Registers, ShmRegion, status};
pub use transport::{MmioTransport, TransportConfig};

/// Bytes of address space one device occupies.
pub const MMIO_LEN: u64 = 0x1000;

/// Offset of QueueNotify: where a notification (ioeventfd) is written, four bytes, value = queue number.
pub const QUEUE_NOTIFY: u64 = 0x50;

/// Offset of InterruptACK: four bytes, whose bits are cleared in [`MmioTransport::interrupt_status`].
pub const INTERRUPT_ACK: u64 = 0x64;

#[cfg(test)]
mod posted_tests;
#[cfg(test)]
mod shown_tests;
#[cfg(test)]
mod tests;
