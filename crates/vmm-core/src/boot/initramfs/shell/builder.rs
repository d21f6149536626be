//! Describes an archive and makes it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::super::tree::{Content, Kind, Tree};
use super::super::{InitramfsError, MAX_UNPACKED, SENTINEL, closure, cpio, lz4};
use super::archive::{Base, BaseOrigin, Initramfs, Part, pack_suffix};
use super::cache::{BaseCache, Published};
use super::host::{HostFiles, read_file};
use super::object::Key;

/// Mode of programs and libraries.
const EXECUTABLE: u32 = 0o755;
/// What the key of a base starts from; changes whenever equal entries would make other bytes.
const KEY_DOMAIN: &[u8] = b"purlin initramfs base 1\0";

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// LZ4 legacy streams. The kernel must have `CONFIG_RD_LZ4`, or it finds no init.
    #[default]
    Lz4,
    /// As it is, for any kernel that takes an initial RAM disk.
    None,
}

#[derive(Debug, Clone)]
enum Item {
    Entry { path: String, mode: u32, kind: Kind },
    HostFile { path: String, mode: Option<u32>, host: PathBuf },
    Program { path: String, host: PathBuf },
}

/// Describes an initial RAM disk.
///
/// Every method takes a value as given; [`InitramfsBuilder::build`] checks all of them. Paths are absolute paths of the
/// guest; missing parent directories are made. Everything belongs to root.
#[derive(Debug, Clone)]
pub struct InitramfsBuilder {
    items: Vec<Item>,
    run: Vec<Item>,
    library_dirs: Vec<String>,
    compression: Compression,
    cache: Option<BaseCache>,
}

impl Default for InitramfsBuilder {
    fn default() -> Self {
        InitramfsBuilder {
            items: Vec::new(),
            run: Vec::new(),
            library_dirs: Vec::new(),
            compression: Compression::default(),
            cache: Some(BaseCache::default()),
        }
    }
}

impl InitramfsBuilder {
    /// Nothing but a [`SENTINEL`]; LZ4; bases in POSIX shared memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A program of the host as `/init`, which the kernel starts, and its libraries.
    pub fn init(self, host: impl Into<PathBuf>) -> Self {
        self.program("/init", host)
    }

    /// A program of the host, executable, and the shared libraries that it and they need. Those that a program opens
    /// by name while it runs are not known here: add them as programs of their own.
    pub fn program(mut self, path: impl Into<String>, host: impl Into<PathBuf>) -> Self {
        self.items.push(Item::Program { path: path.into(), host: host.into() });
        self
    }

    /// A file of the host, with this mode or its own.
    pub fn file(mut self, path: impl Into<String>, mode: Option<u32>, host: impl Into<PathBuf>) -> Self {
        self.items.push(Item::HostFile { path: path.into(), mode, host: host.into() });
        self
    }

    /// A file of this content.
    pub fn content(self, path: impl Into<String>, mode: u32, content: impl Into<Content>) -> Self {
        self.entry(path.into(), mode, Kind::File(content.into()))
    }

    /// A directory.
    pub fn directory(self, path: impl Into<String>, mode: u32) -> Self {
        self.entry(path.into(), mode, Kind::Directory)
    }

    /// A symbolic link. Nothing can be put below it: Linux would follow it before its target exists.
    pub fn symlink(self, path: impl Into<String>, target: impl Into<String>) -> Self {
        self.entry(path.into(), 0o777, Kind::Symlink(target.into()))
    }

    /// A character device. Linux brings `/dev/console` itself.
    pub fn char_device(self, path: impl Into<String>, mode: u32, major: u32, minor: u32) -> Self {
        self.entry(path.into(), mode, Kind::CharDevice { major, minor })
    }

    fn entry(mut self, path: String, mode: u32, kind: Kind) -> Self {
        self.items.push(Item::Entry { path, mode, kind });
        self
    }

    /// A file that only this run has. It goes behind the base, which stays the same for all runs.
    pub fn per_run(mut self, path: impl Into<String>, mode: u32, content: impl Into<Content>) -> Self {
        self.run.push(Item::Entry { path: path.into(), mode, kind: Kind::File(content.into()) });
        self
    }

    /// Another directory of the host to search for libraries, after those that loaders search by default and before those
    /// of `/etc/ld.so.conf`.
    pub fn library_directory(mut self, host: impl Into<String>) -> Self {
        self.library_dirs.push(host.into());
        self
    }

    /// How the archive is packed. Default [`Compression::Lz4`].
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Where bases are kept, or `None` to make and copy one each time. Default [`BaseCache::shared_memory`].
    pub fn cache(mut self, cache: impl Into<Option<BaseCache>>) -> Self {
        self.cache = cache.into();
        self
    }

    /// Reads the files and makes the archive, or finds its base made before. Blocks for files and compression.
    ///
    /// A cache that cannot be used is no error: the base is then in this process's memory.
    ///
    /// # Errors
    ///
    /// [`InitramfsError`].
    pub fn build(&self) -> Result<Initramfs, InitramfsError> {
        let (tree, mut parts) = self.tree()?;
        let unpacked = cpio::entries_len(&tree);
        if unpacked > MAX_UNPACKED {
            return Err(InitramfsError::TooLarge { bytes: unpacked, limit: MAX_UNPACKED });
        }
        let key = self.key(&tree)?;
        let base = self.base(&tree, &key, unpacked)?;
        let mut run = Tree::default();
        for item in &self.run {
            if let Item::Entry { path, mode, kind } = item {
                run.add(path, *mode, kind.clone())?;
                parts.push(Part::new(path, kind.data().len() as u64, "this run"));
            }
        }
        let below = outline(&tree)?;
        let suffix = pack_suffix(run, &below, unpacked, self.compression, &key)?;
        Ok(Initramfs::new(base, below, unpacked, suffix, self.compression, key, parts))
    }

    /// All entries of the base, and what each came from.
    fn tree(&self) -> Result<(Tree, Vec<Part>), InitramfsError> {
        let mut dirs = self.library_dirs.clone();
        dirs.extend(HostFiles::configured_directories());
        let (mut tree, mut parts) = (Tree::default(), Vec::new());
        for item in &self.items {
            match item {
                Item::Entry { path, mode, kind } => {
                    tree.add(path, *mode, kind.clone())?;
                    parts.push(Part::new(path, kind.data().len() as u64, "given"));
                }
                Item::HostFile { path, mode, host } => {
                    let (bytes, own_mode) = read_file(host).map_err(|e| unreadable(host, path, e))?;
                    parts.push(Part::new(path, bytes.len() as u64, host.display()));
                    tree.add(path, mode.unwrap_or(own_mode), Kind::File(bytes.into()))?;
                }
                Item::Program { path, host } => {
                    let (bytes, _) = read_file(host).map_err(|e| unreadable(host, path, e))?;
                    let content = Content::from(bytes);
                    // Its own directory counts, not that of a link to it.
                    let real = std::fs::canonicalize(host).map_err(|e| unreadable(host, path, e))?;
                    let libraries =
                        closure::libraries(&HostFiles, &dirs, &real.to_string_lossy(), path, &content)
                            .map_err(|source| InitramfsError::Libraries { guest: path.clone(), source })?;
                    parts.push(Part::new(path, content.bytes().len() as u64, host.display()));
                    tree.add(path, EXECUTABLE, Kind::File(content))?;
                    for library in libraries {
                        if tree.get(&library.guest).is_none() {
                            let len = library.content.bytes().len() as u64;
                            parts.push(Part::new(&library.guest, len, &library.host));
                        }
                        tree.add(&library.guest, EXECUTABLE, Kind::File(library.content))?;
                    }
                }
            }
        }
        if let Some(node) = tree.get(SENTINEL) {
            let path = SENTINEL.to_owned();
            let added = "sentinel";
            let existing = if matches!(node.kind, Kind::Directory) { "directory" } else { "file" };
            return Err(super::super::tree::TreeError::Conflict { path, existing, added }.into());
        }
        Ok((tree, parts))
    }

    fn key(&self, tree: &Tree) -> Result<Key, InitramfsError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(KEY_DOMAIN);
        hasher.update(&[match self.compression {
            Compression::Lz4 => 1,
            Compression::None => 0,
        }]);
        // The archive's own bytes: whatever is in it is in the key.
        cpio::write_entries(tree, &mut hasher).map_err(InitramfsError::Write)?;
        Ok(Key::new(*hasher.finalize().as_bytes()))
    }

    fn base(&self, tree: &Tree, key: &Key, unpacked: u64) -> Result<(Base, BaseOrigin), InitramfsError> {
        let Some(cache) = self.cache.as_ref().filter(|_| !tree.is_empty()) else {
            return Ok((Base::own(pack_entries(tree, self.compression)?), BaseOrigin::Made));
        };
        match cache.find(key, self.compression, unpacked) {
            Ok(base) => return Ok((Base::shared(base), BaseOrigin::Found)),
            Err(miss) => log::debug!("initramfs cache: {key} is made anew: {miss}"),
        }
        let packed = pack_entries(tree, self.compression)?;
        match cache.publish(key, self.compression, &packed, unpacked) {
            Ok(Published::Done(base)) => return Ok((Base::shared(base), BaseOrigin::Published)),
            Ok(Published::Busy) => log::debug!("initramfs cache: {key} is being written by another"),
            Err(e) => log::info!("initramfs cache: {e}; the base stays in this process"),
        }
        Ok((Base::own(packed), BaseOrigin::Made))
    }
}

fn unreadable(host: &Path, guest: &str, source: io::Error) -> InitramfsError {
    InitramfsError::Read { host: host.to_owned(), guest: guest.to_owned(), source }
}

fn pack_entries(tree: &Tree, compression: Compression) -> Result<Vec<u8>, InitramfsError> {
    pack(compression, |out| cpio::write_entries(tree, out).map(drop)).map_err(InitramfsError::Write)
}

/// What `write` writes, packed.
pub(super) fn pack(
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => {
            let mut bytes = Vec::new();
            write(&mut bytes)?;
            Ok(bytes)
        }
        Compression::Lz4 => {
            let mut encoder = lz4::Encoder::new(Vec::new())?;
            write(&mut encoder)?;
            encoder.finish()
        }
    }
}

/// The tree with empty files: what is where, without the content.
fn outline(tree: &Tree) -> Result<Tree, InitramfsError> {
    let mut outline = Tree::default();
    for (path, node) in tree.iter() {
        let kind = match &node.kind {
            Kind::File(_) => Kind::File(Vec::new().into()),
            other => other.clone(),
        };
        outline.add(&format!("/{path}"), node.mode, kind)?;
    }
    Ok(outline)
}
