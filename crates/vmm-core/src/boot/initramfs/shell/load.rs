//! Puts an archive into guest RAM.

use std::sync::Arc;

use thiserror::Error;

use super::archive::{Base, Initramfs};
use super::cache::Miss;
use super::object::{CachedBase, magic};
use crate::boot::zero_page::Initrd;
use crate::memory::overlay::{OverlayError, OverlaySource};
use crate::memory::{Bytes, GuestAddress, GuestMemoryError, GuestRam, LayoutError, MemoryLayout};

/// Why an archive could not be put into guest RAM.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no room.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// RAM could not be written or read.
    #[error("guest RAM at {addr:#x} cannot take the archive")]
    Guest {
        /// Where.
        addr: u64,
        /// What the memory said.
        #[source]
        source: GuestMemoryError,
    },
    /// The base in shared memory cannot be read.
    #[error("the base in shared memory cannot be read")]
    Read(#[source] std::io::Error),
    /// The memory for it is gone.
    #[error(transparent)]
    Lost(OverlayError),
    /// The guest would not find an archive: somebody changed the base.
    #[error("guest RAM at {addr:#x} starts with {found:02x?} instead of an archive")]
    NotThere {
        /// Where the archive should be.
        addr: u64,
        /// The bytes that are there.
        found: [u8; 4],
    },
}

/// Why a base was copied although it is in shared memory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotMapped {
    /// The object is not what it was.
    #[error(transparent)]
    Object(#[from] Miss),
    /// It cannot lie under this RAM.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
}

/// An archive in guest RAM.
#[derive(Debug)]
pub struct LoadedInitramfs {
    /// Where it is.
    pub initrd: Initrd,
    /// Bytes that were copied.
    pub copied: u64,
    /// Bytes that lie in shared memory, mapped copy on write.
    pub mapped: u64,
}

impl Initramfs {
    /// Puts the archive as high as possible into RAM below 4 GiB, above `kernel_end`, and ending at or below
    /// `addr_max + 1` (`initrd_addr_max` of the kernel's setup header). The base is mapped if it is in shared memory
    /// and the RAM allows it, and copied otherwise. Blocks for the copy.
    ///
    /// The RAM keeps what it maps, with its lock, until it is unmapped itself.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; RAM may have been written.
    pub fn load(
        &self,
        ram: &GuestRam,
        layout: &MemoryLayout,
        kernel_end: u64,
        addr_max: u32,
    ) -> Result<LoadedInitramfs, LoadError> {
        let len = self.sizes().packed();
        let addr = layout.place_initrd(len, kernel_end, addr_max)?;
        let (mapped, copied) = match &self.base {
            Base::Own(bytes) => (0, write(ram, addr, bytes)?),
            Base::Shared(base) => match map(ram, addr, base) {
                Ok(()) => (base.base_len(), 0),
                Err(NotMapped::Overlay(lost)) if !lost.leaves_memory() => return Err(LoadError::Lost(lost)),
                Err(why) => {
                    log::debug!("the base of the initramfs is copied: {why}");
                    (0, copy(ram, addr, base)?)
                }
            },
        };
        let behind = addr.saturating_add(self.base.len());
        let suffix = write(ram, behind, &self.suffix.bytes)?;
        self.read_back(ram, addr)?;
        let initrd = Initrd { addr, len };
        Ok(LoadedInitramfs { initrd, copied: copied.saturating_add(suffix), mapped })
    }

    fn read_back(&self, ram: &GuestRam, addr: u64) -> Result<(), LoadError> {
        let mut found = [0; 4];
        ram.read_slice(&mut found, GuestAddress(addr)).map_err(|source| LoadError::Guest { addr, source })?;
        if found == magic(self.compression) { Ok(()) } else { Err(LoadError::NotThere { addr, found }) }
    }
}

fn map(ram: &GuestRam, addr: u64, base: &Arc<CachedBase>) -> Result<(), NotMapped> {
    base.still_good()?;
    let source: Arc<dyn OverlaySource> = base.clone();
    Ok(ram.overlay(GuestAddress(addr), base.base_len(), &source)?)
}

fn write(ram: &GuestRam, addr: u64, bytes: &[u8]) -> Result<u64, LoadError> {
    ram.write_slice(bytes, GuestAddress(addr)).map_err(|source| LoadError::Guest { addr, source })?;
    Ok(bytes.len() as u64)
}

fn copy(ram: &GuestRam, addr: u64, base: &CachedBase) -> Result<u64, LoadError> {
    let mut done = 0u64;
    while let Some(piece) = base.read_piece(done).map_err(LoadError::Read)? {
        done = done.saturating_add(write(ram, addr.saturating_add(done), &piece)?);
    }
    Ok(done)
}
