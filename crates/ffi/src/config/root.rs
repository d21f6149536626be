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
    /// Where our init mounts it.
    pub(crate) mount: Option<String>,
    pub(crate) dax_window: u64,
    /// Gets our init if it is a root and the machine has one.
    pub(crate) implicit_init: bool,
}

impl Share {
    /// The directory `path` under `tag` (1 to 36 bytes), readable and writable. Locks on its files exclude processes of
    /// the guest from each other, and nobody outside of it.
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
            mount: None,
            dax_window: 0,
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

    /// Gives the guest a window of so many bytes (rounded up to 2 MiB; 0, the default, for none) through which it
    /// reaches the host's pages without requests, if it mounts the share with `dax`. The window costs 16 KiB of
    /// the guest's RAM per MiB.
    pub fn dax_window(mut self, bytes: u64) -> Self {
        self.dax_window = bytes;
        self
    }

    /// Adds a file or directory that exists only in memory and hides a host entry of the same name.
    pub fn overlay(mut self, entry: OverlayEntry) -> Self {
        self.overlay.push(entry);
        self
    }

    /// Lets our init mount it at this place of the guest, an absolute path, before the workload starts. The place
    /// is made if it is missing. A mount that fails is named on the console, and the boot goes on.
    pub fn mount_at(mut self, path: impl Into<String>) -> Self {
        self.mount = Some(path.into());
        self
    }

    /// How our init is told of the mount: `tag:path[:ro]`.
    pub(crate) fn mount_word(&self) -> Option<String> {
        let end = if self.read_only { ":ro" } else { "" };
        self.mount.as_ref().map(|path| format!("{}:{path}{end}", self.tag))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.tag == ROOT_TAG
    }

    /// What errors call this share.
    pub(crate) fn field(&self) -> String {
        if self.is_root() { "root".to_owned() } else { format!("share {:?}", self.tag) }
    }

    fn bad_mount(&self, why: &str) -> ConfigError {
        let place = self.mount.as_deref().unwrap_or_default();
        let remedy =
            format!("{why}: mount at an absolute path, without colons and commas in it or in the tag");
        ConfigError::field("share", format!("{:?}: {place:?}", self.tag), remedy)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(word) = self.mount_word() {
            purlin_init::mounts::share(word.as_bytes()).map_err(|why| self.bad_mount(why))?;
            if word.contains(',') {
                return Err(self.bad_mount("a comma"));
            }
        }
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
