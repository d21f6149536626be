//! ELF images (System V ABI, "Object Files"), into guest memory.
//!
//! The `elf` crate reads the structures; what is read of the file is bounded here. (linux-loader's loader adds an
//! offset of the file unchecked, and looks at no segment's address.)

use std::io::{Read, Seek};

use elf::abi::{EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::note::{Note, NoteIterator};
use elf::segment::{ProgramHeader, SegmentTable};
use vm_memory::ReadVolatile;

use super::image::Image;
use super::{BootMethod, Entry, ImageError, LoadedKernel};
use crate::arch::x86_64::regs::IDENTITY_MAP;
use crate::memory::layout::{HIGH_MEMORY, KERNEL_BSS_SLACK};
use crate::memory::{GuestRam, LayoutError, MemoryLayout};

const HEADER: u64 = 64;
const IDENT: usize = 16;
const PROGRAM_HEADER: u64 = 56;
/// Kernels have five or so.
const MAX_SEGMENTS: u16 = 64;
/// Notes are some hundred bytes; longer ones are not read.
const MAX_NOTES: u64 = 64 << 10;
const NOTE_ALIGN: usize = 4;

/// `XEN_ELFNOTE_PHYS32_ENTRY` of the note name "Xen" (Xen `public/elfnote.h`).
const PHYS32_ENTRY: u64 = 18;

/// Loads every segment to its physical address.
pub(super) fn load<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    method: BootMethod,
    ram: &GuestRam,
    layout: &MemoryLayout,
) -> Result<LoadedKernel, ImageError> {
    let (entry, segments) = segments(image)?;
    let loads: Vec<_> = segments.iter().filter(|s| s.p_type == PT_LOAD && s.p_memsz > 0).collect();
    let (mut start, mut end) = (u64::MAX, 0);
    for segment in &loads {
        let range = place(segment, layout)?;
        (start, end) = (start.min(range.0), end.max(range.1));
    }
    let needed = end.saturating_add(KERNEL_BSS_SLACK);
    if needed > layout.low_end() {
        let (size, low_end) = (end.saturating_sub(start), layout.low_end());
        return Err(LayoutError::KernelDoesNotFit { load: start, size, needed, low_end }.into());
    }
    let pvh = pvh_entry(image, &segments)?.filter(|&entry| (start..end).contains(&u64::from(entry)));
    let entry = choose(method, entry, pvh, (start, end.min(IDENTITY_MAP)))?;
    for segment in loads {
        image.copy_to(segment.p_offset, segment.p_filesz, ram, segment.p_paddr)?;
    }
    Ok(LoadedKernel { entry, end: needed, header: None, has_acpi: None })
}

/// Entry point and program headers.
fn segments<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
) -> Result<(u64, Vec<ProgramHeader>), ImageError> {
    let bytes = image.bytes(0, HEADER)?;
    let (ident, tail) = bytes.split_at(IDENT);
    let ident = parse_ident::<LittleEndian>(ident).map_err(|_| ImageError::Elf("it is not little-endian"))?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| ImageError::Elf("its header is cut"))?;
    if (header.class, header.e_machine) != (Class::ELF64, EM_X86_64) {
        return Err(ImageError::Elf("it is not for x86-64"));
    }
    if u64::from(header.e_phentsize) != PROGRAM_HEADER || header.e_phnum > MAX_SEGMENTS {
        return Err(ImageError::Elf("its program headers are of another size, or more than 64"));
    }
    let table = image.bytes(header.e_phoff, PROGRAM_HEADER * u64::from(header.e_phnum))?;
    let segments: Vec<_> = SegmentTable::new(LittleEndian, Class::ELF64, &table).iter().collect();
    if !segments.iter().any(|s| s.p_type == PT_LOAD && s.p_memsz > 0) {
        return Err(ImageError::Elf("it has nothing to load"));
    }
    Ok((header.e_entry, segments))
}

/// First address of a segment and the first behind it.
fn place(segment: &ProgramHeader, layout: &MemoryLayout) -> Result<(u64, u64), ImageError> {
    if segment.p_filesz > segment.p_memsz {
        return Err(ImageError::Elf("a segment has more bytes in the file than in memory"));
    }
    let (addr, len, low_end) = (segment.p_paddr, segment.p_memsz, layout.low_end());
    match addr.checked_add(len) {
        Some(end) if addr >= HIGH_MEMORY && end <= low_end => Ok((addr, end)),
        _ => Err(ImageError::Segment { addr, len, low_end }),
    }
}

/// The PVH entry that a note names.
fn pvh_entry<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    segments: &[ProgramHeader],
) -> Result<Option<u32>, ImageError> {
    for segment in segments.iter().filter(|s| s.p_type == PT_NOTE && s.p_filesz <= MAX_NOTES) {
        let bytes = image.bytes(segment.p_offset, segment.p_filesz)?;
        for note in NoteIterator::new(LittleEndian, Class::ELF64, NOTE_ALIGN, &bytes) {
            if let Note::Unknown(note) = note
                && note.n_type == PHYS32_ENTRY
                && note.name.strip_suffix(b"\0").unwrap_or(note.name) == b"Xen"
                && let Some(entry) = note.desc.first_chunk()
            {
                return Ok(Some(u32::from_le_bytes(*entry)));
            }
        }
    }
    Ok(None)
}

fn choose(
    method: BootMethod,
    entry: u64,
    pvh: Option<u32>,
    (start, end): (u64, u64),
) -> Result<Entry, ImageError> {
    match (method, pvh) {
        (BootMethod::Pvh, Some(pvh)) => Ok(Entry::Pvh(pvh)),
        (BootMethod::Pvh, None) => Err(ImageError::NoPvhEntry),
        _ if (start..end).contains(&entry) => Ok(Entry::Long(entry)),
        (_, Some(pvh)) => Ok(Entry::Pvh(pvh)),
        (_, None) => Err(ImageError::Entry { entry, start, end }),
    }
}
