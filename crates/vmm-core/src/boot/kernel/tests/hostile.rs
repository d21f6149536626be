use std::path::Path;

use super::build::{ALL, Elf, LOAD, RAM, bzimage, load, pack};
use super::*;
use crate::memory::{GuestAddress, GuestRam, MemoryLayout};

fn refusal(bytes: &[u8], method: BootMethod) -> String {
    format!("{:?}", load(bytes, method).map(|(kernel, _)| kernel).unwrap_err())
}

#[test]
fn malformed_elf_images() {
    let good = || Elf::of(LOAD, LOAD, b"code");
    let changed = |change: &dyn Fn(&mut Elf)| {
        let mut image = good();
        change(&mut image);
        image.bytes()
    };
    let patched = |at: usize, bytes: &[u8]| {
        let mut image = good().bytes();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let table: [(Vec<u8>, &str); 20] = [
        (Vec::new(), "NoKernel"),
        (b"\x7fEL".to_vec(), "NoKernel"),
        (b"MZ is something else".to_vec(), "NoKernel"),
        (b"\x7fELF".to_vec(), "Truncated"),
        (good().bytes()[..119].to_vec(), "Truncated"),
        (good().bytes()[..122].to_vec(), "Truncated"),
        (patched(4, &[1]), "Elf"),           // 32-bit
        (patched(5, &[2]), "Elf"),           // big-endian
        (patched(18, &[183, 0]), "Elf"),     // for another machine
        (patched(54, &[57, 0]), "Elf"),      // program headers of another size
        (patched(56, &[0xff, 0xff]), "Elf"), // too many
        (patched(56, &[0, 0]), "Elf"),       // none
        (patched(32, &u64::MAX.to_le_bytes()), "Truncated"),
        (changed(&|e| e.segments[0].1 = u64::MAX - 1), "Truncated"),
        (changed(&|e| e.segments[0].3 = 5), "Elf"), // more bytes than memory
        (changed(&|e| e.segments[0].4 = u64::MAX), "Segment"),
        (changed(&|e| e.segments[0].2 = 0x7000), "Segment"),
        (changed(&|e| e.segments[0].2 = RAM), "Segment"),
        (changed(&|e| e.segments[0].2 = u64::MAX - 1), "Segment"),
        (changed(&|e| e.segments[0].2 = RAM - 4), "Layout"),
    ];
    for (number, (bytes, expected)) in table.into_iter().enumerate() {
        let refusal = refusal(&bytes, BootMethod::Auto);
        assert!(refusal.starts_with(expected), "{number}: {refusal}");
    }
    for entry in [LOAD + 4, LOAD - 1, 0, u64::MAX] {
        let image = changed(&|e| e.entry = entry);
        assert!(refusal(&image, BootMethod::Auto).starts_with("Entry"), "{entry:#x}");
    }
}

/// Notes of any length and place: no note is found, or an error.
#[test]
fn malformed_notes() {
    let image = || Elf::of(LOAD, LOAD, b"code").with_note(LOAD as u32);
    for (offset, size, expected) in [
        (u64::MAX - 4, 20, "Truncated"),
        (0, 1 << 40, "NoPvhEntry"),
        (0, 7, "NoPvhEntry"),
        (1 << 40, 20, "Truncated"),
    ] {
        let mut changed = image();
        (changed.segments[1].1, changed.segments[1].3) = (offset, size);
        assert!(refusal(&changed.bytes(), BootMethod::Pvh).starts_with(expected), "{offset:#x} {size:#x}");
    }
    for (at, word) in [(0, u32::MAX), (4, u32::MAX), (4, 3), (8, 17), (12, 0)] {
        let mut changed = image();
        changed.rest[4 + at..8 + at].copy_from_slice(&word.to_le_bytes());
        assert!(refusal(&changed.bytes(), BootMethod::Pvh).starts_with("NoPvhEntry"), "{at} {word:#x}");
    }
}

#[test]
fn malformed_bzimages() {
    let patched = |at: usize, bytes: &[u8]| {
        let mut image = bzimage(b"any payload", 0);
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let far = u64::MAX.to_le_bytes();
    let table: [(Vec<u8>, &str); 9] = [
        (patched(0x202, b"hdrs"), "NoKernel"),
        (patched(0x1fe, b"\0\0"), "NoKernel"),
        (patched(0x206, &0x207u16.to_le_bytes()), "NoKernel"),
        (patched(0x248, &far[..4]), "Truncated"),
        (patched(0x24c, &far[..4]), "Truncated"),
        (patched(0x258, &far), "Layout"),
        (patched(0x260, &far[..4]), "Layout"),
        (patched(0x236, &[0]), "NoBzImage"),
        (bzimage(b"any payload", 0)[..0x300].to_vec(), "Truncated"),
    ];
    for (number, (bytes, expected)) in table.into_iter().enumerate() {
        let refusal = refusal(&bytes, BootMethod::Auto);
        assert!(refusal.starts_with(expected), "{number}: {refusal}");
    }
    let cut = &patched(0x248, &[0; 8])[..3 * 512 + 0x200];
    assert!(refusal(cut, BootMethod::Auto).starts_with("NoBzImage"));
    assert!(refusal(b"\x7fELF", BootMethod::SelfUnpacking).starts_with("NoBzImage"));
    assert!(refusal(&bzimage(b"any payload", 0), BootMethod::Pvh).starts_with("NoPvhEntry"));
    let mut strange = patched(0x230, &far[..4]);
    strange[0x201] = 0xff;
    assert!(refusal(&strange, BootMethod::Auto).starts_with("Layout"));
}

#[test]
fn payloads_that_do_not_unpack() {
    let image = Elf::of(LOAD, LOAD, b"code and more code, and more").bytes();
    for kind in ALL {
        let packed = pack(kind, &image);
        let cut = bzimage(&packed[..packed.len() / 2], image.len());
        assert!(refusal(&cut, BootMethod::Auto).starts_with("Unpack"), "{kind:?}");
        let other = bzimage(&pack(kind, b"not a kernel"), 12);
        assert!(refusal(&other, BootMethod::Auto).starts_with("Unpack"), "{kind:?}");
        assert!(refusal(&packed[..packed.len() / 2], BootMethod::Auto).starts_with("NoKernel"), "{kind:?}");
        let mut wrong = packed.clone();
        wrong.iter_mut().skip(8).for_each(|byte| *byte ^= 0x55);
        assert!(load(&bzimage(&wrong, image.len()), BootMethod::Auto).is_err(), "{kind:?}");
    }
}

/// A small file that becomes a large image is given up at the limit.
#[test]
fn bombs() {
    let mut image = Elf::of(LOAD, LOAD, b"code").bytes();
    image.resize(3 << 20, 0);
    for kind in ALL {
        let packed = pack(kind, &image);
        assert_eq!(unpack::unpack(kind, &packed, 3 << 20, u64::MAX).unwrap().len(), 3 << 20, "{kind:?}");
        let error = unpack::unpack(kind, &packed, (3 << 20) - 1, 0).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{kind:?}: {error}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap();
    let layout = MemoryLayout::new(RAM).unwrap();
    for path in ["/nowhere", "/"] {
        let error = super::load(Path::new(path), BootMethod::Auto, &ram, &layout).unwrap_err();
        assert!(matches!(error.reason, ImageError::Read(_) | ImageError::TooLarge), "{error:?}");
        assert!(error.to_string().starts_with(path));
    }
}
