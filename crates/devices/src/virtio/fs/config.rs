//! What a share is made from.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::overlay::{OverlayEntry, OverlayError};

/// Longest tag in bytes (virtio 1.2 §5.11.4).
pub const TAG_MAX: usize = 36;

/// Receives the exit code a guest reports with `ioctl(fd, 0x7602, code)` on any inode of a share. Called
/// on the device's thread, possibly several times; must not block.
pub type ExitCodeSink = Arc<dyn Fn(i32) + Send + Sync>;

/// Where the files of a share are.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// A host directory; opened when the device is made. The last component may be a symbolic link.
    Path(PathBuf),
    /// An open host directory (`O_PATH` is enough).
    Directory(OwnedFd),
    /// Nothing but the overlay entries; read-only.
    Virtual,
}

/// How long the guest may trust what it was told. Numbers as in libkrun's `KRUN_SEMANTICS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Semantics {
    /// Names and attributes for 5 seconds.
    #[default]
    Complete,
    /// Names for 5 seconds, attributes not at all; no idmapped mounts.
    Simplified,
}

impl Semantics {
    pub(super) fn attr_timeout(self) -> Duration {
        match self {
            Semantics::Complete => Duration::from_secs(5),
            Semantics::Simplified => Duration::ZERO,
        }
    }

    pub(super) fn entry_timeout(self) -> Duration {
        Duration::from_secs(5)
    }
}

/// Bounds on what a guest can make the host hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Inodes the guest may know at one time; beyond it gets ENOMEM. Each costs a few hundred bytes.
    pub nodes: usize,
    /// Descriptors kept to reach inodes quickly. Any number from 1 up works.
    pub cached_descriptors: usize,
    /// Open files and directories; beyond the guest gets EMFILE. The same bound holds for removed files
    /// that are kept because they are still open.
    pub handles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { nodes: 1 << 20, cached_descriptors: 4096, handles: 1 << 16 }
    }
}

/// Configuration of one virtio-fs device.
pub struct FsConfig {
    /// Name the guest mounts; 1 to [`TAG_MAX`] bytes without NUL.
    pub tag: String,
    /// Where the files are.
    pub source: Source,
    /// Refuse everything that would change the host directory (EROFS).
    pub read_only: bool,
    /// Entries that exist only in memory.
    pub overlay: Vec<OverlayEntry>,
    /// Caching in the guest.
    pub semantics: Semantics,
    /// Who is told of exit codes.
    pub exit_code: Option<ExitCodeSink>,
    /// Bounds.
    pub limits: Limits,
    /// Bytes of a window through which a guest that mounts with `dax` reaches the host's pages without requests;
    /// 0 for none. It costs a guest 16 KiB of RAM per MiB whether it uses it or not. A file that the host
    /// shortens while the guest has it mapped ends the machine, if the guest touches what is gone.
    ///
    /// A guest may have 8,192 mappings there at a time, and is told ENOSPC beyond; Linux makes them of 2 MiB, so it can
    /// use 16 GiB at once.
    pub dax_window: u64,
}

impl FsConfig {
    /// A read-write share of `source` with default semantics and limits.
    pub fn new(tag: impl Into<String>, source: Source) -> Self {
        FsConfig {
            tag: tag.into(),
            source,
            read_only: false,
            overlay: Vec::new(),
            semantics: Semantics::default(),
            exit_code: None,
            limits: Limits::default(),
            dax_window: 0,
        }
    }
}

impl std::fmt::Debug for FsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FsConfig")
            .field("tag", &self.tag)
            .field("source", &self.source)
            .field("read_only", &self.read_only)
            .field("overlay", &self.overlay.iter().map(|e| &e.path).collect::<Vec<_>>())
            .field("semantics", &self.semantics)
            .field("limits", &self.limits)
            .field("dax_window", &self.dax_window)
            .finish_non_exhaustive()
    }
}

/// A virtio-fs device cannot be made as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FsConfigError {
    /// The tag is empty, too long or holds a NUL.
    #[error("virtio-fs tag {tag:?} has {len} bytes; 1 to {TAG_MAX} without NUL are allowed")]
    Tag {
        /// Tag given.
        tag: String,
        /// Its length in bytes.
        len: usize,
    },
    /// The host directory cannot be opened.
    #[error("virtio-fs {tag:?}: directory {path:?}")]
    Source {
        /// Tag of the share.
        tag: String,
        /// Directory given.
        path: PathBuf,
        /// The host's answer: ENOENT, ENOTDIR, EACCES, ...
        #[source]
        source: io::Error,
    },
    /// An overlay entry is not usable.
    #[error("virtio-fs {tag:?}")]
    Overlay {
        /// Tag of the share.
        tag: String,
        /// What is wrong.
        #[source]
        source: OverlayError,
    },
    /// A limit is zero.
    #[error("virtio-fs {tag:?}: limit {field} must not be 0")]
    Limit {
        /// Tag of the share.
        tag: String,
        /// Field of [`Limits`].
        field: &'static str,
    },
    /// `/proc` is not there. Opened inodes are reached by `/proc/self/fd`, the only way Linux has to open a
    /// file again without trusting its name.
    #[error("virtio-fs needs /proc/self/fd")]
    Proc(#[source] io::Error),
    /// The device's thread cannot be started.
    #[error("virtio-fs {tag:?}: device thread")]
    Thread {
        /// Tag of the share.
        tag: String,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
}

impl FsConfigError {
    /// The host's answer, where there is one (for example for an errno at a C interface).
    pub fn host_error(&self) -> Option<&io::Error> {
        match self {
            FsConfigError::Source { source, .. }
            | FsConfigError::Proc(source)
            | FsConfigError::Thread { source, .. } => Some(source),
            _ => None,
        }
    }
}
