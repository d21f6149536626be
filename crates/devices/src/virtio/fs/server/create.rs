//! New entries.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, EntryOut, InHeader, MknodIn, OpenIn, OpenOut};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, linkat, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;

use super::{FileServer, Res};
use crate::virtio::fs::sys::{self, Acting, ProcPath};

impl FileServer {
    /// The directory to create `name` in. EEXIST if an overlay entry has the name.
    fn directory_for(&mut self, parent: u64, name: &CStr) -> Res<Arc<OwnedFd>> {
        match self.overlay_entry(parent, name) {
            Ok(Some(_)) => Err(Errno::EXIST),
            Ok(None) => self.path_fd(parent),
            Err(Errno::NOENT) => Err(Errno::ROFS),
            Err(e) => Err(e),
        }
    }

    fn act_as(&self, header: &InHeader) -> Res<Option<Acting>> {
        self.share.own.act_as(header.uid, header.gid)
    }

    /// Looks an entry up that was made with the mode `asked`, and tells the guest.
    fn made(&mut self, dir: &OwnedFd, parent: u64, name: &CStr, asked: Mode) -> Res<EntryOut> {
        let st = self.with_room(|_| sys::stat_made_at(dir.as_fd(), name, asked))?;
        self.learn(parent, name, &st)
    }

    /// Looks a new entry up whose mode was not asked for, and tells the guest.
    fn created(&mut self, dir: &OwnedFd, parent: u64, name: &CStr) -> Res<EntryOut> {
        let st = sys::stat_at(dir.as_fd(), name)?;
        self.learn(parent, name, &st)
    }

    pub(super) fn create(
        &mut self,
        header: &InHeader,
        args: &CreateIn,
        name: &CStr,
    ) -> Res<(EntryOut, OpenOut)> {
        let parent = header.nodeid;
        self.room_for_handle()?;
        let dir = self.directory_for(parent, name)?;
        let given = OFlags::from_bits_retain(args.flags);
        let flags = given & (OFlags::ACCMODE | OFlags::APPEND | OFlags::DSYNC | OFlags::SYNC);
        let mode = Mode::from_raw_mode(args.mode & 0o7777);
        let made = {
            let _acting = self.act_as(header)?;
            self.with_room(|_| sys::create_at(dir.as_fd(), name, flags, mode))
        };
        match made {
            Ok(file) => {
                let entry = self.learn(parent, name, &sys::stat_made(dir.as_fd(), file.as_fd(), mode)?)?;
                let open = self.add_created(entry.nodeid, flags, file);
                Ok((entry, open))
            }
            // The host made it since the guest looked.
            Err(Errno::EXIST) if !given.contains(OFlags::EXCL) => {
                self.open_existing(parent, name, &OpenIn { flags: args.flags, fuse_flags: args.fuse_flags })
            }
            Err(e) => Err(e),
        }
    }

    /// A file without a name (`O_TMPFILE`), which LINK may give one.
    pub(super) fn tmpfile(&mut self, header: &InHeader, args: &CreateIn) -> Res<(EntryOut, OpenOut)> {
        self.host_only(header.nodeid)?;
        self.room_for_handle()?;
        let dir = self.path_fd(header.nodeid)?;
        let given = OFlags::from_bits_retain(args.flags);
        // O_EXCL: it never gets a name.
        let flags = given & (OFlags::ACCMODE | OFlags::APPEND | OFlags::DSYNC | OFlags::SYNC | OFlags::EXCL);
        let mode = Mode::from_raw_mode(args.mode & 0o7777);
        let file = {
            let _acting = self.act_as(header)?;
            self.with_room(|_| sys::create_nameless(dir.as_fd(), flags, mode))?
        };
        sys::stat_made(dir.as_fd(), file.as_fd(), mode)?;
        let entry = self.learn_nameless(&file)?;
        let open = self.add_created(entry.nodeid, flags - OFlags::EXCL, file);
        Ok((entry, open))
    }

    fn open_existing(&mut self, parent: u64, name: &CStr, args: &OpenIn) -> Res<(EntryOut, OpenOut)> {
        let entry = self.lookup(parent, name)?;
        match self.open(entry.nodeid, args) {
            Ok(open) => Ok((entry, open)),
            Err(e) => {
                // The guest never hears of the lookup.
                self.forget(entry.nodeid, 1);
                Err(e)
            }
        }
    }

    pub(super) fn mkdir(&mut self, header: &InHeader, mode: u32, name: &CStr) -> Res<EntryOut> {
        let dir = self.directory_for(header.nodeid, name)?;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        {
            let _acting = self.act_as(header)?;
            mkdirat(&*dir, name, mode)?;
        }
        self.made(&dir, header.nodeid, name, mode)
    }

    pub(super) fn mknod(&mut self, header: &InHeader, args: &MknodIn, name: &CStr) -> Res<EntryOut> {
        let dir = self.directory_for(header.nodeid, name)?;
        let kind = match FileType::from_raw_mode(args.mode) {
            FileType::Directory | FileType::Symlink | FileType::Unknown => return Err(Errno::INVAL),
            kind => kind,
        };
        let mode = Mode::from_raw_mode(args.mode & 0o7777);
        {
            let _acting = self.act_as(header)?;
            mknodat(&*dir, name, kind, mode, sys::decode_dev(args.rdev))?;
        }
        self.made(&dir, header.nodeid, name, mode)
    }

    pub(super) fn symlink(&mut self, header: &InHeader, name: &CStr, target: &CStr) -> Res<EntryOut> {
        let dir = self.directory_for(header.nodeid, name)?;
        {
            let _acting = self.act_as(header)?;
            symlinkat(target, &*dir, name)?;
        }
        self.created(&dir, header.nodeid, name)
    }

    pub(super) fn link(&mut self, old: u64, parent: u64, name: &CStr) -> Res<EntryOut> {
        let dir = self.directory_for(parent, name)?;
        self.host_only(old)?;
        let fd = self.path_fd(old)?;
        // The path in /proc names the object itself, also if it is a link.
        linkat(CWD, ProcPath::new(fd.as_fd()).as_c_str(), &*dir, name, AtFlags::SYMLINK_FOLLOW)?;
        self.created(&dir, parent, name)
    }
}
