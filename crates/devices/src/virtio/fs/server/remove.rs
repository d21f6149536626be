//! Entries that go or move.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, RenameFlags, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{FileServer, Res, drop_descriptors};
use crate::virtio::fs::nodes::Place;
use crate::virtio::fs::sys;

impl FileServer {
    pub(super) fn remove(&mut self, parent: u64, name: &CStr, is_dir: bool) -> Res<()> {
        if self.overlay_entry(parent, name)?.is_some() {
            return Err(Errno::ROFS);
        }
        let dir = self.path_fd(parent)?;
        let victim = self.known_at(dir.as_fd(), name);
        if let Some(id) = victim {
            self.pin(id);
        }
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let result = unlinkat(&*dir, name, flags);
        match (result, victim) {
            (Ok(()), Some(id)) => self.lost_name(id, parent, name),
            (Err(_), Some(id)) => self.unpin(id),
            _ => {}
        }
        result
    }

    pub(super) fn rename(
        &mut self,
        old_dir: u64,
        old: &CStr,
        new_dir: u64,
        new: &CStr,
        flags: u32,
    ) -> Res<()> {
        let flags = RenameFlags::from_bits_retain(flags);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE | RenameFlags::WHITEOUT).contains(flags) {
            return Err(Errno::INVAL);
        }
        if self.overlay_entry(old_dir, old)?.is_some() {
            return Err(Errno::ROFS);
        }
        match self.overlay_entry(new_dir, new) {
            Ok(Some(_)) => return Err(Errno::EXIST),
            Ok(None) => {}
            Err(Errno::NOENT) => return Err(Errno::ROFS),
            Err(e) => return Err(e),
        }
        let from = self.path_fd(old_dir)?;
        let to = self.path_fd(new_dir)?;
        let moved = self.known_at(from.as_fd(), old);
        let replaced = self.known_at(to.as_fd(), new);
        if let Some(id) = replaced {
            self.pin(id);
        }
        let result = renameat_with(&*from, old, &*to, new, flags);
        if let Err(e) = result {
            replaced.into_iter().for_each(|id| self.unpin(id));
            return Err(e);
        }
        // Two names of one file: the host leaves both.
        if moved.is_some() && moved == replaced {
            return Ok(());
        }
        match replaced {
            Some(id) if flags.contains(RenameFlags::EXCHANGE) => {
                self.moved(id, old_dir, old);
                self.unpin(id);
            }
            Some(id) => self.lost_name(id, new_dir, new),
            None => {}
        }
        if let Some(id) = moved {
            self.moved(id, new_dir, new);
        }
        Ok(())
    }

    /// The node of the object that has this name now, if the guest knows it.
    fn known_at(&self, dir: BorrowedFd<'_>, name: &CStr) -> Option<u64> {
        let st = sys::stat_at(dir, name).ok()?;
        self.nodes.find(&sys::identity(&st))
    }

    fn moved(&mut self, id: u64, parent: u64, name: &CStr) {
        let FileServer { nodes, paths, pins, .. } = self;
        nodes.move_to(id, parent, name, &mut |id| drop_descriptors(paths, pins, id));
    }

    /// The host removed this name. A file with other names keeps its place if that is one of them.
    fn lost_name(&mut self, id: u64, parent: u64, name: &CStr) {
        if self.nodes.is_at(id, parent, name) {
            self.detach(id);
        } else {
            self.unpin(id);
        }
    }

    /// A node that has a name needs no pin.
    fn unpin(&mut self, id: u64) {
        let named = self.nodes.get(id).is_some_and(|n| n.place != Place::Gone);
        if named && let Some(fd) = self.pins.remove(&id) {
            self.paths.insert(id, fd);
        }
    }
}
