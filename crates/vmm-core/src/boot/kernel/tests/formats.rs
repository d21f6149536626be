use super::build::{ALL, Elf, LOAD, bzimage, guest, load, pack};
use super::*;
use crate::memory::layout::KERNEL_BSS_SLACK;

fn code() -> Vec<u8> {
    Elf::of(LOAD, LOAD + 2, b"code and more").bytes()
}

/// Loads it and looks for the code.
fn entry_and_end(bytes: &[u8], method: BootMethod) -> (Entry, u64) {
    let (kernel, ram) = load(bytes, method).unwrap();
    assert_eq!(&guest(&ram, LOAD), b"code and more");
    (kernel.entry, kernel.end)
}

const EXPECTED: (Entry, u64) = (Entry::Long(LOAD + 2), LOAD + 13 + KERNEL_BSS_SLACK);

#[test]
fn elf_images() {
    assert_eq!(entry_and_end(&code(), BootMethod::Auto), EXPECTED);
    let (kernel, _) = load(&code(), BootMethod::Auto).unwrap();
    assert_eq!((kernel.has_acpi, kernel.header), (Some(false), None));
    let acpi = Elf::of(LOAD, LOAD, b"looks for RSD PTR in memory").bytes();
    assert_eq!(load(&acpi, BootMethod::Auto).unwrap().0.has_acpi, Some(true));
    // Memory behind a segment's bytes belongs to the kernel.
    let mut with_bss = Elf::of(LOAD, LOAD + 2, b"code and more");
    with_bss.segments[0].4 = 0x5000;
    let end = LOAD + 0x5000 + KERNEL_BSS_SLACK;
    assert_eq!(entry_and_end(&with_bss.bytes(), BootMethod::Auto), (Entry::Long(LOAD + 2), end));
}

#[test]
fn pvh_when_asked_or_the_only_entry() {
    let entry = |image: Elf, method| load(&image.bytes(), method).map(|(kernel, _)| kernel.entry);
    let both = || Elf::of(LOAD, LOAD + 2, b"code and more").with_note(LOAD as u32 + 4);
    assert_eq!(entry(both(), BootMethod::Auto).unwrap(), Entry::Long(LOAD + 2));
    assert_eq!(entry(both(), BootMethod::Pvh).unwrap(), Entry::Pvh(LOAD as u32 + 4));
    let virtual_entry = Elf::of(LOAD, 0xffff_ffff_8100_0000, b"code and more").with_note(LOAD as u32 + 4);
    assert_eq!(entry(virtual_entry, BootMethod::Auto).unwrap(), Entry::Pvh(LOAD as u32 + 4));
    let none = Elf::of(LOAD, LOAD + 2, b"code and more");
    assert!(matches!(entry(none, BootMethod::Pvh), Err(ImageError::NoPvhEntry)));
    let outside = Elf::of(LOAD, LOAD + 2, b"code and more").with_note(0x7000);
    assert!(matches!(entry(outside, BootMethod::Pvh), Err(ImageError::NoPvhEntry)));
}

#[test]
fn payloads_of_bzimages() {
    for kind in ALL {
        let image = bzimage(&pack(kind, &code()), code().len());
        assert_eq!(entry_and_end(&image, BootMethod::Auto), EXPECTED, "{kind:?}");
        let (kernel, _) = load(&image, BootMethod::Auto).unwrap();
        assert_eq!(kernel.has_acpi, Some(true), "by the code around the payload");
        let header = kernel.header.unwrap();
        assert_eq!((header.cmdline_size(), header.initrd_addr_max), (2047, 0x7fff_ffff));
        assert_eq!(header.bytes().len(), 0x26c - 0x1f1);
        assert_eq!(header.bytes(), &image[0x1f1..0x26c]);
    }
}

#[test]
fn bzimages_that_unpack_themselves() {
    let image = bzimage(b"any payload", 0);
    for method in [BootMethod::Auto, BootMethod::SelfUnpacking] {
        let (kernel, ram) = load(&image, method).unwrap();
        assert_eq!((kernel.entry, kernel.end), (Entry::Long(LOAD + 0x200), LOAD + 0x80_0000));
        assert_eq!(guest::<11>(&ram, LOAD + 0x400), *b"any payload");
        assert_eq!(kernel.has_acpi, Some(true));
        assert!(kernel.header.is_some());
    }
    // Asked for, also with a payload that could be unpacked here.
    let gz = bzimage(&pack(Compression::Gzip, &code()), 0);
    let (kernel, _) = load(&gz, BootMethod::SelfUnpacking).unwrap();
    assert_eq!(kernel.entry, Entry::Long(LOAD + 0x200));
    // Not relocatable: where the header says.
    let mut fixed = image;
    fixed[0x234] = 0;
    let (kernel, _) = load(&fixed, BootMethod::Auto).unwrap();
    assert_eq!((kernel.entry, kernel.end), (Entry::Long(0x10_0200), 0x90_0000));
}

#[test]
fn other_containers() {
    for kind in ALL {
        let packed = pack(kind, &code());
        assert_eq!(entry_and_end(&packed, BootMethod::Auto), EXPECTED, "{kind:?} alone");
        let other = pack(kind, b"not a kernel");
        let around =
            [b"loader \x1f\x8b\x08 BZh \x28\xb5\x2f\xfd", other.as_slice(), &packed, b"more"].concat();
        assert_eq!(entry_and_end(&around, BootMethod::Auto), EXPECTED, "{kind:?} in something");
        let pe = [b"MZ some PE file ".as_slice(), &packed].concat();
        assert_eq!(entry_and_end(&pe, BootMethod::Auto), EXPECTED, "{kind:?} in a PE file");

        let mut zboot = vec![0; 512];
        zboot[..8].copy_from_slice(b"MZ\0\0zimg");
        zboot[8..12].copy_from_slice(&512u32.to_le_bytes());
        zboot[12..16].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
        zboot[100..103].copy_from_slice(b"BZh");
        zboot.extend(&packed);
        zboot.extend((code().len() as u32).to_le_bytes());
        assert_eq!(entry_and_end(&zboot, BootMethod::Auto), EXPECTED, "{kind:?} in a zboot image");
    }
}

/// An LZ4 stream of several blocks, the last of exactly the largest size.
#[test]
fn lz4_blocks() {
    let mut image = Elf::of(LOAD, LOAD + 2, b"code and more");
    image.rest.resize((16 << 20) - Elf::REST as usize, 7);
    let bytes = image.bytes();
    assert_eq!(bytes.len(), 16 << 20);
    let packed = pack(Compression::Lz4, &bytes);
    assert_eq!(entry_and_end(&bzimage(&packed, bytes.len()), BootMethod::Auto), EXPECTED);
}

#[test]
fn flat_bytes() {
    let raw = |load, entry| BootMethod::Raw { load, entry };
    let (kernel, ram) = load(b"flat bytes", raw(0x20_0000, 0x20_0003)).unwrap();
    assert_eq!(kernel.entry, Entry::Long(0x20_0003));
    assert_eq!(kernel.end, 0x20_000a + KERNEL_BSS_SLACK);
    assert_eq!(kernel.has_acpi, None);
    assert_eq!(&guest(&ram, 0x20_0000), b"flat bytes");
    for (at, entry) in [(0x1000, 0x1000), (0x20_0001, 0x20_0001), (63 << 20, 63 << 20), (u64::MAX - 0xfff, 0)]
    {
        assert!(matches!(load(b"flat", raw(at, entry)), Err(ImageError::Layout(_))), "{at:#x}");
    }
    for entry in [0x1f_ffff, 0x20_0004, u64::MAX] {
        assert!(matches!(load(b"flat", raw(0x20_0000, entry)), Err(ImageError::Entry { .. })), "{entry:#x}");
    }
    assert!(matches!(load(b"", raw(0x20_0000, 0x20_0000)), Err(ImageError::NoKernel)));
}
