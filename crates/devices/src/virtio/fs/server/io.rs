//! Open, read, write and what goes with them.

use fuse_backend_rs::abi::fuse_abi::{
    CopyFileRangeIn, FOPEN_IN_KILL_SUIDGID, FallocateIn, LseekOut, OpenIn, OpenOut, ReadIn, WRITE_CACHE,
    WRITE_KILL_PRIV, WriteIn,
};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fchmod, fcntl_getfl, ftruncate, seek};
use rustix::io::Errno;

use super::job::{Medium, read_on};
use super::{Bulk, FileServer, Job, Reply, Res};
use crate::virtio::fs::buffers::Target;
use crate::virtio::fs::message::MAX_DATA;
use crate::virtio::fs::sys;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Pages cached for the file stay valid (`FOPEN_KEEP_CACHE`).
pub(super) const KEEP_CACHE: u32 = 1 << 1;
/// Directory contents may be cached (`FOPEN_CACHE_DIR`).
pub(super) const CACHE_DIR: u32 = 1 << 3;

/// From so many bytes on a write goes to another thread, unless the file is in memory.
const LONG_WRITE: usize = 64 << 10;
/// Most bytes copied for one request.
const MAX_COPY: usize = 1 << 30;

/// Open flags of the guest that mean something to the host's file, for access mode and writing. O_APPEND is only for
/// [`sys::reopen`] to know.
pub(in crate::virtio::fs) fn host_flags(flags: u32) -> OFlags {
    let kept = OFlags::ACCMODE | OFlags::APPEND | OFlags::TRUNC | OFlags::DSYNC | OFlags::SYNC;
    OFlags::from_bits_retain(flags) & kept
}

/// What a handle is opened again with.
pub(in crate::virtio::fs) fn again(flags: OFlags) -> OFlags {
    flags - OFlags::TRUNC - OFlags::CREATE - OFlags::EXCL
}

/// An error of the standard library as an error number.
pub(super) fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

impl FileServer {
    pub(super) fn open(&mut self, node: u64, args: &OpenIn) -> Res<OpenOut> {
        let flags = host_flags(args.flags);
        let changes = flags & OFlags::ACCMODE != OFlags::RDONLY || flags.contains(OFlags::TRUNC);
        if let Some(file) = self.virtual_file(node) {
            file?;
            return if changes { Err(Errno::ROFS) } else { Ok(OpenOut::default()) };
        }
        if changes && self.share.read_only {
            return Err(Errno::ROFS);
        }
        self.room_for_handle()?;
        let file = if flags.contains(OFlags::TRUNC) && args.fuse_flags & FOPEN_IN_KILL_SUIDGID != 0 {
            self.open_and_empty(node, flags)?
        } else {
            self.open_file(node, flags)?
        };
        let st = sys::stat_fd(file.as_fd())?;
        // The guest's pages are good if the file is still what it was told of.
        let told = self.nodes.get(node).and_then(|n| n.told);
        let keep = told == Some(sys::version(&st));
        let handle = self.file_handle(node, again(flags), file);
        let fh = self.add_handle(handle);
        Ok(OpenOut { fh, open_flags: if keep { KEEP_CACHE } else { 0 }, passthrough: 0 })
    }

    /// Opens and truncates for somebody without CAP_FSETID: what is empty has no set-id bits any more.
    fn open_and_empty(&mut self, node: u64, flags: OFlags) -> Res<File> {
        let file = self.open_file(node, flags - OFlags::TRUNC)?;
        drop_privilege_bits(&file)?;
        if flags & OFlags::ACCMODE == OFlags::RDONLY {
            // Linux allows that; the guest has checked that its user may write.
            self.open_file(node, OFlags::WRONLY | OFlags::TRUNC)?;
        } else {
            ftruncate(&file, 0)?;
        }
        Ok(file)
    }

    /// Flags and handle for a file that was created by an open.
    pub(super) fn add_created(&mut self, node: u64, flags: OFlags, file: File) -> OpenOut {
        let handle = self.file_handle(node, again(flags), file);
        let fh = self.add_handle(handle);
        OpenOut { fh, open_flags: KEEP_CACHE, passthrough: 0 }
    }

    pub(super) fn read(&mut self, node: u64, args: &ReadIn, bulk: &mut Bulk) -> Res<Reply> {
        let len = (args.size as usize).min(MAX_DATA).min(bulk.writable.left());
        if let Some(bytes) = self.virtual_file(node) {
            let bytes = bytes?;
            let from = usize::try_from(args.offset).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.get(from..from.saturating_add(len).min(bytes.len())).unwrap_or(&[]);
            return if bulk.writable.write(part) { Ok(Reply::Placed(part.len())) } else { Err(Errno::FAULT) };
        }
        let dev = self.nodes.get(node).map_or(0, |n| n.identity.dev);
        let (file, _, medium) = self.open_handle(node, args.fh)?;
        let offset = args.offset;
        let mut done = 0;
        match medium {
            Medium::Memory => return read_on(bulk, file, offset, len, 0),
            // What the host has in memory is taken at once.
            Medium::Tells => loop {
                let at = offset.saturating_add(done as u64);
                match bulk.writable.fill(file, len.saturating_sub(done), at, false).map_err(|e| errno(&e)) {
                    Ok(0) => return Ok(Reply::Placed(done)),
                    Ok(more) => done = done.saturating_add(more),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::OPNOTSUPP) => {
                        *medium = Medium::Waits;
                        break;
                    }
                    Err(e) => return Err(e),
                }
                if done >= len {
                    return Ok(Reply::Placed(done));
                }
            },
            Medium::Waits => {}
        }
        let waits = *medium == Medium::Waits;
        let job = Job::Read { file: Arc::clone(file), offset, len, done };
        if waits {
            self.media.waits(dev);
        }
        Ok(Reply::Later(job))
    }

    pub(super) fn write(&mut self, node: u64, args: &WriteIn, bulk: &mut Bulk) -> Res<Reply> {
        self.host_only(node)?;
        let len = args.size as usize;
        if len != bulk.readable.left() || len > MAX_DATA {
            return Err(Errno::INVAL);
        }
        let (file, flags, medium) = self.open_handle(node, args.fh)?;
        if args.fuse_flags & WRITE_KILL_PRIV != 0 {
            drop_privilege_bits(file)?;
        }
        // A write of a few pages into the host's cache is over sooner than another thread has begun.
        let at_once = len < LONG_WRITE && !flags.intersects(OFlags::SYNC | OFlags::DSYNC);
        let target = target_of(args, flags, file)?;
        let whole = args.fuse_flags & WRITE_CACHE != 0;
        let job = Job::Write { file: Arc::clone(file), target, len, whole };
        if at_once || *medium == Medium::Memory { job.run(bulk) } else { Ok(Reply::Later(job)) }
    }

    pub(super) fn fsync(&mut self, node: u64, fh: u64, data_only: bool) -> Res<Reply> {
        self.host_only(node)?;
        let file = Arc::clone(self.file(node, fh)?);
        Ok(Reply::Later(Job::Sync { file, data_only }))
    }

    pub(super) fn fallocate(&mut self, node: u64, args: &FallocateIn) -> Res<Reply> {
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
        let file = Arc::clone(self.file(node, args.fh)?);
        Ok(Reply::Later(Job::Fallocate { file, mode, offset: args.offset, len: args.length }))
    }

    /// Between two files of the share. Copies a part if there is much; the guest asks for the rest.
    pub(super) fn copy_file_range(&mut self, node: u64, args: &CopyFileRangeIn) -> Res<Reply> {
        if args.flags != 0 || args.offset_in > i64::MAX as u64 || args.offset_out > i64::MAX as u64 {
            return Err(Errno::INVAL);
        }
        // The guest's kernel copies what is not the host's.
        if self.is_virtual(node) {
            return Err(Errno::XDEV);
        }
        self.host_only(args.nodeid_out)?;
        let from = Arc::clone(self.file(node, args.fh_in)?);
        let to = Arc::clone(self.file(args.nodeid_out, args.fh_out)?);
        let len = usize::try_from(args.len).unwrap_or(usize::MAX).min(MAX_COPY);
        Ok(Reply::Later(Job::Copy { from, from_offset: args.offset_in, to, to_offset: args.offset_out, len }))
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
        Ok(Reply::Offset(LseekOut { offset: seek(file, to)? }))
    }
}

/// Where a write goes. Each says how its descriptor is by now, since fcntl(2) may change O_APPEND; pages of a mapping
/// (`FUSE_WRITE_CACHE`) have their place whatever descriptor they came through.
fn target_of(args: &WriteIn, opened: OFlags, file: &File) -> Res<Target> {
    if OFlags::from_bits_retain(args.flags).contains(OFlags::APPEND) && args.fuse_flags & WRITE_CACHE == 0 {
        return Ok(Target::End);
    }
    // A file that the host lets nobody change but at its end: it would append, silently.
    if opened.contains(OFlags::APPEND) && fcntl_getfl(file)?.contains(OFlags::APPEND) {
        return Err(Errno::PERM);
    }
    Ok(Target::At(args.offset))
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
