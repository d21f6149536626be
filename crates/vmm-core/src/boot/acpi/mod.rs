//! ACPI tables (ACPI 6.5) for kernels that look for nothing else: processors, the IO-APIC, virtio-mmio devices, serial
//! lines, a power button, and how to power off and reset. Pure bytes.
//!
//! The machine is of the hardware-reduced kind (ACPI 6.5 §4.1): no fixed registers, no SCI, no PM timer. Power off is a
//! write to the sleep control register, reset one to the reset register, and the power button an event of the generic
//! event device (§5.6.9); the three are ports of one small device, whose contract is in [`power`].
//!
//! Where an operating system finds them: the RSDP is at [`RSDP`](crate::memory::layout::RSDP), inside the range that
//! is searched for it (§5.2.5.1), and in the zero page
//! ([`set_rsdp`](crate::boot::zero_page::set_rsdp)).
//!
//! Further tables, such as those of [`numa`], go in as [`AcpiMachine::extra`]. Processor *n* has the APIC identifier
//! and the ACPI processor UID *n*. There are at most 254, in MADT entries of type 0: the x2APIC entries (type 9) are
//! for identifiers from 255 on, which an IO-APIC without interrupt remapping, as KVM's is, cannot name as a target.
//!
//! ```
//! use purlin_vmm_core::boot::acpi::{AcpiMachine, AcpiTables, Table};
//!
//! let slit = Table::new(*b"SLIT", 1, &[1, 0, 0, 0, 0, 0, 0, 0, 10]);
//! let machine = AcpiMachine { cpus: 2, devices: vec![(0xd000_0000, 5)], serial: vec![(0x3f8, 4)], extra: vec![slit] };
//! let tables = AcpiTables::build(&machine)?;
//! assert!(tables.bytes().starts_with(b"RSD PTR "));
//! # Ok::<(), purlin_vmm_core::boot::acpi::AcpiError>(())
//! ```

mod dsdt;
mod error;
mod fixed;
pub mod numa;
mod place;
pub mod power;
mod table;

pub use error::AcpiError;
pub use place::{AcpiMachine, AcpiTables};
pub use table::Table;

/// Who made the tables.
const OEM_ID: [u8; 6] = *b"PURLIN";
const OEM_TABLE_ID: [u8; 8] = *b"PURLINVM";
const OEM_REVISION: u32 = 1;

#[cfg(test)]
mod tests;
