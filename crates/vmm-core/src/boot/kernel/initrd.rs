//! Initial RAM disks in files.

use std::fs::File;
use std::path::Path;

use super::image::Image;
use super::{ImageError, KernelError, LoadedKernel};
use crate::boot::zero_page::Initrd;
use crate::memory::layout::GAP_START;
use crate::memory::{GuestRam, MemoryLayout};

/// Puts the initial RAM disk of a file behind a kernel, as high as possible below the gap and where the kernel takes
/// it. Blocks for file reads.
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
    place(path, kernel, ram, layout).map_err(|reason| KernelError { path: path.to_owned(), reason })
}

fn place(
    path: &Path,
    kernel: &LoadedKernel,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<Initrd, ImageError> {
    let mut image = Image::new(File::open(path)?)?;
    let len = image.len();
    let addr = layout.place_initrd(len, kernel.end, kernel.initrd_addr_max())?;
    image.copy_to(0, len, ram, addr)?;
    Ok(Initrd { addr, len })
}

impl LoadedKernel {
    /// Last guest address an initial RAM disk may occupy.
    pub fn initrd_addr_max(&self) -> u32 {
        self.header.as_ref().map_or((GAP_START - 1) as u32, |header| header.initrd_addr_max)
    }
}
