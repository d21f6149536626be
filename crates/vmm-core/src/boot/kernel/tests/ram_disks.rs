use std::io::Write;
use std::path::Path;

use super::build::{LOAD, RAM, bzimage, guest, load};
use super::*;
use crate::boot::zero_page::Initrd;
use crate::memory::layout::GAP_START;
use crate::memory::{GuestAddress, GuestRam, MemoryLayout};

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn kernel(end: u64) -> LoadedKernel {
    LoadedKernel { entry: Entry::Long(LOAD), end, header: None, has_acpi: None }
}

#[test]
fn as_high_as_possible() {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap();
    let layout = MemoryLayout::new(RAM).unwrap();
    let disk = load_initrd(file(b"disk").path(), &kernel(32 << 20), &ram, &layout).unwrap();
    assert_eq!(disk, Initrd { addr: RAM - 0x1000, len: 4 });
    assert_eq!(&guest(&ram, disk.addr), b"disk");

    let error = load_initrd(file(b"disk").path(), &kernel(RAM - 1), &ram, &layout).unwrap_err();
    assert!(matches!(error.reason, ImageError::Layout(_)), "{error:?}");
    assert!(load_initrd(file(b"").path(), &kernel(32 << 20), &ram, &layout).is_err());
    assert!(load_initrd(Path::new("/nowhere"), &kernel(32 << 20), &ram, &layout).is_err());
}

/// With RAM on both sides of the gap the disk is below it, where 32 bits name it.
#[test]
fn below_the_gap_and_where_the_kernel_takes_it() {
    let layout = MemoryLayout::new(8 << 30).unwrap();
    let top = (GuestAddress(GAP_START - (16 << 20)), 16 << 20);
    let below_2g = (GuestAddress((2 << 30) - (16 << 20)), 16 << 20);
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize), below_2g, top]).unwrap();
    let disk = load_initrd(file(b"disk").path(), &kernel(32 << 20), &ram, &layout).unwrap();
    assert_eq!(disk.addr, GAP_START - 0x1000);

    let (bzimage, _) = load(&bzimage(b"any payload", 0), BootMethod::Auto).unwrap();
    let disk = load_initrd(file(b"disk").path(), &bzimage, &ram, &layout).unwrap();
    assert_eq!(disk.addr, (2 << 30) - 0x1000);
}

#[test]
fn what_a_file_says_before_there_is_ram() {
    use crate::boot::initramfs::sizing::Release;
    let mut image = bzimage(b"", 0);
    let known = |image: &[u8]| facts(file(image).path()).unwrap();
    assert_eq!(known(&image), KernelFacts { init_size: 0x80_0000, release: None });
    // The text is at 0x200 and this number.
    image[0x20e..0x210].copy_from_slice(&0x200u16.to_le_bytes());
    image[0x400..0x40a].copy_from_slice(b"6.12.57+d\0");
    let release = Release { major: 6, minor: 12, patch: 57 };
    assert_eq!(known(&image).release, Some(release));
    image[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(known(&image).release, None, "outside of the file");
    assert_eq!(known(b"\x7fELF"), KernelFacts::default());
    assert!(facts(Path::new("/nowhere")).is_err());
}
