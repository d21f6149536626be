//! Why a kernel or RAM disk cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{Compression, MAX_KERNEL};
use crate::memory::layout::HIGH_MEMORY;
use crate::memory::{GuestMemoryError, LayoutError};

/// A kernel or RAM disk cannot be used.
#[derive(Debug, Error)]
#[error("{}: {reason}", path.display())]
pub struct KernelError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: ImageError,
}

/// What is wrong with a kernel or RAM disk.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is larger than [`MAX_KERNEL`].
    #[error("is larger than {MAX_KERNEL} bytes")]
    TooLarge,
    /// Its content is of no known kind.
    #[error("holds no x86-64 kernel: neither an ELF image, nor a bzImage, nor either in a compressed stream")]
    NoKernel,
    /// A bzImage was asked for.
    #[error("is no bzImage that unpacks itself: {0}")]
    NoBzImage(&'static str),
    /// A number in it points outside of it.
    #[error("names {len} bytes at {at:#x} of a file of {file_len} bytes")]
    Truncated {
        /// First byte.
        at: u64,
        /// Number of bytes.
        len: u64,
        /// Size of the file.
        file_len: u64,
    },
    /// The ELF image is malformed or for another machine.
    #[error("is no usable ELF image: {0}")]
    Elf(&'static str),
    /// A segment lies where a kernel cannot be.
    #[error(
        "has a segment of {len} bytes at {addr:#x}, but it must lie between {HIGH_MEMORY:#x} and the end of low RAM \
         {low_end:#x}; ask for more RAM"
    )]
    Segment {
        /// Guest physical address.
        addr: u64,
        /// Size in memory.
        len: u64,
        /// End of low RAM.
        low_end: u64,
    },
    /// The entry point is outside of what was loaded, or beyond what the boot page tables map.
    #[error("has its entry at {entry:#x}, outside of {start:#x} to {end:#x}")]
    Entry {
        /// Entry point.
        entry: u64,
        /// First address it may have.
        start: u64,
        /// First address behind those.
        end: u64,
    },
    /// A PVH entry was asked for.
    #[error("has no PVH entry (ELF note Xen, type 18)")]
    NoPvhEntry,
    /// The payload does not unpack.
    #[error("has a {kind:?} payload that does not unpack: {source}")]
    Unpack {
        /// Its format, by its first bytes.
        kind: Compression,
        /// Why.
        source: io::Error,
    },
    /// There is not enough RAM.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// RAM could not be written.
    #[error("does not fit guest RAM: {0}")]
    Guest(#[from] GuestMemoryError),
}
