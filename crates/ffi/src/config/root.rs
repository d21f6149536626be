//! Directories the guest sees.

use std::path::PathBuf;

use purlin_devices::virtio::fs::{OverlayEntry, Semantics};

use super::ConfigError;

/// The tag under which a kernel without `root=` looks for its root.
pub(crate) const ROOT_TAG: &str = "/dev/root";

/// A host directory shared with the guest through virtio-fs.
#[derive(Debug, Clone)]
pub struct Share {
    pub(crate) tag: String,
    pub(crate) path: Option<PathBuf>,
    pub(crate) read_only: bool,
    pub(crate) semantics: Semantics,
    pub(crate) overlay: Vec<OverlayEntry>,
    /// Gets our init if it is a root and the machine has one.
    pub(crate) implicit_init: bool,
}

impl Share {
    /// The directory `path` under `tag` (1 to 36 bytes), readable and writable.
    pub fn new(tag: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::with_source(tag, Some(path.into()))
    }

    /// A read-only share without a host directory, for overlay entries alone.
    pub fn empty(tag: impl Into<String>) -> Self {
        Self::with_source(tag, None)
    }

    fn with_source(tag: impl Into<String>, path: Option<PathBuf>) -> Self {
        Share {
            tag: tag.into(),
            path,
            read_only: false,
            semantics: Semantics::default(),
            overlay: Vec::new(),
            implicit_init: true,
        }
    }

    /// Refuses everything that would change the host directory.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// How long the guest may cache names and attributes.
    pub fn semantics(mut self, semantics: Semantics) -> Self {
        self.semantics = semantics;
        self
    }

    /// Adds a file or directory that exists only in memory and hides a host entry of the same name.
    pub fn overlay(mut self, entry: OverlayEntry) -> Self {
        self.overlay.push(entry);
        self
    }

    pub(crate) fn is_root(&self) -> bool {
        self.tag == ROOT_TAG
    }

    /// What errors call this share.
    pub(crate) fn field(&self) -> String {
        if self.is_root() { "root".to_owned() } else { format!("share {:?}", self.tag) }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.path {
            Some(path) if path.as_os_str().is_empty() => {
                Err(ConfigError::field("share", format!("{:?}: \"\"", self.tag), "name a directory"))
            }
            _ => Ok(()),
        }
    }
}

/// The guest's root file system.
#[derive(Debug, Clone)]
pub struct Root(pub(crate) Share);

impl Root {
    /// A host directory.
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Root(Share::new(ROOT_TAG, path))
    }

    /// Refuses everything that would change the host directory.
    pub fn read_only(self) -> Self {
        Root(self.0.read_only())
    }
}
