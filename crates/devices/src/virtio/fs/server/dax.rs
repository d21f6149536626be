//! Files in the shared memory window (virtio 1.2 §5.11.6.4, `FUSE_SETUPMAPPING`): a guest that mounts with `dax`
//! reads and writes the host's pages without requests.

use std::fs::File;

use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingIn};
use purlin_vmm_core::memory::Window;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::io::errno;
use super::{FileServer, Reply, Res};
use crate::virtio::fs::maps::{MAX_MAPS, Mapped, Maps};

const PAGE: u64 = 4096;
/// log2 of what mappings are aligned to, as INIT tells the guest.
pub(super) const MAP_ALIGNMENT: u16 = 12;
/// `FUSE_SETUPMAPPING_FLAG_WRITE`.
const FLAG_WRITE: u64 = 1;

/// The window of a session. What is shown in it goes when this is dropped.
#[derive(Debug)]
pub(in crate::virtio::fs) struct Dax {
    window: Window,
    pub maps: Maps,
}

impl Dax {
    pub fn new(window: Window) -> Self {
        Dax { window, maps: Maps::default() }
    }

    fn contains(&self, at: u64, len: u64) -> bool {
        let aligned = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
        aligned && at.checked_add(len).is_some_and(|end| end <= self.window.len())
    }

    /// Empties the window.
    pub fn clear(&mut self) {
        if let Err(e) = self.window.hide(0, self.window.len()) {
            log::error!("virtio-fs: the window cannot be emptied: {e}");
        }
        self.maps.clear();
    }
}

impl Drop for Dax {
    fn drop(&mut self) {
        self.clear();
    }
}

impl FileServer {
    pub(super) fn setup_mapping(&mut self, node: u64, args: &SetupmappingIn) -> Res<Reply> {
        let writable = args.flags & FLAG_WRITE != 0;
        let mapped = Mapped { len: args.len, node, offset: args.foffset, writable };
        self.map(args.moffset, mapped).map(|()| Reply::Empty)
    }

    /// Shows a part of a node.
    pub(in crate::virtio::fs) fn map(&mut self, at: u64, mapped: Mapped) -> Res<()> {
        let Mapped { len, node, offset, writable } = mapped;
        let dax = self.dax.as_ref().ok_or(Errno::NOSYS)?;
        if !dax.contains(at, len) || !offset.is_multiple_of(PAGE) || offset.checked_add(len).is_none() {
            return Err(Errno::INVAL);
        }
        if dax.maps.left_without(at, len) >= MAX_MAPS {
            return Err(Errno::NOSPC);
        }
        if writable && (self.share.read_only || self.is_virtual(node)) {
            return Err(Errno::ROFS);
        }
        let shown = if let Some(bytes) = self.virtual_file(node) {
            let bytes = bytes?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let rest = bytes.get(from..).unwrap_or(&[]);
            let part = rest.get(..rest.len().min(len as usize)).unwrap_or(&[]);
            self.window().ok_or(Errno::NOSYS)?.show_bytes(at, len, part)
        } else {
            let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY };
            let file: File = self.open_file(node, flags)?;
            self.window().ok_or(Errno::NOSYS)?.show_file(at, len, &file, offset, writable)
        };
        shown.map_err(|e| errno(&e))?;
        if let Some(dax) = &mut self.dax {
            dax.maps.insert(at, mapped);
        }
        Ok(())
    }

    /// The share's window, if it has one.
    pub(in crate::virtio::fs) fn window(&self) -> Option<&Window> {
        self.dax.as_ref().map(|dax| &dax.window)
    }

    pub(super) fn remove_mappings(&mut self, items: impl Iterator<Item = RemovemappingOne>) -> Res<Reply> {
        let dax = self.dax.as_mut().ok_or(Errno::NOSYS)?;
        for RemovemappingOne { moffset, len } in items {
            if !dax.contains(moffset, len) {
                return Err(Errno::INVAL);
            }
            // From the middle of one, which then is two.
            if dax.maps.left_without(moffset, len) > MAX_MAPS {
                return Err(Errno::NOSPC);
            }
            dax.window.hide(moffset, len).map_err(|e| errno(&e))?;
            dax.maps.remove(moffset, len);
        }
        Ok(Reply::Empty)
    }
}
