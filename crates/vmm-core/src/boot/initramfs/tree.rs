//! The entries of an archive. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest path in bytes, with its NUL (Linux `PATH_MAX`, which its unpacker checks).
pub const MAX_PATH: usize = 4096;
/// Longest name of one directory entry in bytes (Linux `NAME_MAX`).
pub const MAX_NAME: usize = 255;
/// Most entries of a tree.
pub const MAX_ENTRIES: usize = 1 << 20;

/// The name that ends an archive; no entry may have it.
pub(super) const TRAILER: &[u8] = b"TRAILER!!!";

/// Bytes of a file, shared.
#[derive(Clone)]
pub struct Content(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Content {
    /// From anything that holds bytes; they are not copied.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Content(Arc::new(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::new(bytes)
    }
}

impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Self {
        Content::new(bytes)
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Content::new(text)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

/// What an entry is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link to this path.
    Symlink(String),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Kind {
    /// For messages.
    fn name(&self) -> &'static str {
        match self {
            Kind::Directory => "directory",
            Kind::File(_) => "file",
            Kind::Symlink(_) => "symbolic link",
            Kind::CharDevice { .. } => "device",
        }
    }

    /// The file type bits of `st_mode`.
    pub(super) fn type_bits(&self) -> u32 {
        match self {
            Kind::Directory => 0o040_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
            Kind::CharDevice { .. } => 0o020_000,
        }
    }

    /// What follows the header in the archive.
    pub(super) fn data(&self) -> &[u8] {
        match self {
            Kind::File(content) => content.bytes(),
            Kind::Symlink(target) => target.as_bytes(),
            Kind::Directory | Kind::CharDevice { .. } => &[],
        }
    }
}

/// An entry, which belongs to root.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Made for the sake of an entry below it; its mode is a default.
    implied: bool,
}

/// Why an entry is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A path the guest could not have.
    #[error("initramfs path {path:?} {reason}")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Mode bits that do not exist.
    #[error("initramfs path {path:?}: mode {mode:#o} has bits outside of 0o7777")]
    Mode {
        /// The path.
        path: String,
        /// The mode as given.
        mode: u32,
    },
    /// Two different things in one place.
    #[error("initramfs path {path:?} is to be a {added}, but is a {existing} already")]
    Conflict {
        /// The path.
        path: String,
        /// What was there.
        existing: &'static str,
        /// What was added.
        added: &'static str,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("the initramfs has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// Entries by their path without the leading slash. The order of the paths puts parents before what is in them.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Adds an entry and, where they are missing, the directories it is in (mode 0755).
    ///
    /// A directory may be added again, and so may a file of the same content and mode: the later directory's mode
    /// counts.
    ///
    /// # Errors
    ///
    /// [`TreeError`]; the tree may have gained directories.
    pub fn add(&mut self, path: &str, mode: u32, kind: Kind) -> Result<(), TreeError> {
        let name = normal(path)?;
        if mode > 0o7777 {
            return Err(TreeError::Mode { path: path.to_owned(), mode });
        }
        if let Kind::Symlink(target) = &kind {
            check_target(path, target)?;
        }
        for (end, _) in name.match_indices('/') {
            let parent = name.get(..end).unwrap_or_default();
            self.put(parent, Node { kind: Kind::Directory, mode: 0o755, implied: true })?;
        }
        self.put(&name, Node { kind, mode, implied: false })
    }

    fn put(&mut self, name: &str, node: Node) -> Result<(), TreeError> {
        let full = self.0.len() >= MAX_ENTRIES;
        match self.0.entry(name.to_owned()) {
            Entry::Vacant(_) if full => Err(TreeError::TooMany),
            Entry::Vacant(place) => {
                place.insert(node);
                Ok(())
            }
            Entry::Occupied(mut place) => match (&place.get().kind, &node.kind) {
                (Kind::Directory, Kind::Directory) => {
                    if !node.implied {
                        place.insert(node);
                    }
                    Ok(())
                }
                (Kind::File(old), Kind::File(new))
                    if old.bytes() == new.bytes() && place.get().mode == node.mode =>
                {
                    Ok(())
                }
                (Kind::Symlink(old), Kind::Symlink(new)) if old == new => Ok(()),
                (existing, added) => Err(TreeError::Conflict {
                    path: format!("/{name}"),
                    existing: existing.name(),
                    added: added.name(),
                }),
            },
        }
    }

    /// The entries, parents first, by paths without the leading slash.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The entry at a path, with or without its leading slash.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path.strip_prefix('/').unwrap_or(path))
    }

    /// Takes out the directories that `below` has already, and refuses what cannot be put on top of it.
    pub(super) fn on_top_of(mut self, below: &Tree) -> Result<Tree, TreeError> {
        let mut known = Vec::new();
        for (path, node) in &self.0 {
            // A node of `below` on the way to this one must be a directory.
            let parents = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
            let file_above = parents.filter_map(|parent| below.0.get_key_value(parent));
            let mut above = file_above.filter(|(_, node)| !matches!(node.kind, Kind::Directory));
            if let Some((parent, existing)) = above.next() {
                return Err(conflict(parent, existing, &Kind::Directory));
            }
            match (below.0.get(path), &node.kind) {
                (Some(existing), Kind::Directory) if matches!(existing.kind, Kind::Directory) => {
                    if node.implied {
                        known.push(path.clone());
                    }
                }
                (Some(existing), added) => return Err(conflict(path, existing, added)),
                (None, _) => {}
            }
        }
        for path in known {
            self.0.remove(&path);
        }
        Ok(self)
    }
}

fn conflict(path: &str, existing: &Node, added: &Kind) -> TreeError {
    TreeError::Conflict { path: format!("/{path}"), existing: existing.kind.name(), added: added.name() }
}

/// The path without its leading slash, if it can be a path of the guest.
pub(super) fn normal(path: &str) -> Result<String, TreeError> {
    let refused = |reason| Err(TreeError::Path { path: path.to_owned(), reason });
    let Some(name) = path.strip_prefix('/') else { return refused("does not start with /") };
    if path.len() >= MAX_PATH {
        return refused("is longer than 4095 bytes");
    }
    if path.contains('\0') {
        return refused("contains NUL");
    }
    // A directory of this name, too, would end the archive.
    if name.split('/').next().is_some_and(|first| first.as_bytes() == TRAILER) {
        return refused("is the name that ends an archive");
    }
    for part in name.split('/') {
        match part {
            "" => return refused("has an empty name in it"),
            "." | ".." => return refused("has . or .. in it"),
            long if long.len() > MAX_NAME => return refused("has a name longer than 255 bytes in it"),
            _ => {}
        }
    }
    Ok(name.to_owned())
}

fn check_target(path: &str, target: &str) -> Result<(), TreeError> {
    let fits = !target.is_empty() && target.len() < MAX_PATH && !target.contains('\0');
    let reason = "is a link to nothing, to more than 4095 bytes or to NUL";
    if fits { Ok(()) } else { Err(TreeError::Path { path: path.to_owned(), reason }) }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
