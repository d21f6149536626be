//! Why there are no ACPI tables.

use thiserror::Error;

use crate::boot::mptable::MAX_CPUS;

/// Why a machine cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcpiError {
    /// No processor, or more than 8-bit APIC identifiers number.
    #[error("the ACPI tables describe 1 to {MAX_CPUS} processors, not {cpus}")]
    Cpus {
        /// Number asked for.
        cpus: u32,
    },
    /// A device beyond what its resource descriptor can name.
    #[error("the device at {base:#x} cannot be described: its registers must lie below 4 GiB")]
    Device {
        /// First address of the device's registers.
        base: u64,
    },
    /// A serial line beyond the ports there are.
    #[error("the serial line at port {port:#x} cannot be described: ports end at 0xffff")]
    Port {
        /// First port of the line.
        port: u64,
    },
    /// More devices than there are names for.
    #[error("{devices} devices are more than the {limit} that can be described")]
    TooManyDevices {
        /// Number asked for.
        devices: usize,
        /// Most there may be.
        limit: usize,
    },
    /// A ready-made table is none.
    #[error("{len} bytes are no ACPI table: {why}")]
    Malformed {
        /// Length of the bytes.
        len: usize,
        /// What is wrong with them.
        why: &'static str,
    },
    /// The tables do not fit where an operating system looks for them.
    #[error("ACPI tables of {len} bytes are longer than the {limit} bytes there are for them")]
    TooLong {
        /// Length of all tables in bytes.
        len: usize,
        /// Longest they may be.
        limit: usize,
    },
}
