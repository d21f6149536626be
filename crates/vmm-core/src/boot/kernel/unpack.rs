//! Compressed kernels. Pure but for memory: no more than a limit is unpacked.

use std::io::{self, Read};

use super::detect::ELF_MAGIC;

/// The first bytes of each format (Linux `scripts/Makefile.lib` names the programs; LZ4 is its "legacy" frame).
const MAGICS: [(Compression, &[u8]); 5] = [
    (Compression::Gzip, b"\x1f\x8b\x08"),
    (Compression::Bzip2, b"BZh"),
    (Compression::Xz, b"\xfd7zXZ\0"),
    (Compression::Lz4, b"\x02\x21\x4c\x18"),
    (Compression::Zstd, b"\x28\xb5\x2f\xfd"),
];
/// Bytes that begin a compressed stream also occur elsewhere; more often than this, per format, is something else.
const MAX_ATTEMPTS: usize = 16;

/// Most memory for an xz dictionary, in KiB. Kernels use 32 MiB or less.
const XZ_MEMORY_KIB: u32 = 128 << 10;
/// An LZ4 legacy block unpacks to at most this.
const LZ4_BLOCK: usize = 8 << 20;
/// A reserve that a length in the file may ask for at once.
const MAX_RESERVE: u64 = 256 << 20;

/// A format of compressed kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// LZ4 in its legacy frame.
    Lz4,
    /// zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// The format of a stream by its first bytes.
    pub(super) fn of(packed: &[u8]) -> Option<Self> {
        MAGICS.into_iter().find(|(_, magic)| packed.starts_with(magic)).map(|(kind, _)| kind)
    }
}

/// Unpacks a stream that must become an ELF image of at most `limit` bytes. What follows the stream is ignored.
/// `expected` is how long it may become, to be reserved.
pub(super) fn unpack(kind: Compression, packed: &[u8], limit: u64, expected: u64) -> io::Result<Vec<u8>> {
    match kind {
        Compression::Gzip => drain(flate2::read::GzDecoder::new(packed), limit, expected),
        Compression::Bzip2 => drain(bzip2::read::BzDecoder::new(packed), limit, expected),
        Compression::Xz => {
            let reader = lzma_rust2::XzReader::new_mem_limit(packed, false, XZ_MEMORY_KIB);
            drain(reader, limit, expected)
        }
        Compression::Zstd => {
            let reader = ruzstd::decoding::StreamingDecoder::new(packed);
            drain(reader.map_err(|e| invalid(e.to_string()))?, limit, expected)
        }
        Compression::Lz4 => lz4(packed, limit, expected),
    }
}

/// The first ELF image that a compressed stream somewhere in `bytes` unpacks to.
pub(super) fn search(bytes: &[u8], limit: u64) -> Option<Vec<u8>> {
    MAGICS.into_iter().find_map(|(kind, magic)| {
        let starts = memchr::memmem::find_iter(bytes, magic).take(MAX_ATTEMPTS);
        starts.filter_map(|start| bytes.get(start..)).find_map(|packed| unpack(kind, packed, limit, 0).ok())
    })
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn reserved(expected: u64) -> Vec<u8> {
    Vec::with_capacity(expected.min(MAX_RESERVE) as usize)
}

/// Gives up at once on what is no ELF image.
fn check_magic(image: &[u8]) -> io::Result<()> {
    if image.starts_with(ELF_MAGIC) { Ok(()) } else { Err(invalid("it is no ELF image")) }
}

/// Everything, if it is no more than `limit`.
fn drain(mut stream: impl Read, limit: u64, expected: u64) -> io::Result<Vec<u8>> {
    let mut magic = [0; ELF_MAGIC.len()];
    stream.read_exact(&mut magic)?;
    check_magic(&magic)?;
    let mut image = reserved(expected);
    image.extend(magic);
    // One byte more than there may be tells that there is more.
    stream.take(limit.saturating_sub(magic.len() as u64).saturating_add(1)).read_to_end(&mut image)?;
    within(image, limit)
}

fn within(image: Vec<u8>, limit: u64) -> io::Result<Vec<u8>> {
    if image.len() as u64 > limit {
        return Err(invalid(format!("it becomes longer than {limit} bytes")));
    }
    Ok(image)
}

/// Blocks of a 32-bit length and that many bytes, each of 8 MiB but for the last (Linux `lib/decompress_unlz4.c`).
fn lz4(packed: &[u8], limit: u64, expected: u64) -> io::Result<Vec<u8>> {
    let mut rest = packed.get(4..).unwrap_or_default();
    let mut image = reserved(expected);
    let mut block = vec![0; LZ4_BLOCK];
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((bytes, behind)) = (length > 0).then(|| behind.split_at_checked(length)).flatten() else {
            break;
        };
        let unpacked = match lz4_flex::block::decompress_into(bytes, &mut block) {
            Ok(unpacked) => unpacked,
            Err(e) => return Err(invalid(e.to_string())),
        };
        image.extend_from_slice(block.get(..unpacked).unwrap_or_default());
        check_magic(&image)?;
        if image.len() as u64 > limit || unpacked < LZ4_BLOCK {
            break;
        }
        rest = behind;
    }
    check_magic(&image)?;
    within(image, limit)
}
