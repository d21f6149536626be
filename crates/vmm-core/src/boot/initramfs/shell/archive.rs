//! A finished initial RAM disk.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use super::super::tree::{Content, Kind, Tree};
use super::super::{InitramfsError, MAX_UNPACKED, SENTINEL, cpio};
use super::builder::{Compression, pack};
use super::object::{CachedBase, Key};

/// Where the bytes of a base are.
#[derive(Clone)]
pub(super) enum Base {
    Shared(Arc<CachedBase>),
    Own(Arc<Vec<u8>>),
}

impl Base {
    pub fn shared(base: CachedBase) -> Self {
        Base::Shared(Arc::new(base))
    }

    pub fn own(bytes: Vec<u8>) -> Self {
        Base::Own(Arc::new(bytes))
    }

    pub fn len(&self) -> u64 {
        match self {
            Base::Shared(base) => base.base_len(),
            Base::Own(bytes) => bytes.len() as u64,
        }
    }
}

/// How a base came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaseOrigin {
    /// It was in shared memory.
    Found,
    /// It was made, and is in shared memory now.
    Published,
    /// It was made, and is in this process only.
    Made,
}

/// Sizes of an archive in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// All of it, unpacked.
    pub unpacked: u64,
    /// The base, packed.
    pub base: u64,
    /// The suffix, packed.
    pub suffix: u64,
}

impl Sizes {
    /// What goes into guest RAM.
    pub fn packed(&self) -> u64 {
        self.base.saturating_add(self.suffix)
    }
}

/// A file of an archive, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its path in the guest.
    pub path: String,
    /// Its size in bytes.
    pub len: u64,
    /// What it came from.
    pub from: String,
}

impl Part {
    pub(super) fn new(path: &str, len: u64, from: impl fmt::Display) -> Self {
        Part { path: path.to_owned(), len, from: from.to_string() }
    }
}

/// An initial RAM disk, ready to be put into the RAM of any number of machines. Cheap to clone.
#[derive(Clone)]
pub struct Initramfs {
    pub(super) base: Base,
    origin: BaseOrigin,
    /// What is where in the base.
    outline: Arc<Tree>,
    /// Length of the base, unpacked.
    unpacked_base: u64,
    pub(super) suffix: Arc<Suffix>,
    pub(super) compression: Compression,
    key: Key,
    parts: Arc<Vec<Part>>,
}

/// The end of an archive.
pub(super) struct Suffix {
    pub bytes: Vec<u8>,
    unpacked: u64,
}

impl Initramfs {
    pub(super) fn new(
        (base, origin): (Base, BaseOrigin),
        outline: Tree,
        unpacked_base: u64,
        suffix: Suffix,
        compression: Compression,
        key: Key,
        parts: Vec<Part>,
    ) -> Self {
        Initramfs {
            base,
            origin,
            outline: Arc::new(outline),
            unpacked_base,
            suffix: Arc::new(suffix),
            compression,
            key,
            parts: Arc::new(parts),
        }
    }

    /// The same base with other files of a run, all with mode 0644.
    ///
    /// # Errors
    ///
    /// [`InitramfsError`] if a path is impossible or taken.
    pub fn for_run<P: AsRef<str>, C: Into<Content>>(
        &self,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> Result<Self, InitramfsError> {
        let mut run = Tree::default();
        for (path, content) in files {
            run.add(path.as_ref(), 0o644, Kind::File(content.into()))?;
        }
        let suffix = pack_suffix(run, &self.outline, self.unpacked_base, self.compression, &self.key)?;
        Ok(Initramfs { suffix: Arc::new(suffix), ..self.clone() })
    }

    /// How large it is.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            unpacked: self.unpacked_base.saturating_add(self.suffix.unpacked),
            base: self.base.len(),
            suffix: self.suffix.bytes.len() as u64,
        }
    }

    /// Writes the archive, as it goes into guest RAM, for instance to a file for another VMM.
    ///
    /// # Errors
    ///
    /// Those of `out`, or the base in shared memory cannot be read.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.base {
            Base::Own(bytes) => out.write_all(bytes)?,
            Base::Shared(base) => {
                let mut done = 0;
                while let Some(piece) = base.read_piece(done)? {
                    out.write_all(&piece)?;
                    done = done.saturating_add(piece.len() as u64);
                }
            }
        }
        out.write_all(&self.suffix.bytes)
    }

    /// How its base came to be.
    pub fn base_origin(&self) -> BaseOrigin {
        self.origin
    }

    /// How it is packed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// What its base is known by.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The files that were asked for and the libraries that were found, in the order they were added.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl fmt::Debug for Initramfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initramfs")
            .field("key", &self.key)
            .field("sizes", &self.sizes())
            .finish_non_exhaustive()
    }
}

/// The files of a run on top of a base of `below`, the sentinel and the end, packed.
pub(super) fn pack_suffix(
    run: Tree,
    below: &Tree,
    unpacked_base: u64,
    compression: Compression,
    key: &Key,
) -> Result<Suffix, InitramfsError> {
    let run = run.on_top_of(below)?;
    // A tree of its own: whatever its name, it comes last.
    let mut sentinel = Tree::default();
    sentinel.add(SENTINEL, 0o444, Kind::File(format!("{key}\n").into()))?;
    sentinel = sentinel.on_top_of(&run)?;
    let entries = cpio::entries_len(&run).saturating_add(cpio::entries_len(&sentinel));
    let before_end = unpacked_base.saturating_add(entries);
    let bytes = before_end.saturating_add(cpio::end_len(before_end));
    if bytes > MAX_UNPACKED {
        return Err(InitramfsError::TooLarge { bytes, limit: MAX_UNPACKED });
    }
    let packed = pack(compression, |out| {
        cpio::write_entries(&run, out)?;
        cpio::write_entries(&sentinel, out)?;
        cpio::write_end(before_end, out).map(drop)
    });
    let bytes_of_suffix = bytes.saturating_sub(unpacked_base);
    Ok(Suffix { bytes: packed.map_err(InitramfsError::Write)?, unpacked: bytes_of_suffix })
}
