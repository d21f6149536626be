//! Entries that exist only in memory and shadow the host's. Pure.

use std::borrow::Cow;
use std::collections::HashMap;

use thiserror::Error;

use super::names::NAME_MAX;

/// A file or directory that exists only in memory.
///
/// It shadows a host entry of the same name, is found by name but not listed, and is read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayEntry {
    /// Path from the root of the share, components separated by `/`; one leading `/` is ignored. Parents
    /// must be overlay directories that come earlier.
    pub path: String,
    /// Permission bits; other bits are ignored.
    pub mode: u32,
    /// File or directory.
    pub kind: OverlayKind,
}

/// What an [`OverlayEntry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlayKind {
    /// An empty directory, to put further entries in.
    Dir,
    /// A file.
    File {
        /// Its contents.
        data: Cow<'static, [u8]>,
        /// The name is gone after it was looked up once; who found it can still read it.
        one_shot: bool,
    },
}

/// An overlay entry cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The last component is empty, `.`, `..`, longer than 255 bytes or holds a NUL.
    #[error("overlay path {path:?} does not end in a file name")]
    Name {
        /// Path given.
        path: String,
    },
    /// A parent is not an overlay entry added before.
    #[error("overlay path {path:?}: parent {parent:?} was not added before")]
    NoParent {
        /// Path given.
        path: String,
        /// The component that is missing.
        parent: String,
    },
    /// A parent is a file.
    #[error("overlay path {path:?}: parent {parent:?} is a file")]
    NotADirectory {
        /// Path given.
        path: String,
        /// The component that is a file.
        parent: String,
    },
}

/// Number of an entry in its tree.
pub(super) type OverlayId = u32;

#[derive(Debug, Default)]
pub(super) struct OverlayTree {
    entries: Vec<OverlayEntry>,
    // The root of the share is `None`.
    names: HashMap<(Option<OverlayId>, Box<[u8]>), OverlayId>,
}

impl OverlayTree {
    /// Adds entries in order; the same path again replaces the earlier entry.
    pub fn new(entries: Vec<OverlayEntry>) -> Result<Self, OverlayError> {
        let mut tree = OverlayTree::default();
        for entry in entries {
            tree.add(entry)?;
        }
        Ok(tree)
    }

    fn add(&mut self, entry: OverlayEntry) -> Result<(), OverlayError> {
        let path = entry.path.strip_prefix('/').unwrap_or(&entry.path);
        let (parents, name) = path.rsplit_once('/').map_or((None, path), |(p, n)| (Some(p), n));
        if matches!(name, "" | "." | "..") || name.len() > NAME_MAX || name.contains('\0') {
            return Err(OverlayError::Name { path: entry.path });
        }
        let mut dir = None;
        for part in parents.into_iter().flat_map(|p| p.split('/')) {
            let found = self.find(dir, part.as_bytes());
            let (path, parent) = (entry.path.clone(), part.to_owned());
            match found.and_then(|id| self.get(id).map(|e| (id, &e.kind))) {
                None => return Err(OverlayError::NoParent { path, parent }),
                Some((_, OverlayKind::File { .. })) => {
                    return Err(OverlayError::NotADirectory { path, parent });
                }
                Some((id, OverlayKind::Dir)) => dir = Some(id),
            }
        }
        let key = (dir, name.as_bytes().into());
        // A tree of 2^32 entries does not fit into memory.
        let id = OverlayId::try_from(self.entries.len()).unwrap_or(OverlayId::MAX);
        self.names.insert(key, id);
        self.entries.push(entry);
        Ok(())
    }

    /// The entry of this name in `dir` (`None`: the root of the share).
    pub fn find(&self, dir: Option<OverlayId>, name: &[u8]) -> Option<OverlayId> {
        if self.entries.is_empty() {
            return None;
        }
        self.names.get(&(dir, name.into())).copied()
    }

    pub fn get(&self, id: OverlayId) -> Option<&OverlayEntry> {
        self.entries.get(id as usize)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> OverlayEntry {
        let kind = OverlayKind::File { data: Cow::Borrowed(b"x"), one_shot: false };
        OverlayEntry { path: path.into(), mode: 0o644, kind }
    }

    fn dir(path: &str) -> OverlayEntry {
        OverlayEntry { path: path.into(), mode: 0o755, kind: OverlayKind::Dir }
    }

    #[test]
    fn paths() {
        let long = "n".repeat(256);
        let table = [
            (vec![file("/init.krun")], true),
            (vec![file("init.krun")], true),
            (vec![dir("a"), file("/a/b")], true),
            (vec![dir("/a"), dir("a/b"), file("a/b/c")], true),
            (vec![file("a/b")], false),
            (vec![file("a"), file("a/b")], false),
            (vec![dir("a"), file("a//b")], false),
            (vec![file("")], false),
            (vec![file("/")], false),
            (vec![file("a/")], false),
            (vec![file("..")], false),
            (vec![file(&long)], false),
            (vec![file("//a")], false),
        ];
        for (entries, ok) in table {
            let what = format!("{:?}", entries.iter().map(|e| &e.path).collect::<Vec<_>>());
            assert_eq!(OverlayTree::new(entries).is_ok(), ok, "{what}");
        }
    }

    #[test]
    fn the_later_entry_wins() {
        let tree = OverlayTree::new(vec![dir("a"), file("a")]).unwrap();
        let id = tree.find(None, b"a").unwrap();
        assert!(matches!(tree.get(id).unwrap().kind, OverlayKind::File { .. }));
        assert_eq!(tree.find(None, b"b"), None);
        assert_eq!(tree.find(Some(id), b"a"), None);
    }
}
