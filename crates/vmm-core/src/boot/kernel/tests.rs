use std::io::Write;

use super::*;

const LOAD: u64 = 0x100_0000;

/// A 64-bit ELF executable of one segment (System V ABI, "Object Files").
fn elf(load: u64, entry: u64, code: &[u8]) -> Vec<u8> {
    let mut image = Vec::from(ELF_MAGIC);
    image.extend([2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for half in [2u16, 62] {
        image.extend(half.to_le_bytes());
    }
    image.extend(1u32.to_le_bytes());
    for word in [entry, 64, 0] {
        image.extend(word.to_le_bytes());
    }
    image.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    image.extend(1u32.to_le_bytes());
    image.extend(5u32.to_le_bytes());
    let len = code.len() as u64;
    for word in [120, load, load, len, len, 0x1000] {
        image.extend(word.to_le_bytes());
    }
    image.extend(code);
    image
}

fn guest() -> (GuestRam, MemoryLayout) {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
    (ram, MemoryLayout::new(64 << 20).unwrap())
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn load_bytes(bytes: &[u8], format: KernelFormat) -> Result<LoadedKernel, KernelError> {
    let (ram, layout) = guest();
    let loaded = load(file(bytes).path(), format, &ram, &layout)?;
    let mut code = [0; 4];
    ram.read_slice(&mut code, GuestAddress(LOAD)).unwrap();
    assert_eq!(&code, b"code");
    Ok(loaded)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn kernels_of_every_format() {
    let image = elf(LOAD, LOAD + 2, b"code and more");
    let expected = LoadedKernel { entry: LOAD + 2, end: LOAD + 13 + KERNEL_BSS_SLACK };
    assert_eq!(load_bytes(&image, KernelFormat::Elf).unwrap(), expected);
    let table = [
        (KernelFormat::ImageGz, gz(&image), gz(b"not a kernel")),
        (KernelFormat::ImageBz2, bz2(&image), bz2(b"not a kernel")),
        (KernelFormat::ImageZstd, zstd(&image), zstd(b"not a kernel")),
    ];
    for (format, packed, other) in table {
        assert_eq!(load_bytes(&packed, format).unwrap(), expected, "{format:?}");
        // Behind a loader, as in a bzImage, with something like a stream in it, and followed by more.
        let around =
            [b"loader \x1f\x8b\x08 BZh \x28\xb5\x2f\xfd", other.as_slice(), &packed, b"more"].concat();
        assert_eq!(load_bytes(&around, format).unwrap(), expected, "{format:?}");
        let cut = packed.get(..packed.len() / 2).unwrap();
        assert!(matches!(load_bytes(cut, format), Err(KernelError::Format { .. })), "{format:?}");
        assert!(matches!(load_bytes(&other, format), Err(KernelError::Format { .. })), "{format:?}");
        assert!(matches!(load_bytes(&image, format), Err(KernelError::Format { .. })), "{format:?}");
        assert!(matches!(load_bytes(b"", format), Err(KernelError::Format { .. })), "{format:?}");
    }
}

#[test]
fn malformed_kernels() {
    let table = [
        (Vec::new(), "Format"),
        (b"\x7fEL".to_vec(), "Format"),
        (b"MZ is something else".to_vec(), "Format"),
        (ELF_MAGIC.to_vec(), "Load"),
        (elf(LOAD, LOAD, b"code").get(..119).unwrap().to_vec(), "Load"),
        (elf(LOAD, LOAD, b"code").get(..122).unwrap().to_vec(), "Load"),
        (elf(LOAD, LOAD + 4, b"code"), "Entry"),
        (elf(LOAD, u64::MAX, b"code"), "Entry"),
        (elf(0x7000, 0x7000, b"code"), "Load"),
        (elf(64 << 20, 64 << 20, b"code"), "Load"),
        (elf(u64::MAX - 1, LOAD, b"code"), "Load"),
        (elf((64 << 20) - 4, (64 << 20) - 4, b"code"), "Layout"),
    ];
    for (number, (bytes, expected)) in table.into_iter().enumerate() {
        let (ram, layout) = guest();
        let error = load(file(&bytes).path(), KernelFormat::Elf, &ram, &layout).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{number}: {error:?}");
    }
    let (ram, layout) = guest();
    for format in [KernelFormat::Elf, KernelFormat::ImageGz] {
        let missing = load(Path::new("/nowhere"), format, &ram, &layout).unwrap_err();
        assert!(matches!(missing, KernelError::Read { .. }), "{missing:?}");
        let directory = load(Path::new("/"), format, &ram, &layout).unwrap_err();
        assert!(matches!(directory, KernelError::Read { .. }), "{directory:?}");
    }
}

#[test]
fn ram_disks() {
    let (ram, layout) = guest();
    let kernel = LoadedKernel { entry: LOAD, end: 32 << 20 };
    let disk = load_initrd(file(b"disk").path(), &kernel, &ram, &layout).unwrap();
    assert_eq!(disk, Initrd { addr: (64 << 20) - 0x1000, len: 4 });
    let mut bytes = [0; 4];
    ram.read_slice(&mut bytes, GuestAddress(disk.addr)).unwrap();
    assert_eq!(&bytes, b"disk");

    let full = LoadedKernel { end: (64 << 20) - 1, ..kernel };
    let error = load_initrd(file(b"disk").path(), &full, &ram, &layout).unwrap_err();
    assert!(matches!(error, KernelError::Layout(_)), "{error:?}");
    assert!(load_initrd(file(b"").path(), &kernel, &ram, &layout).is_err());
    assert!(load_initrd(Path::new("/nowhere"), &kernel, &ram, &layout).is_err());
}
