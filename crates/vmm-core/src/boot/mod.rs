//! A Linux kernel, and what it finds in memory when it starts: command line, zero page, MP table, ACPI tables, SMBIOS, initial
//! RAM disk. Or firmware in its place. Pure but for reading the files of [`kernel`] and [`firmware`] and for
//! [`initramfs::shell`].

#![forbid(unsafe_code)]

pub mod acpi;
pub mod cmdline;
pub mod firmware;
pub mod initramfs;
pub mod kernel;
pub mod mptable;
pub mod pvh;
pub mod reset_vector;
pub mod smbios;
pub mod zero_page;

use thiserror::Error;

use crate::memory::{Bytes, GuestAddress, GuestMemoryError, GuestRam};

/// Why a boot structure could not be put into guest memory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BootError {
    /// The place is not guest RAM.
    #[error("{what} of {len} bytes at {addr:#x} does not lie in guest RAM")]
    Write {
        /// The structure.
        what: &'static str,
        /// Its guest address.
        addr: u64,
        /// Its length in bytes.
        len: usize,
        /// What the memory said.
        #[source]
        source: GuestMemoryError,
    },
}

/// Writes `bytes` at `addr`, all or an error.
pub(crate) fn write(ram: &GuestRam, what: &'static str, addr: u64, bytes: &[u8]) -> Result<(), BootError> {
    ram.write_slice(bytes, GuestAddress(addr)).map_err(|source| BootError::Write {
        what,
        addr,
        len: bytes.len(),
        source,
    })
}
