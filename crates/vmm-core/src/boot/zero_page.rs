//! The zero page (`struct boot_params`) of the x86 boot protocol. Pure bytes.
//!
//! Offsets: Linux `Documentation/arch/x86/boot.rst` (setup header) and `zero-page.rst` (the rest).

use super::kernel::{SetupHeader, setup_header};
use super::{BootError, write};
use crate::memory::layout::{CMDLINE, ZERO_PAGE};
use crate::memory::{GuestRam, MemoryLayout, RamRange};

/// Length of the zero page in bytes.
pub const LEN: usize = 4096;

const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_RAMDISK_IMAGE: usize = 0x0c0;
const EXT_RAMDISK_SIZE: usize = 0x0c4;
const E820_ENTRIES: usize = 0x1e8;
const BOOT_FLAG: usize = 0x1fe;
const HEADER_MAGIC: usize = 0x202;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const KERNEL_ALIGNMENT: usize = 0x230;
const CMDLINE_SIZE: usize = 0x238;
const E820_TABLE: usize = 0x2d0;

/// Fields of the setup header that are written by the loader.
const OF_LOADER: [std::ops::Range<usize>; 3] =
    [TYPE_OF_LOADER..TYPE_OF_LOADER + 1, RAMDISK_IMAGE..RAMDISK_SIZE + 4, CMD_LINE_PTR..CMD_LINE_PTR + 4];

const UNDEFINED_LOADER: u8 = 0xff;
const E820_RAM: u32 = 1;

/// An initial RAM disk in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// First guest address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Builds the zero page for a kernel entered directly, without a setup header of its own.
///
/// `cmdline_len` is the length of the command line in bytes without its NUL; the line itself is at
/// [`CMDLINE`]. An initial RAM disk above 4 GiB uses the extension fields.
pub fn build(layout: &MemoryLayout, cmdline_len: u32, initrd: Option<Initrd>) -> [u8; LEN] {
    let mut page = Page([0; LEN]);
    page.put(BOOT_FLAG, 0xaa55u16.to_le_bytes());
    page.put(HEADER_MAGIC, *b"HdrS");
    page.put(TYPE_OF_LOADER, [UNDEFINED_LOADER]);
    page.put(CMD_LINE_PTR, (CMDLINE as u32).to_le_bytes());
    page.put(CMDLINE_SIZE, cmdline_len.saturating_add(1).to_le_bytes());
    page.put(KERNEL_ALIGNMENT, 0x100_0000u32.to_le_bytes());
    if let Some(initrd) = initrd {
        page.put_split(RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, initrd.addr);
        page.put_split(RAMDISK_SIZE, EXT_RAMDISK_SIZE, initrd.len);
    }
    let mut count = 0u8;
    for (range, at) in layout.e820().zip((E820_TABLE..).step_by(20)) {
        page.put_e820(at, range);
        count += 1;
    }
    page.put(E820_ENTRIES, [count]);
    page.0
}

/// Puts the setup header of the kernel's own image into a built zero page, but for what the loader answers in it: its
/// type, the RAM disk, and where the command line is.
pub fn set_header(page: &mut [u8; LEN], header: &SetupHeader) {
    let places = page.iter_mut().enumerate().skip(setup_header::START);
    for ((at, place), &byte) in places.zip(header.bytes()) {
        if !OF_LOADER.iter().any(|fields| fields.contains(&at)) {
            *place = byte;
        }
    }
}

/// Tells the kernel where the RSDP is (boot protocol 2.14). One that does not know the field searches.
pub fn set_rsdp(page: &mut [u8; LEN], rsdp: u64) {
    if let Some(field) = page.get_mut(ACPI_RSDP_ADDR..ACPI_RSDP_ADDR + 8) {
        field.copy_from_slice(&rsdp.to_le_bytes());
    }
}

/// Writes a built zero page to [`ZERO_PAGE`].
///
/// # Errors
///
/// [`BootError::Write`] if that is not RAM.
pub fn write_to(ram: &GuestRam, page: &[u8; LEN]) -> Result<(), BootError> {
    write(ram, "zero page", ZERO_PAGE, page)
}

struct Page([u8; LEN]);

impl Page {
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        // Every offset is a constant of the format, far inside the page.
        if let Some(place) = self.0.get_mut(at..at + N) {
            place.copy_from_slice(&bytes);
        }
    }

    fn put_split(&mut self, low: usize, high: usize, value: u64) {
        self.put(low, (value as u32).to_le_bytes());
        self.put(high, ((value >> 32) as u32).to_le_bytes());
    }

    fn put_e820(&mut self, at: usize, range: RamRange) {
        self.put(at, range.start.to_le_bytes());
        self.put(at + 8, range.len.to_le_bytes());
        self.put(at + 16, E820_RAM.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    /// The non-zero bytes as (offset, bytes) runs.
    fn runs(page: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut runs: Vec<(usize, Vec<u8>)> = Vec::new();
        for (i, &b) in page.iter().enumerate().filter(|&(_, &b)| b != 0) {
            match runs.last_mut() {
                Some((at, run)) if *at + run.len() == i => run.push(b),
                _ => runs.push((i, vec![b])),
            }
        }
        runs
    }

    #[test]
    fn golden_small() {
        let layout = MemoryLayout::new(256 << 20).unwrap();
        let page = build(&layout, 0x7fe, None);
        let expected: Vec<(usize, Vec<u8>)> = vec![
            (0x1e8, vec![2]),
            (0x1fe, vec![0x55, 0xaa]),
            (0x202, b"HdrS".to_vec()),
            (0x210, vec![0xff]),
            (0x22a, vec![2]),       // command line at 0x20000
            (0x233, vec![1]),       // alignment 16 MiB
            (0x238, vec![0xff, 7]), // 2047 bytes with the NUL
            (0x2d9, vec![0xfc, 9]), // [0, 0x9fc00)
            (0x2e0, vec![1]),
            (0x2e6, vec![0x10]), // [1 MiB, 256 MiB)
            (0x2ee, vec![0xf0, 0x0f]),
            (0x2f4, vec![1]),
        ];
        assert_eq!(runs(&page), expected);
    }

    #[test]
    fn golden_large_with_a_high_initrd() {
        let layout = MemoryLayout::new(6 << 30).unwrap();
        let page = build(&layout, 0, Some(Initrd { addr: 0x1_2345_6000, len: 0x2_0000_0789 }));
        assert_eq!(page[0x1e8], 3);
        assert_eq!(page[0x218..0x220], [0x00, 0x60, 0x45, 0x23, 0x89, 0x07, 0, 0]);
        assert_eq!(page[0x0c0..0x0c8], [1, 0, 0, 0, 2, 0, 0, 0]);
        // third entry: 4 GiB, 2816 MiB
        assert_eq!(page[0x2f8..0x30c], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xb0, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn the_header_of_the_image_keeps_what_the_loader_says() {
        let mut head = vec![0xab; 0x1000];
        head[0x1f1..0x1f2].copy_from_slice(&[4]);
        head[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x6aHdrS\x0f\x02");
        let header = SetupHeader::parse(&head).unwrap();
        let layout = MemoryLayout::new(64 << 20).unwrap();
        let built = build(&layout, 9, Some(Initrd { addr: 0x300_0000, len: 0x1000 }));
        let mut page = built;
        set_header(&mut page, &header);
        set_rsdp(&mut page, 0xe_0000);
        for (at, (&byte, &before)) in page.iter().zip(&built).enumerate() {
            let expected = match at {
                0x70..0x78 => 0xe_0000u64.to_le_bytes()[at - 0x70],
                0x210 | 0x218..0x220 | 0x228..0x22c => before,
                0x1f1..0x26c => head[at],
                _ => before,
            };
            assert_eq!(byte, expected, "{at:#x}");
        }
    }

    #[test]
    fn lands_at_its_address() {
        let layout = MemoryLayout::new(16 << 20).unwrap();
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
        write_to(&ram, &build(&layout, 1, None)).unwrap();
        assert_eq!(ram.read_obj::<u16>(GuestAddress(0x71fe)).unwrap(), 0xaa55);
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0x7000)]).unwrap();
        assert!(matches!(
            write_to(&tiny, &build(&layout, 1, None)),
            Err(BootError::Write { addr: 0x7000, .. })
        ));
    }
}
