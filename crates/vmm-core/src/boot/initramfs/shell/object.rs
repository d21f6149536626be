//! A base in shared memory: how the object is laid out, and what makes one good.
//!
//! ```text
//! 0                 the base, as it goes into guest RAM
//! len               zeros up to a page boundary
//! len, rounded up   footer: magic, version, length, unpacked length; 32 bytes
//! ```
//!
//! Only the pages before the footer are ever mapped.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::super::lz4;
use super::builder::Compression;
use super::cache::Miss;
use crate::memory::layout::PAGE_SIZE;
use crate::memory::overlay::OverlaySource;

pub(super) const FOOTER_LEN: usize = 32;
const FOOTER_MAGIC: [u8; 8] = *b"PURLININ";
const FOOTER_VERSION: u64 = 1;
/// Bytes read at a time where a base is copied.
const PIECE: u64 = 1 << 20;

/// Names a base by everything that is in it: every path, mode and byte, and how it is packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    pub(super) fn new(hash: [u8; 32]) -> Self {
        Key(hash)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The first bytes of a packed base.
pub(super) fn magic(compression: Compression) -> [u8; 4] {
    match compression {
        Compression::Lz4 => lz4::MAGIC,
        Compression::None => *b"0707",
    }
}

/// The padding and footer behind a base of `len` bytes.
pub(super) fn tail(len: u64, unpacked: u64) -> Vec<u8> {
    let padding = len.next_multiple_of(PAGE_SIZE).saturating_sub(len);
    let mut tail = vec![0; usize::try_from(padding).unwrap_or(0)];
    tail.extend(FOOTER_MAGIC);
    tail.extend([FOOTER_VERSION, len, unpacked].into_iter().flat_map(u64::to_le_bytes));
    tail
}

/// A base in shared memory, with a shared lock on it: as long as this value lives, nobody who keeps to the locks
/// changes the object.
#[derive(Debug)]
pub struct CachedBase {
    file: File,
    len: u64,
    unpacked: u64,
    magic: [u8; 4],
}

impl CachedBase {
    /// Takes over an open and locked object that is to hold a base of `unpacked` bytes.
    pub(super) fn check(file: File, compression: Compression, unpacked: u64) -> Result<Self, Miss> {
        let base = CachedBase { len: footer_len(&file)?, file, unpacked, magic: magic(compression) };
        base.still_good()?;
        Ok(base)
    }

    /// Length of the base in bytes.
    pub fn base_len(&self) -> u64 {
        self.len
    }

    /// The next bytes of the base, from `offset` on; `None` at its end.
    pub(super) fn read_piece(&self, offset: u64) -> io::Result<Option<Vec<u8>>> {
        let left = self.len.saturating_sub(offset).min(PIECE);
        let mut piece = vec![0; usize::try_from(left).unwrap_or(0)];
        self.file.read_exact_at(&mut piece, offset)?;
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Looks at the object again: not empty, of the expected size, with the right first bytes.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn still_good(&self) -> Result<(), Miss> {
        let have = self.file.metadata().map_err(Miss::Io)?.len();
        if have == 0 {
            return Err(Miss::Empty);
        }
        let end = self.len.next_multiple_of(PAGE_SIZE);
        let want = end.saturating_add(FOOTER_LEN as u64);
        if have != want {
            return Err(Miss::Size { have, want });
        }
        let mut start = [0; 4];
        self.file.read_exact_at(&mut start, 0).map_err(Miss::Io)?;
        if start != self.magic {
            return Err(Miss::Magic(start));
        }
        let mut footer = [0; FOOTER_LEN];
        self.file.read_exact_at(&mut footer, end).map_err(Miss::Io)?;
        if !tail(self.len, self.unpacked).ends_with(&footer) {
            return Err(Miss::Footer);
        }
        Ok(())
    }
}

impl OverlaySource for CachedBase {
    fn file(&self) -> &File {
        &self.file
    }
}

/// The length of the base, from the footer at the end of the object.
fn footer_len(file: &File) -> Result<u64, Miss> {
    let have = file.metadata().map_err(Miss::Io)?.len();
    if have == 0 {
        return Err(Miss::Empty);
    }
    let short = Miss::Size { have, want: PAGE_SIZE + FOOTER_LEN as u64 };
    let Some(at) = have.checked_sub(FOOTER_LEN as u64) else { return Err(short) };
    let mut footer = [0; FOOTER_LEN];
    file.read_exact_at(&mut footer, at).map_err(Miss::Io)?;
    let len = footer.get(16..).and_then(|rest| rest.first_chunk::<8>()).copied();
    match len.map(u64::from_le_bytes) {
        Some(len) if footer.starts_with(&FOOTER_MAGIC) && len > 0 && len <= at => Ok(len),
        _ => Err(Miss::Footer),
    }
}
