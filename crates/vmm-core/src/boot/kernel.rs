//! Kernels in files: ELF images, plain or inside a compressed image, entered by the 64-bit boot protocol (Linux
//! `Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol"), and initial RAM disks.
//!
//! A file is as trustworthy as who names it, but not well-formed: every size in it is checked, and no more is
//! read or unpacked than [`MAX_KERNEL`].

use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use linux_loader::loader::{Elf, KernelLoader};
use thiserror::Error;
use vm_memory::ReadVolatile;

use super::zero_page::Initrd;
use crate::memory::layout::{GAP_START, HIGH_MEMORY, KERNEL_BSS_SLACK};
use crate::memory::{Bytes, GuestAddress, GuestRam, LayoutError, MemoryLayout};

/// Largest accepted kernel file, unpacked kernel and RAM disk in bytes (1 GiB, what the boot page tables map).
pub const MAX_KERNEL: u64 = 1 << 30;

const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Bytes that start a compressed stream may also occur in front of it; more often than this is something
/// else.
const MAX_ATTEMPTS: usize = 16;

/// How the kernel lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KernelFormat {
    /// An ELF image (`vmlinux`).
    #[default]
    Elf,
    /// An ELF image compressed with bzip2, from its first `BZh` on.
    ImageBz2,
    /// An ELF image compressed with gzip, from its first `1f 8b 08` on.
    ImageGz,
    /// An ELF image compressed with zstd, from its first `28 b5 2f fd` on.
    ImageZstd,
}

/// Why a kernel or RAM disk cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`MAX_KERNEL`].
    #[error("{} is larger than {MAX_KERNEL} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// No ELF image was found where the format says.
    #[error("{} holds no kernel of format {format:?}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format asked for.
        format: KernelFormat,
    },
    /// The ELF image is malformed, for another machine, or does not fit guest RAM.
    #[error("{} cannot be loaded", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: linux_loader::loader::Error,
    },
    /// The entry point is outside of what was loaded.
    #[error("{} has its entry at {entry:#x}, outside of {HIGH_MEMORY:#x} to {end:#x}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Entry point.
        entry: u64,
        /// End of the loaded kernel.
        end: u64,
    },
    /// There is not enough RAM.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// RAM could not be written.
    #[error("{} does not fit guest RAM", path.display())]
    Guest {
        /// The file.
        path: PathBuf,
        /// What the memory said.
        #[source]
        source: crate::memory::GuestMemoryError,
    },
}

/// A kernel in guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadedKernel {
    /// Guest address of the 64-bit entry point.
    pub entry: u64,
    /// First guest address that is free again, space for `.bss` included.
    pub end: u64,
}

/// Loads the kernel of a file to the physical addresses it names, none of them below 1 MiB. Blocks for file
/// reads and unpacking.
///
/// # Errors
///
/// [`KernelError`]; guest RAM may have been written.
pub fn load(
    path: &Path,
    format: KernelFormat,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, KernelError> {
    let error = || KernelError::Format { path: path.to_owned(), format };
    match format {
        KernelFormat::Elf => {
            let mut file = open(path)?;
            let mut magic = [0; ELF_MAGIC.len()];
            let read = |source| KernelError::Read { path: path.to_owned(), source };
            match file.read_exact(&mut magic) {
                Ok(()) if magic == ELF_MAGIC => {}
                Ok(()) => return Err(error()),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(error()),
                Err(e) => return Err(read(e)),
            }
            file.rewind().map_err(read)?;
            load_elf(path, &mut file, ram, layout)
        }
        packed => {
            let image = unpack(&read(path)?, packed).ok_or_else(error)?;
            load_elf(path, &mut Cursor::new(image), ram, layout)
        }
    }
}

/// Puts the initial RAM disk of a file behind a kernel, as high as possible. Blocks for file reads.
///
/// # Errors
///
/// [`KernelError`]; guest RAM may have been written.
pub fn load_initrd(
    path: &Path,
    kernel: &LoadedKernel,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<Initrd, KernelError> {
    let bytes = read(path)?;
    let len = bytes.len() as u64;
    let addr = layout.place_initrd(len, kernel.end, (GAP_START - 1) as u32)?;
    let guest = |source| KernelError::Guest { path: path.to_owned(), source };
    ram.write_slice(&bytes, GuestAddress(addr)).map_err(guest)?;
    Ok(Initrd { addr, len })
}

fn open(path: &Path) -> Result<File, KernelError> {
    File::open(path).map_err(|source| KernelError::Read { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    let mut bytes = Vec::new();
    let limited = open(path)?.take(MAX_KERNEL + 1).read_to_end(&mut bytes);
    let length = limited.map_err(|source| KernelError::Read { path: path.to_owned(), source })?;
    if length as u64 > MAX_KERNEL {
        return Err(KernelError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn load_elf(
    path: &Path,
    image: &mut (impl Read + ReadVolatile + Seek),
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, KernelError> {
    let load = |source| KernelError::Load { path: path.to_owned(), source };
    let loaded = Elf::load(ram, None, image, Some(GuestAddress(HIGH_MEMORY))).map_err(load)?;
    let (entry, end) = (loaded.kernel_load.0, loaded.kernel_end);
    if !(HIGH_MEMORY..end).contains(&entry) {
        return Err(KernelError::Entry { path: path.to_owned(), entry, end });
    }
    let needed = end.saturating_add(KERNEL_BSS_SLACK);
    if needed > layout.low_end() {
        let size = end.saturating_sub(HIGH_MEMORY);
        let low_end = layout.low_end();
        return Err(LayoutError::KernelDoesNotFit { load: HIGH_MEMORY, size, needed, low_end }.into());
    }
    Ok(LoadedKernel { entry, end: needed })
}

/// The first ELF image that a compressed stream of the file unpacks to.
fn unpack(file: &[u8], format: KernelFormat) -> Option<Vec<u8>> {
    let magic: &[u8] = match format {
        KernelFormat::Elf => return None,
        KernelFormat::ImageBz2 => b"BZh",
        KernelFormat::ImageGz => b"\x1f\x8b\x08",
        KernelFormat::ImageZstd => b"\x28\xb5\x2f\xfd",
    };
    let starts = file.windows(magic.len()).enumerate().filter(|(_, bytes)| *bytes == magic);
    starts.take(MAX_ATTEMPTS).find_map(|(start, _)| {
        let packed = file.get(start..)?;
        let image = match format {
            KernelFormat::ImageBz2 => unpacked(bzip2::read::BzDecoder::new(packed)),
            KernelFormat::ImageGz => unpacked(flate2::read::GzDecoder::new(packed)),
            _ => unpacked(ruzstd::decoding::StreamingDecoder::new(packed).ok()?),
        };
        image.filter(|image| image.starts_with(ELF_MAGIC))
    })
}

/// Everything, if it is no more than [`MAX_KERNEL`]. What is no kernel is given up at once.
fn unpacked(mut stream: impl Read) -> Option<Vec<u8>> {
    let mut image = vec![0; ELF_MAGIC.len()];
    stream.read_exact(&mut image).ok().filter(|()| image == ELF_MAGIC)?;
    let rest = stream.take(MAX_KERNEL).read_to_end(&mut image).ok()?;
    (rest as u64 + ELF_MAGIC.len() as u64 <= MAX_KERNEL).then_some(image)
}

#[cfg(test)]
mod tests;
