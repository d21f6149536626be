//! Open, read, write and what goes with them.

use fuse_backend_rs::abi::fuse_abi::{
    FallocateIn, LseekOut, OpenOut, ReadIn, WRITE_KILL_PRIV, WriteIn, WriteOut,
};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate, fchmod, fdatasync, fsync, seek};
use rustix::io::Errno;

use super::{Data, FileServer, Handle, Reply, Res};
use crate::virtio::fs::message::MAX_DATA;
use crate::virtio::fs::sys;
use std::fs::File;
use std::os::fd::AsFd;

/// Pages cached for the file stay valid (`FOPEN_KEEP_CACHE`).
pub(super) const KEEP_CACHE: u32 = 1 << 1;
/// Directory contents may be cached (`FOPEN_CACHE_DIR`).
pub(super) const CACHE_DIR: u32 = 1 << 3;

/// Open flags of the guest that mean something to the host's file, for access mode and writing.
fn host_flags(flags: u32) -> OFlags {
    let kept = OFlags::ACCMODE | OFlags::APPEND | OFlags::TRUNC | OFlags::DSYNC | OFlags::SYNC;
    OFlags::from_bits_retain(flags) & kept
}

/// What a handle is opened again with.
pub(super) fn again(flags: OFlags) -> OFlags {
    flags - OFlags::TRUNC - OFlags::CREATE - OFlags::EXCL
}

/// An error of the standard library as an error number.
pub(super) fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

impl FileServer {
    pub(super) fn open(&mut self, node: u64, flags: u32) -> Res<OpenOut> {
        let flags = host_flags(flags);
        let changes = flags & OFlags::ACCMODE != OFlags::RDONLY || flags.contains(OFlags::TRUNC);
        if let Some(file) = self.virtual_file(node) {
            file?;
            return if changes { Err(Errno::ROFS) } else { Ok(OpenOut::default()) };
        }
        if changes && self.share.read_only {
            return Err(Errno::ROFS);
        }
        self.room_for_handle()?;
        let file = self.open_file(node, flags)?;
        let st = sys::stat_fd(file.as_fd())?;
        // The guest's pages are good if the file is still what it was told of.
        let told = self.nodes.get(node).and_then(|n| n.told);
        let keep = told == Some(sys::version(&st));
        let fh = self.add_handle(Handle::File { node, flags: again(flags), file: Some(file) });
        Ok(OpenOut { fh, open_flags: if keep { KEEP_CACHE } else { 0 }, passthrough: 0 })
    }

    /// Flags and handle for a file that was created by an open.
    pub(super) fn add_created(&mut self, node: u64, flags: OFlags, file: File) -> OpenOut {
        let fh = self.add_handle(Handle::File { node, flags: again(flags), file: Some(file) });
        OpenOut { fh, open_flags: KEEP_CACHE, passthrough: 0 }
    }

    pub(super) fn read(&mut self, node: u64, args: &ReadIn, data: &mut dyn Data) -> Res<usize> {
        let len = (args.size as usize).min(MAX_DATA).min(data.room());
        if let Some(bytes) = self.virtual_file(node) {
            let bytes = bytes?;
            let from = usize::try_from(args.offset).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.get(from..from.saturating_add(len).min(bytes.len())).unwrap_or(&[]);
            data.put(part).map_err(|e| errno(&e))?;
            return Ok(part.len());
        }
        let file = self.file(node, args.fh)?;
        data.fill(file, len, args.offset).map_err(|e| errno(&e))
    }

    pub(super) fn write(&mut self, node: u64, args: &WriteIn, data: &mut dyn Data) -> Res<WriteOut> {
        self.host_only(node)?;
        let len = args.size as usize;
        if len != data.left() || len > MAX_DATA {
            return Err(Errno::INVAL);
        }
        let file = self.file(node, args.fh)?;
        if args.fuse_flags & WRITE_KILL_PRIV != 0 {
            drop_privilege_bits(file)?;
        }
        let size = data.drain(file, len, args.offset).map_err(|e| errno(&e))?;
        Ok(WriteOut { size: u32::try_from(size).unwrap_or(u32::MAX), padding: 0 })
    }

    pub(super) fn fsync(&mut self, node: u64, fh: u64, data_only: bool) -> Res<()> {
        self.host_only(node)?;
        let file = self.file(node, fh)?;
        if data_only { fdatasync(&*file) } else { fsync(&*file) }
    }

    pub(super) fn fallocate(&mut self, node: u64, args: &FallocateIn) -> Res<()> {
        self.host_only(node)?;
        let known = FallocateFlags::KEEP_SIZE
            | FallocateFlags::PUNCH_HOLE
            | FallocateFlags::ZERO_RANGE
            | FallocateFlags::COLLAPSE_RANGE
            | FallocateFlags::INSERT_RANGE
            | FallocateFlags::UNSHARE_RANGE;
        let mode = FallocateFlags::from_bits_retain(args.mode);
        if !known.contains(mode) {
            return Err(Errno::OPNOTSUPP);
        }
        // Negative for the kernel beyond this.
        if args.offset > i64::MAX as u64 || args.length > i64::MAX as u64 {
            return Err(Errno::FBIG);
        }
        let file = self.file(node, args.fh)?;
        fallocate(&*file, mode, args.offset, args.length)
    }

    pub(super) fn lseek(&mut self, node: u64, fh: u64, offset: u64, whence: u32) -> Res<Reply> {
        // The guest's kernel does the others itself.
        let to = match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
            Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        if offset > i64::MAX as u64 {
            return Err(Errno::NXIO);
        }
        if self.is_virtual(node) {
            return Err(Errno::NOSYS);
        }
        let file = self.file(node, fh)?;
        Ok(Reply::Offset(LseekOut { offset: seek(&*file, to)? }))
    }
}

/// Takes set-user-id and set-group-id away, as a write by somebody without CAP_FSETID does. The host's
/// kernel does not do it for us if we are root.
pub(super) fn drop_privilege_bits(file: &File) -> Res<()> {
    let mode = u32::from(sys::stat_fd(file.as_fd())?.stx_mode);
    let kept = without_privilege(mode);
    if kept == mode { Ok(()) } else { fchmod(file, Mode::from_raw_mode(kept & 0o7777)) }
}

/// Set-group-id without group execution is not a privilege (it used to mean mandatory locking).
fn without_privilege(mode: u32) -> u32 {
    let group = if mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    mode & !(libc::S_ISUID | group)
}
