//! What may wait for the host: done by another thread, with nothing of the session but open files.

use std::fs::File;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::WriteOut;
use rustix::fs::{FallocateFlags, copy_file_range, fallocate, fdatasync, fsync};

use super::io::errno;
use super::{Bulk, Reply, Res};
use crate::virtio::fs::buffers::Target;

/// A call on open files. It can be done on any thread, in any order with others: the guest does not send a
/// request that depends on another before that is answered.
#[derive(Debug)]
pub(in crate::virtio::fs) enum Job {
    /// Reads on at `offset + done` until `len` bytes are there.
    Read {
        file: Arc<File>,
        offset: u64,
        len: usize,
        done: usize,
    },
    Write {
        file: Arc<File>,
        target: Target,
        len: usize,
    },
    Sync {
        file: Arc<File>,
        data_only: bool,
    },
    Fallocate {
        file: Arc<File>,
        mode: FallocateFlags,
        offset: u64,
        len: u64,
    },
    Copy {
        from: Arc<File>,
        from_offset: u64,
        to: Arc<File>,
        to_offset: u64,
        len: usize,
    },
}

impl Job {
    pub fn run(&self, bulk: &mut Bulk) -> Res<Reply> {
        match *self {
            Job::Read { ref file, offset, len, done } => read_on(bulk, file, offset, len, done),
            Job::Write { ref file, target, len } => {
                bulk.readable.drain(file, len, target).map_err(|e| errno(&e)).map(written)
            }
            Job::Sync { ref file, data_only } => {
                if data_only { fdatasync(file) } else { fsync(file) }.map(|()| Reply::Empty)
            }
            Job::Fallocate { ref file, mode, offset, len } => {
                fallocate(file, mode, offset, len).map(|()| Reply::Empty)
            }
            Job::Copy { ref from, from_offset, ref to, to_offset, len } => {
                let (mut at, mut put) = (from_offset, to_offset);
                copy_file_range(from, Some(&mut at), to, Some(&mut put), len).map(written)
            }
        }
    }
}

fn read_on(bulk: &mut Bulk, file: &File, offset: u64, len: usize, done: usize) -> Res<Reply> {
    let mut done = done;
    while done < len {
        let at = offset.saturating_add(done as u64);
        match bulk.writable.fill(file, len.saturating_sub(done), at, true) {
            Ok(0) => break,
            Ok(more) => done = done.saturating_add(more),
            Err(e) if done == 0 => return Err(errno(&e)),
            // What there is counts; who reads on finds the error.
            Err(_) => break,
        }
    }
    Ok(Reply::Placed(done))
}

pub(super) fn written(size: usize) -> Reply {
    Reply::Written(WriteOut { size: u32::try_from(size).unwrap_or(u32::MAX), padding: 0 })
}

/// Where the files of a host device are, as far as it matters for waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::virtio::fs) enum Medium {
    /// In memory: nothing waits.
    Memory,
    /// Elsewhere, but the host tells whether a read would wait (`RWF_NOWAIT`).
    Tells,
    /// Elsewhere, and everything may wait.
    Waits,
}

/// The media of the devices a share was seen on.
#[derive(Debug, Default)]
pub(super) struct Media(Vec<(u64, Medium)>);

/// Devices remembered; of others everything is asked again.
const MAX_MEDIA: usize = 64;

impl Media {
    pub fn of(&mut self, dev: u64, file: &File) -> Medium {
        match self.0.iter().find(|known| known.0 == dev) {
            Some((_, medium)) => *medium,
            None => {
                let medium = find(file);
                if self.0.len() < MAX_MEDIA {
                    self.0.push((dev, medium));
                }
                medium
            }
        }
    }

    /// The host does not tell, it turned out.
    pub fn waits(&mut self, dev: u64) {
        if let Some((_, medium)) = self.0.iter_mut().find(|known| known.0 == dev) {
            *medium = Medium::Waits;
        }
    }
}

fn find(file: &File) -> Medium {
    match rustix::fs::fstatfs(file).map(|st| st.f_type) {
        Ok(libc::TMPFS_MAGIC | RAMFS_MAGIC) => Medium::Memory,
        _ => Medium::Tells,
    }
}

/// `include/uapi/linux/magic.h`.
const RAMFS_MAGIC: i64 = 0x8584_58f6;
