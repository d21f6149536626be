//! The LZ4 "legacy" stream, the only LZ4 form that Linux unpacks (`lib/decompress_unlz4.c`; LZ4 frame format
//! description, "Legacy frame"). Pure.
//!
//! A stream is a magic number and blocks: the compressed length as 32 bits little endian, then an LZ4 block of at
//! most 8 MiB uncompressed; every block but a stream's last is full. It has no end mark. Where a block would start
//! there may be the magic number of a further stream; a length of 0, or the end of the data, is the end.

use std::io::{self, Write};

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use thiserror::Error;

/// First bytes of a stream.
pub const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Uncompressed bytes of a full block.
pub const BLOCK: usize = 8 << 20;

/// Compresses what is written to it into one stream.
///
/// Buffers one block and its compressed form: up to 17 MiB.
pub struct Encoder<W: Write> {
    out: W,
    block: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    /// Starts a stream.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        Ok(Encoder { out, block: Vec::new(), packed: Vec::new() })
    }

    /// Writes the last block and gives the output back.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_block()?;
        Ok(self.out)
    }

    fn flush_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.packed.resize(get_maximum_output_size(self.block.len()), 0);
        let len = compress_into(&self.block, &mut self.packed).map_err(io::Error::other)?;
        self.block.clear();
        let packed = self.packed.get(..len).unwrap_or_default();
        // At most 8 MiB and a little more.
        self.out.write_all(&(len as u32).to_le_bytes())?;
        self.out.write_all(packed)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK.saturating_sub(self.block.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK {
            self.flush_block()?;
        }
        Ok(taken.len())
    }

    /// Cannot end a block early, so it does nothing.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a stream cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Lz4Error {
    /// It does not start with [`MAGIC`].
    #[error("no LZ4 legacy stream: it does not start with 02 21 4c 18")]
    Magic,
    /// A block is cut off, or claims more than a block can have.
    #[error("the LZ4 block at offset {at} is cut off or too long")]
    Block {
        /// Offset in bytes.
        at: usize,
    },
    /// A block is not LZ4, or unpacks to more than [`BLOCK`].
    #[error("the LZ4 block at offset {at} is corrupt")]
    Corrupt {
        /// Offset in bytes.
        at: usize,
    },
    /// It unpacks to more than allowed.
    #[error("the LZ4 stream unpacks to more than {limit} bytes")]
    TooLarge {
        /// The most allowed.
        limit: u64,
    },
}

/// Unpacks streams as Linux does, block by block, into `sink`. Gives the number of bytes unpacked.
///
/// # Errors
///
/// [`Lz4Error`]; `sink` may have seen some blocks.
pub fn decode(bytes: &[u8], limit: u64, mut sink: impl FnMut(&[u8])) -> Result<u64, Lz4Error> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Lz4Error::Magic);
    }
    let mut unpacked = 0u64;
    let mut block = vec![0; BLOCK.min(usize::try_from(limit).unwrap_or(BLOCK))];
    let mut at = MAGIC.len();
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        if *word == MAGIC {
            at = at.saturating_add(4);
            continue;
        }
        let len = u32::from_le_bytes(*word) as usize;
        if len == 0 {
            break;
        }
        let start = at.saturating_add(4);
        let end = start.saturating_add(len);
        let packed = bytes.get(start..end).filter(|_| len <= get_maximum_output_size(BLOCK));
        let packed = packed.ok_or(Lz4Error::Block { at })?;
        let got = match decompress_into(packed, &mut block) {
            Ok(got) => got,
            Err(_) if block.len() < BLOCK => return Err(Lz4Error::TooLarge { limit }),
            Err(_) => return Err(Lz4Error::Corrupt { at }),
        };
        unpacked = unpacked.saturating_add(got as u64);
        if unpacked > limit {
            return Err(Lz4Error::TooLarge { limit });
        }
        sink(block.get(..got).unwrap_or_default());
        at = end;
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Lz4Error> {
        let mut all = Vec::new();
        decode(bytes, 64 << 20, |block| all.extend_from_slice(block)).map(|_| all)
    }

    /// Bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut x = 0x9e37_79b9_u32;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                x as u8
            })
            .collect()
    }

    #[test]
    fn lengths_around_blocks_come_back() {
        let long = [noise(BLOCK), vec![3; BLOCK + 5]].concat();
        for len in [0, 1, 12, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, long.len()] {
            let packed = stream(&long[..len]);
            assert!(packed.starts_with(&MAGIC));
            assert!(unpacked(&packed).unwrap() == long[..len], "{len}");
        }
    }

    /// What Linux checks: a block's compressed length against LZ4's own bound.
    #[test]
    fn blocks_that_do_not_compress_are_within_the_kernels_bound() {
        let packed = stream(&noise(BLOCK));
        let len = u32::from_le_bytes(packed[4..8].try_into().unwrap()) as usize;
        assert!(len <= BLOCK + BLOCK / 255 + 16, "{len}");
    }

    #[test]
    fn streams_one_after_another_and_padding() {
        let both = [stream(b"base "), stream(b"suffix")].concat();
        assert_eq!(unpacked(&both).unwrap(), b"base suffix");
        let padded = [both.as_slice(), &[0; 9]].concat();
        assert_eq!(unpacked(&padded).unwrap(), b"base suffix");
    }

    #[test]
    fn bad_streams() {
        assert_eq!(unpacked(b""), Err(Lz4Error::Magic));
        assert_eq!(unpacked(&[4, 0x22, 0x4d, 0x18]), Err(Lz4Error::Magic), "a modern frame");
        let good = stream(&[1; 1000]);
        assert_eq!(unpacked(&good[..good.len() - 1]), Err(Lz4Error::Block { at: 4 }));
        let mut lies = good.clone();
        lies[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpacked(&lies), Err(Lz4Error::Block { at: 4 }));
        assert!(matches!(decode(&good, 999, |_| ()), Err(Lz4Error::TooLarge { limit: 999 })));
        let twice = [good.as_slice(), &good].concat();
        assert!(matches!(decode(&twice, 1999, |_| ()), Err(Lz4Error::TooLarge { limit: 1999 })));
        // An offset that points before the start of the block.
        let corrupt = [&MAGIC[..], &[4, 0, 0, 0], &[0x00, 0xff, 0xff, 0x00]].concat();
        assert_eq!(unpacked(&corrupt), Err(Lz4Error::Corrupt { at: 4 }));
    }

    /// The reference implementation reads it, where there is one.
    #[test]
    fn the_lz4_program_reads_it() {
        use std::process::{Command, Stdio};
        let Ok(mut child) =
            Command::new("lz4").args(["-dc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            eprintln!("skipped: no program `lz4`");
            return;
        };
        let text = [&b"abc".repeat(100_000)[..], &noise(100)].concat();
        let mut stdin = child.stdin.take().unwrap();
        let packed = stream(&text);
        let writer = std::thread::spawn(move || stdin.write_all(&packed).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success() && output.stdout == text);
    }
}
