//! Attributes and link targets.

use std::os::fd::AsFd;

use fuse_backend_rs::abi::fuse_abi::{AttrOut, SetattrIn, SetattrValid};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmodat, chownat,
    ftruncate, readlinkat_raw, utimensat,
};
use rustix::io::Errno;

use super::io::drop_privilege_bits;
use super::{FileServer, Reply, Res};
use crate::virtio::fs::names::TARGET_MAX;
use crate::virtio::fs::sys::{self, ProcPath};

impl FileServer {
    pub(super) fn getattr(&mut self, node: u64, fh: Option<u64>) -> Res<AttrOut> {
        if let Some(attr) = self.virtual_attr(node) {
            return attr;
        }
        let st = match fh {
            Some(fh) => match self.file(node, fh) {
                Ok(file) => sys::stat_fd(file.as_fd())?,
                // Directories, and handles that are gone: the node answers.
                Err(_) => self.stat_node(node)?,
            },
            None => self.stat_node(node)?,
        };
        Ok(self.attr_out(node, &st))
    }

    pub(super) fn setattr(&mut self, node: u64, args: &SetattrIn) -> Res<AttrOut> {
        self.host_only(node)?;
        let valid = SetattrValid::from_bits_truncate(args.valid);
        // Owner before mode: a change of owner takes set-id bits away.
        if valid.intersects(SetattrValid::UID | SetattrValid::GID) {
            self.set_owner(node, args, valid)?;
        }
        if valid.contains(SetattrValid::MODE) {
            self.set_mode(node, args.mode)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            self.set_size(node, args, valid)?;
        }
        let times =
            SetattrValid::ATIME | SetattrValid::MTIME | SetattrValid::ATIME_NOW | SetattrValid::MTIME_NOW;
        if valid.intersects(times) {
            self.set_times(node, args, valid)?;
        }
        let fh = (args.valid & fuse_backend_rs::abi::fuse_abi::FATTR_FH != 0).then_some(args.fh);
        self.getattr(node, fh)
    }

    fn set_owner(&mut self, node: u64, args: &SetattrIn, valid: SetattrValid) -> Res<()> {
        let fd = self.path_fd(node)?;
        // All ones means "leave it" to the host.
        let id = |flag, id| if valid.contains(flag) && id != u32::MAX { Some(id) } else { None };
        let uid = id(SetattrValid::UID, args.uid).map(Uid::from_raw);
        let gid = id(SetattrValid::GID, args.gid).map(Gid::from_raw);
        chownat(&*fd, c"", uid, gid, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
    }

    fn set_mode(&mut self, node: u64, mode: u32) -> Res<()> {
        if self.format(node)? == libc::S_IFLNK {
            return Err(Errno::OPNOTSUPP);
        }
        let fd = self.path_fd(node)?;
        let path = ProcPath::new(fd.as_fd());
        chmodat(CWD, path.as_c_str(), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
    }

    fn set_size(&mut self, node: u64, args: &SetattrIn, valid: SetattrValid) -> Res<()> {
        if args.size > i64::MAX as u64 {
            return Err(Errno::FBIG);
        }
        let has_handle = args.valid & fuse_backend_rs::abi::fuse_abi::FATTR_FH != 0;
        let opened;
        let file = if has_handle {
            self.file(node, args.fh)?
        } else {
            opened = self.open_file(node, OFlags::WRONLY)?;
            &opened
        };
        if valid.contains(SetattrValid::KILL_SUIDGID) {
            drop_privilege_bits(file)?;
        }
        ftruncate(file, args.size)
    }

    fn set_times(&mut self, node: u64, args: &SetattrIn, valid: SetattrValid) -> Res<()> {
        let time = |given, now, sec: u64, nsec: u32| {
            let tv_nsec = if valid.contains(now) {
                UTIME_NOW
            } else if valid.contains(given) {
                i64::from(nsec)
            } else {
                UTIME_OMIT
            };
            // Times before 1970 travel as two's complement.
            Timespec { tv_sec: sec as i64, tv_nsec }
        };
        let times = Timestamps {
            last_access: time(SetattrValid::ATIME, SetattrValid::ATIME_NOW, args.atime, args.atimensec),
            last_modification: time(SetattrValid::MTIME, SetattrValid::MTIME_NOW, args.mtime, args.mtimensec),
        };
        let fd = self.path_fd(node)?;
        match utimensat(&*fd, c"", &times, AtFlags::EMPTY_PATH) {
            // Linux before 5.8 has no AT_EMPTY_PATH here.
            Err(Errno::INVAL) => {
                utimensat(CWD, ProcPath::new(fd.as_fd()).as_c_str(), &times, AtFlags::empty())
            }
            result => result,
        }
    }

    pub(super) fn readlink(&mut self, node: u64) -> Res<Reply> {
        if self.is_virtual(node) || self.format(node)? != libc::S_IFLNK {
            return Err(Errno::INVAL);
        }
        let fd = self.path_fd(node)?;
        self.output.clear();
        self.output.resize(TARGET_MAX, 0);
        let len = readlinkat_raw(&*fd, c"", &mut self.output[..])?;
        self.output.truncate(len);
        Ok(Reply::Bytes)
    }
}
