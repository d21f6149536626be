//! Bases in shared memory, under names made of their content.
//!
//! # Locks
//!
//! All are `flock(2)`, none waits. Who uses an object holds a shared lock on it, taken before it is looked at and
//! kept until nothing maps it any more. Who makes one writes to a staging object under an exclusive lock and renames
//! it when it is whole, so an object under its final name is always complete; who finds the staging object locked
//! leaves it: the other writes the same bytes. Who removes one needs an exclusive lock on it.
//!
//! An object counts only if it belongs to this user and nobody else may write it. Others may still take the name
//! first, which makes every look-up a miss and nothing else.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, futimens, open, stat,
};
use thiserror::Error;

use super::builder::Compression;
use super::object::{CachedBase, Key, tail};
use crate::memory::overlay::OverlaySource;

/// Where POSIX shared memory objects lie (`shm_overview(7)`).
const SHARED_MEMORY: &str = "/dev/shm";
const PREFIX: &str = "purlin-initramfs";
const STAGING: &str = ".new";
/// Default limit of all bases together, in bytes (1 GiB).
const LIMIT: u64 = 1 << 30;

/// Why an object was not used. Not a failure: the base is made and copied instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Miss {
    /// There is none.
    #[error("there is no such object")]
    Absent,
    /// Another user's, or writable by others.
    #[error("the object belongs to user {owner} with mode {mode:o}, not to this one alone")]
    Untrusted {
        /// User that owns it.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Somebody removes it.
    #[error("the object is locked")]
    Locked,
    /// Nothing in it.
    #[error("the object is empty")]
    Empty,
    /// Of another size than its content says.
    #[error("the object has {have} bytes instead of {want}")]
    Size {
        /// Its size in bytes.
        have: u64,
        /// The size it should have.
        want: u64,
    },
    /// Its first bytes are not those of an archive.
    #[error("the object starts with {0:02x?}")]
    Magic([u8; 4]),
    /// Its footer does not belong to it.
    #[error("the object's footer does not fit it")]
    Footer,
    /// The operating system refused.
    #[error("the object cannot be used")]
    Io(#[source] io::Error),
}

/// Why a base was not put into shared memory. The machine works without.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The staging object belongs to somebody else.
    #[error("{} belongs to another user", path.display())]
    Untrusted {
        /// The object.
        path: PathBuf,
    },
    /// More than the cache may hold.
    #[error("a base of {bytes} bytes is more than the limit of {limit} bytes")]
    TooLarge {
        /// Size in bytes.
        bytes: u64,
        /// The most that all bases together may have.
        limit: u64,
    },
    /// The operating system refused: most likely the file system is full.
    #[error("{} cannot be written", path.display())]
    Io {
        /// The object.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// What became of an attempt to publish a base.
#[derive(Debug)]
pub enum Published {
    /// It is there, and in use by the caller.
    Done(CachedBase),
    /// Another writer is at it.
    Busy,
}

/// A place for bases: a directory in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCache {
    dir: PathBuf,
    limit: u64,
}

impl Default for BaseCache {
    fn default() -> Self {
        Self::shared_memory()
    }
}

impl BaseCache {
    /// POSIX shared memory, at most 1 GiB of it. What is in it stays until the host restarts, is removed to make room
    /// for newer bases, or by [`BaseCache::trim`].
    pub fn shared_memory() -> Self {
        Self::directory(SHARED_MEMORY)
    }

    /// Another directory, which should be in memory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        BaseCache { dir: path.into(), limit: LIMIT }
    }

    /// Most bytes of all bases together.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{}{key}", prefix()))
    }

    /// The base of this key, locked; it unpacks to `unpacked` bytes.
    ///
    /// # Errors
    ///
    /// Why there is none that can be used.
    pub fn find(&self, key: &Key, compression: Compression, unpacked: u64) -> Result<CachedBase, Miss> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match open(self.path(key), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Err(Miss::Absent),
            Err(e) => return Err(Miss::Io(e.into())),
        };
        let metadata = file.metadata().map_err(Miss::Io)?;
        if !is_ours(&metadata) {
            return Err(Miss::Untrusted { owner: metadata.uid(), mode: metadata.mode() & 0o7777 });
        }
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Miss::Locked),
            Err(e) => return Err(Miss::Io(e.into())),
        }
        let base = CachedBase::check(file, compression, unpacked)?;
        touch(&base);
        Ok(base)
    }

    /// Puts a base there, unless another writer is at it, and makes room by removing those not used for longest.
    ///
    /// # Errors
    ///
    /// [`CacheError`]; nothing is left behind but perhaps an incomplete staging object, which the next writer takes
    /// over.
    pub fn publish(
        &self,
        key: &Key,
        compression: Compression,
        base: &[u8],
        unpacked: u64,
    ) -> Result<Published, CacheError> {
        let bytes = base.len() as u64;
        if bytes > self.limit {
            return Err(CacheError::TooLarge { bytes, limit: self.limit });
        }
        let path = self.path(key);
        let mut staging = path.clone().into_os_string();
        staging.push(STAGING);
        let staging = PathBuf::from(staging);
        let failed = |source: io::Error| CacheError::Io { path: staging.clone(), source };
        let Some(mut file) = self.stage(&staging)? else { return Ok(Published::Busy) };
        self.trim(self.limit.saturating_sub(bytes));
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(base))
            .and_then(|()| file.write_all(&tail(bytes, unpacked)))
            // Ours from here on, in a way that lets others use it, too.
            .and_then(|()| Ok(flock(&file, FlockOperation::LockShared)?))
            .and_then(|()| fs::rename(&staging, &path));
        if let Err(source) = written {
            // Nobody else can have it: it is locked.
            let _ = fs::remove_file(&staging);
            return Err(failed(source));
        }
        let checked = CachedBase::check(file, compression, unpacked);
        checked.map(Published::Done).map_err(|miss| failed(io::Error::other(miss)))
    }

    /// The staging object, ours alone; `None` if it is somebody else's now.
    fn stage(&self, path: &Path) -> Result<Option<File>, CacheError> {
        let failed = |e: io::Error| CacheError::Io { path: path.to_owned(), source: e };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?);
        let metadata = file.metadata().map_err(failed)?;
        if !is_ours(&metadata) {
            return Err(CacheError::Untrusted { path: path.to_owned() });
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(failed(e.into())),
        }
        // Renamed by its writer between our open and our lock: then it is a finished object.
        let here = stat(path).is_ok_and(|now| now.st_ino == metadata.ino() && now.st_dev == metadata.dev());
        Ok(here.then_some(file))
    }

    /// Removes bases, those not used for longest first, until all that are left have `bytes` or less together. Those
    /// in use stay; what writers left that ended in the middle counts as a base. Best effort.
    pub fn trim(&self, bytes: u64) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let prefix = prefix();
        let mut found: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str().is_some_and(|name| name.starts_with(&prefix))
            })
            .filter_map(|entry| {
                let metadata = entry.metadata().ok().filter(is_ours)?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        found.sort();
        let mut total = found.iter().fold(0u64, |sum, (_, len, _)| sum.saturating_add(*len));
        for (_, len, path) in found {
            if total <= bytes {
                return;
            }
            if remove_unused(&path) {
                total = total.saturating_sub(len);
            }
        }
    }
}

fn prefix() -> String {
    format!("{PREFIX}-{}-", rustix::process::geteuid().as_raw())
}

/// A regular file of this user that nobody else may write.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.is_file()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o022 == 0
}

/// Remembers that it was used.
fn touch(base: &CachedBase) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    if let Err(e) = futimens(base.file(), &times) {
        log::debug!("initramfs cache: cannot note a use: {e}");
    }
}

/// Removes an object that nobody has locked.
fn remove_unused(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = open(path, flags, Mode::empty()) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::remove_file(path).is_ok()
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
