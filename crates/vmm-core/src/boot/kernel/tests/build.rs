//! Files for tests: ELF images, bzImages, compressed streams.

use std::io::{Cursor, Write};

use crate::boot::kernel::{BootMethod, Compression, ImageError, LoadedKernel, load_image};
use crate::memory::{Bytes, GuestAddress, GuestRam, MemoryLayout};

pub const LOAD: u64 = 0x100_0000;
pub const RAM: u64 = 64 << 20;

/// An ELF file: its header and program headers of (type, offset, address, file size, memory size), then `rest`, which
/// begins at [`Elf::REST`] with one program header, 56 bytes later with each more.
pub struct Elf {
    pub entry: u64,
    pub segments: Vec<(u32, u64, u64, u64, u64)>,
    pub rest: Vec<u8>,
}

impl Elf {
    pub const REST: u64 = 120;

    /// One segment of this code.
    pub fn of(load: u64, entry: u64, code: &[u8]) -> Self {
        let len = code.len() as u64;
        Elf { entry, segments: vec![(1, Self::REST, load, len, len)], rest: code.to_vec() }
    }

    /// Also with a PVH note.
    pub fn with_note(mut self, pvh: u32) -> Self {
        // System V ABI, "Note Section": name size, descriptor size, type, name, descriptor.
        let mut note = Vec::new();
        for word in [4u32, 4, 18] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"Xen\0");
        note.extend(pvh.to_le_bytes());
        let at = Self::REST + 56 + self.rest.len() as u64;
        for segment in &mut self.segments {
            segment.1 += 56;
        }
        self.segments.push((4, at, 0, 20, 20));
        self.rest.extend(note);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut image = Vec::from(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        for half in [2u16, 62] {
            image.extend(half.to_le_bytes());
        }
        image.extend(1u32.to_le_bytes());
        for word in [self.entry, 64, 0] {
            image.extend(word.to_le_bytes());
        }
        image.extend(0u32.to_le_bytes());
        for half in [64, 56, self.segments.len() as u16, 0, 0, 0] {
            image.extend(half.to_le_bytes());
        }
        for &(kind, offset, addr, file, memory) in &self.segments {
            image.extend(kind.to_le_bytes());
            image.extend(5u32.to_le_bytes());
            for word in [offset, addr, addr, file, memory, 0x1000] {
                image.extend(word.to_le_bytes());
            }
        }
        image.extend(&self.rest);
        image
    }
}

pub fn pack(kind: Compression, bytes: &[u8]) -> Vec<u8> {
    match kind {
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut out = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Lz4 => {
            let mut out = vec![2, 0x21, 0x4c, 0x18];
            for block in bytes.chunks(8 << 20) {
                let packed = lz4_flex::block::compress(block);
                out.extend((packed.len() as u32).to_le_bytes());
                out.extend(packed);
            }
            out
        }
        Compression::Zstd => {
            ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
        }
    }
}

pub const ALL: [Compression; 5] =
    [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Lz4, Compression::Zstd];

/// A bzImage of two setup sectors whose payload is `packed` and the size it unpacks to. Between setup code and payload
/// there are beginnings of all kinds of streams.
pub fn bzimage(packed: &[u8], unpacked_len: usize) -> Vec<u8> {
    const FALSE_MAGICS: &[u8] = b"\x1f\x8b\x08 BZh9 \xfd7zXZ\0 \x02\x21\x4c\x18 \x28\xb5\x2f\xfd \x7fELF";
    let mut image = vec![0; 3 * 512];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x100, FALSE_MAGICS);
    put(0x1f1, &[2]);
    put(0x1fe, &0xaa55u16.to_le_bytes());
    put(0x201, &[0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x20fu16.to_le_bytes());
    put(0x211, &[1]);
    put(0x214, &0x10_0000u32.to_le_bytes());
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x20_0000u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x248, &0x400u32.to_le_bytes());
    put(0x24c, &(packed.len() as u32 + 4).to_le_bytes());
    put(0x258, &LOAD.to_le_bytes());
    put(0x260, &0x80_0000u32.to_le_bytes());
    let mut protected = vec![0xcc; 0x400];
    protected[..FALSE_MAGICS.len()].copy_from_slice(FALSE_MAGICS);
    image.extend(protected);
    image.extend(packed);
    image.extend((unpacked_len as u32).to_le_bytes());
    image.extend(b"RSD PTR of the code that unpacks");
    image
}

pub fn load(bytes: &[u8], method: BootMethod) -> Result<(LoadedKernel, GuestRam), ImageError> {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap();
    let layout = MemoryLayout::new(RAM).unwrap();
    let kernel = load_image(Cursor::new(bytes.to_vec()), method, &ram, &layout)?;
    Ok((kernel, ram))
}

pub fn guest<const N: usize>(ram: &GuestRam, addr: u64) -> [u8; N] {
    let mut bytes = [0; N];
    ram.read_slice(&mut bytes, GuestAddress(addr)).unwrap();
    bytes
}
