//! From a file to a kernel in guest memory.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use vm_memory::ReadVolatile;

use super::detect::{Shape, shape};
use super::image::Image;
use super::unpack::{Compression, search, unpack};
use super::{
    BootMethod, Entry, ImageError, KernelError, LoadedKernel, MAX_KERNEL, SetupHeader, acpi_mark, elf,
};
use crate::arch::x86_64::regs::IDENTITY_MAP;
use crate::memory::layout::{HIGH_MEMORY, PAGE_SIZE};
use crate::memory::{GuestRam, LayoutError, MemoryLayout};

/// The 64-bit entry of a bzImage's protected-mode part.
const ENTRY_64: u64 = 0x200;
/// Length of the size that ends a payload, in every format but gzip.
const SIZE_LEN: usize = 4;

/// Loads the kernel of a file. Blocks for file reads and unpacking.
///
/// # Errors
///
/// [`KernelError`]; guest RAM may have been written.
pub fn load(
    path: &Path,
    method: BootMethod,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, KernelError> {
    let file = File::open(path).map_err(ImageError::from);
    file.and_then(|file| load_image(file, method, ram, layout))
        .map_err(|reason| KernelError { path: path.to_owned(), reason })
}

/// Loads a kernel from anything that can be read at any place.
///
/// # Errors
///
/// [`ImageError`]; guest RAM may have been written.
pub fn load_image<F: Read + Seek + ReadVolatile>(
    file: F,
    method: BootMethod,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, ImageError> {
    let mut image = Image::new(file)?;
    if let BootMethod::Raw { load, entry } = method {
        return raw(&mut image, load, entry, ram, layout);
    }
    match (shape(&image.head()?), method) {
        (Shape::BzImage(header), BootMethod::SelfUnpacking) => {
            self_unpacking(&mut image, header, ram, layout)
        }
        (_, BootMethod::SelfUnpacking) => Err(ImageError::NoBzImage("it has no setup header")),
        (Shape::Elf, _) => {
            let kernel = elf::load(&mut image, method, ram, layout)?;
            Ok(LoadedKernel { has_acpi: Some(acpi_mark::in_image(&mut image)?), ..kernel })
        }
        (Shape::BzImage(header), _) => bzimage(&mut image, header, method, ram, layout),
        (Shape::Zboot { at, len }, _) => {
            let payload = image.bytes(at, len)?;
            let kind = Compression::of(&payload).ok_or(ImageError::NoKernel)?;
            unpacked(unpack_payload(kind, &payload)?, method, ram, layout)
        }
        (Shape::Other, _) => {
            let bytes = image.bytes(0, image.len())?;
            unpacked(search(&bytes, MAX_KERNEL).ok_or(ImageError::NoKernel)?, method, ram, layout)
        }
    }
}

/// An image that was compressed and says nothing else of itself.
fn unpacked(
    bytes: Vec<u8>,
    method: BootMethod,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, ImageError> {
    let mut image = Image::unpacked(bytes)?;
    let kernel = elf::load(&mut image, method, ram, layout)?;
    Ok(LoadedKernel { has_acpi: Some(acpi_mark::in_image(&mut image)?), ..kernel })
}

/// The payload of a bzImage, or the bzImage itself if its payload is in no known format.
fn bzimage<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    header: SetupHeader,
    method: BootMethod,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, ImageError> {
    let place = header.payload.map(|(offset, len)| (header.protected_mode.saturating_add(offset), len));
    let payload = place.map(|(at, len)| image.bytes(at, len)).transpose()?.unwrap_or_default();
    let Some(kind) = Compression::of(&payload) else {
        return match method {
            BootMethod::Pvh => Err(ImageError::NoPvhEntry),
            _ => self_unpacking(image, header, ram, layout),
        };
    };
    let has_acpi = acpi_mark::around_payload(image, &header)?;
    let mut unpacked = Image::unpacked(unpack_payload(kind, &payload)?)?;
    let kernel = elf::load(&mut unpacked, method, ram, layout)?;
    let has_acpi = match has_acpi {
        None => Some(acpi_mark::in_image(&mut unpacked)?),
        found => found,
    };
    Ok(LoadedKernel { header: Some(header), has_acpi, ..kernel })
}

/// In every format a payload ends with the size it unpacks to (for gzip, the stream's own).
fn unpack_payload(kind: Compression, payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let expected = payload.last_chunk::<SIZE_LEN>().map_or(0, |size| u32::from_le_bytes(*size));
    let stream = match kind {
        Compression::Gzip => payload,
        _ => payload.get(..payload.len().saturating_sub(SIZE_LEN)).unwrap_or_default(),
    };
    let unpacked = unpack(kind, stream, MAX_KERNEL, expected.into());
    unpacked.map_err(|source| ImageError::Unpack { kind, source })
}

/// The protected-mode part, where it wants to be, with room to unpack itself.
fn self_unpacking<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    header: SetupHeader,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, ImageError> {
    if !header.has_64_bit_entry {
        return Err(ImageError::NoBzImage("it has no 64-bit entry (boot protocol 2.12)"));
    }
    let at = header.protected_mode;
    let len = image.len().checked_sub(at).filter(|&len| len > ENTRY_64);
    let len = len.ok_or(ImageError::NoBzImage("it ends with its setup code"))?;
    let align = header.alignment.max(PAGE_SIZE);
    let wanted = if header.relocatable { header.pref_address } else { header.code32_start };
    let load = match header.relocatable {
        true => wanted.max(HIGH_MEMORY).checked_next_multiple_of(align).unwrap_or(u64::MAX),
        false => wanted,
    };
    let end = free_range(load, len.max(header.init_size), layout)?;
    image.copy_to(at, len, ram, load)?;
    let has_acpi = acpi_mark::around_payload(image, &header)?;
    let entry = Entry::Long(load.saturating_add(ENTRY_64));
    Ok(LoadedKernel { entry, end, header: Some(header), has_acpi })
}

/// The whole file at one place.
fn raw<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    load: u64,
    entry: u64,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, ImageError> {
    let len = image.len();
    if len == 0 {
        return Err(ImageError::NoKernel);
    }
    let end = layout.check_kernel(load, len)?;
    // Cannot overflow: low RAM ends below 4 GiB.
    let limit = load.saturating_add(len).min(IDENTITY_MAP);
    if !(load..limit).contains(&entry) {
        return Err(ImageError::Entry { entry, start: load, end: limit });
    }
    image.copy_to(0, len, ram, load)?;
    Ok(LoadedKernel { entry: Entry::Long(entry), end, header: None, has_acpi: None })
}

/// The end of a range that a kernel needs in low RAM, where the boot page tables reach.
fn free_range(load: u64, size: u64, layout: &MemoryLayout) -> Result<u64, ImageError> {
    if load < HIGH_MEMORY || !load.is_multiple_of(PAGE_SIZE) {
        return Err(LayoutError::KernelLoadAddress { load }.into());
    }
    let needed = load.saturating_add(size);
    let low_end = layout.low_end().min(IDENTITY_MAP);
    if needed > low_end {
        return Err(LayoutError::KernelDoesNotFit { load, size, needed, low_end }.into());
    }
    Ok(needed)
}
