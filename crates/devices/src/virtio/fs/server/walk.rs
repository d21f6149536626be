//! From node numbers to host objects.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{AttrOut, EntryOut};
use rustix::fs::Statx;
use rustix::io::Errno;

use super::{FileServer, OVERLAY, Res, Where, drop_descriptors, locate, overlay_attr};
use crate::virtio::fs::nodes::{Identity, Place, ROOT};
use crate::virtio::fs::overlay::{OverlayId, OverlayKind};
use crate::virtio::fs::sys;

impl FileServer {
    pub(super) fn lookup(&mut self, parent: u64, name: &CStr) -> Res<EntryOut> {
        if let Some(id) = self.overlay_entry(parent, name)? {
            return self.found_overlay(id);
        }
        let dir = self.path_fd(parent)?;
        let st = sys::stat_at(dir.as_fd(), name)?;
        self.learn(parent, name, &st)
    }

    /// The guest is told of a host object.
    pub(super) fn learn(&mut self, parent: u64, name: &CStr, st: &Statx) -> Res<EntryOut> {
        let FileServer { nodes, paths, pins, .. } = self;
        let id = nodes
            .learn(parent, name, sys::identity(st), &mut |id| drop_descriptors(paths, pins, id))
            .map_err(|_| Errno::NOMEM)?;
        // It has a name again, if it had none.
        if let Some(fd) = pins.remove(&id) {
            paths.insert(id, fd);
        }
        Ok(self.entry(id, st))
    }

    /// The guest is told of an open file that has no name.
    pub(super) fn learn_nameless(&mut self, file: &File) -> Res<EntryOut> {
        if self.pins.len() >= self.share.limits.handles {
            return Err(Errno::MFILE);
        }
        let st = sys::stat_fd(file.as_fd())?;
        let fd = self.with_room(|_| sys::path_of(file.as_fd()))?;
        let id = self.nodes.learn_nameless(sys::identity(&st)).map_err(|_| Errno::NOMEM)?;
        self.pins.insert(id, Arc::new(fd));
        Ok(self.entry(id, &st))
    }

    /// The overlay entry a name stands for. `Ok(None)`: ask the host. ENOENT where the host has no say.
    pub(super) fn overlay_entry(&self, parent: u64, name: &CStr) -> Res<Option<OverlayId>> {
        let dir = match locate(&self.share, parent) {
            Where::Overlay(dir) => dir,
            Where::Host if parent == ROOT => None,
            Where::Host => return Ok(None),
        };
        let found = self.share.overlay.find(dir, name.to_bytes());
        let found = found.filter(|id| self.consumed.get(*id as usize) == Some(&false));
        match (found, locate(&self.share, parent)) {
            (Some(id), _) => Ok(Some(id)),
            (None, Where::Host) => Ok(None),
            (None, Where::Overlay(Some(id))) => match self.share.overlay.get(id).map(|e| &e.kind) {
                Some(OverlayKind::Dir) => Err(Errno::NOENT),
                Some(OverlayKind::File { .. }) => Err(Errno::NOTDIR),
                None => Err(Errno::STALE),
            },
            (None, Where::Overlay(None)) => Err(Errno::NOENT),
        }
    }

    fn found_overlay(&mut self, id: OverlayId) -> Res<EntryOut> {
        let attr = overlay_attr(&self.share, Some(id))?;
        let entry = self.share.overlay.get(id).ok_or(Errno::STALE)?;
        if let (OverlayKind::File { one_shot: true, .. }, Some(gone)) =
            (&entry.kind, self.consumed.get_mut(id as usize))
        {
            *gone = true;
        }
        // No timeouts: the guest asks again, and a one-shot name is gone then.
        Ok(EntryOut { nodeid: OVERLAY | u64::from(id), attr, ..EntryOut::default() })
    }

    /// True for nodes that have nothing on the host.
    pub(super) fn is_virtual(&self, node: u64) -> bool {
        matches!(locate(&self.share, node), Where::Overlay(_))
    }

    /// Refuses nodes that have nothing on the host: they are read-only.
    pub(super) fn host_only(&self, node: u64) -> Res<()> {
        if self.is_virtual(node) { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Attributes of an overlay node.
    pub(super) fn virtual_attr(&self, node: u64) -> Option<Res<AttrOut>> {
        match locate(&self.share, node) {
            Where::Host => None,
            Where::Overlay(id) => {
                Some(overlay_attr(&self.share, id).map(|attr| AttrOut { attr, ..AttrOut::default() }))
            }
        }
    }

    /// The contents of an overlay file.
    pub(super) fn virtual_file(&self, node: u64) -> Option<Res<&[u8]>> {
        match locate(&self.share, node) {
            Where::Host => None,
            Where::Overlay(id) => Some(match id.map(|id| self.share.overlay.get(id).map(|e| &e.kind)) {
                Some(Some(OverlayKind::File { data, .. })) => Ok(data),
                Some(None) => Err(Errno::STALE),
                None | Some(Some(OverlayKind::Dir)) => Err(Errno::ISDIR),
            }),
        }
    }

    /// Host attributes of a node, by the cheapest way that cannot answer for another object.
    pub(super) fn stat_node(&mut self, id: u64) -> Res<Statx> {
        if let Some(file) = self.open_already(id) {
            return sys::stat_fd(file.as_fd());
        }
        if let Some(fd) = self.held(id) {
            return sys::stat_fd(fd.as_fd());
        }
        let (parent, name, identity) = self.place(id)?;
        let dir = self.path_fd(parent)?;
        let st = sys::stat_at(dir.as_fd(), &name).map_err(stale_if_absent)?;
        if sys::identity(&st) == identity { Ok(st) } else { Err(Errno::STALE) }
    }

    fn place(&self, id: u64) -> Res<(u64, Box<CStr>, Identity)> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        match &node.place {
            Place::At { parent, name } => Ok((*parent, name.clone(), node.identity)),
            Place::Root | Place::Gone => Err(Errno::STALE),
        }
    }

    /// `S_IFMT` bits of a host node.
    pub(super) fn format(&self, id: u64) -> Res<u32> {
        Ok(self.nodes.get(id).ok_or(Errno::STALE)?.identity.format)
    }

    /// A descriptor we hold anyway.
    fn held(&mut self, id: u64) -> Option<Arc<OwnedFd>> {
        if id == ROOT {
            return self.share.root.clone();
        }
        self.pins.get(&id).or_else(|| self.paths.get(id)).cloned()
    }

    /// An `O_PATH` descriptor of a host node.
    pub(super) fn path_fd(&mut self, id: u64) -> Res<Arc<OwnedFd>> {
        if self.is_virtual(id) {
            return Err(Errno::ROFS);
        }
        if let Some(fd) = self.held(id) {
            return Ok(fd);
        }
        let fd = Arc::new(self.with_room(|server| server.walk(id))?);
        self.paths.insert(id, Arc::clone(&fd));
        Ok(fd)
    }

    /// Opens a node by its names, from the nearest directory that is open, and checks what was found.
    fn walk(&mut self, id: u64) -> Res<OwnedFd> {
        let (mut at, name, identity) = self.place(id)?;
        let mut names = vec![name];
        let mut dir = loop {
            match self.held(at) {
                Some(fd) => break fd,
                None => {
                    let (parent, name, _) = self.place(at)?;
                    names.push(name);
                    at = parent;
                }
            }
        };
        let mut names = names.into_iter().rev().peekable();
        let fd = loop {
            let path = next_path(&mut names)?;
            let fd = sys::open_path(dir.as_fd(), &path).map_err(stale_if_absent)?;
            if names.peek().is_none() {
                break fd;
            }
            dir = Arc::new(fd);
        };
        if sys::identity(&sys::stat_fd(fd.as_fd())?) == identity { Ok(fd) } else { Err(Errno::STALE) }
    }

    /// Runs `call`; if the process is out of descriptors, gives half of the cached ones back and tries
    /// once more.
    pub(super) fn with_room<T>(&mut self, mut call: impl FnMut(&mut Self) -> Res<T>) -> Res<T> {
        match call(self) {
            Err(Errno::MFILE | Errno::NFILE) if self.paths.len() > 0 => {
                self.paths.shrink(self.paths.len() / 2);
                call(self)
            }
            result => result,
        }
    }

    /// Keeps a node reachable that is about to lose its name: if it is open, or its descriptor is there
    /// anyway. Past the limit the node becomes stale instead.
    pub(super) fn pin(&mut self, id: u64) {
        let open = self.nodes.get(id).is_some_and(|n| n.open > 0);
        let cached = self.paths.get(id).is_some();
        if (open || cached)
            && self.pins.len() < self.share.limits.handles
            && let Ok(fd) = self.path_fd(id)
        {
            self.pins.insert(id, fd);
        }
    }

    /// The node has lost its name.
    pub(super) fn detach(&mut self, id: u64) {
        let FileServer { nodes, paths, pins, .. } = self;
        nodes.detach(id, &mut |id| drop_descriptors(paths, pins, id));
        paths.remove(id);
        if nodes.get(id).is_none() {
            pins.remove(&id);
        }
    }
}

/// A name that is gone, or is not a directory any more, makes the node stale.
fn stale_if_absent(e: Errno) -> Errno {
    match e {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Errno::STALE,
        other => other,
    }
}

/// Joins as many names as fit into one path.
fn next_path(names: &mut std::iter::Peekable<impl Iterator<Item = Box<CStr>>>) -> Res<std::ffi::CString> {
    let mut path = Vec::new();
    while let Some(name) =
        names.next_if(|name| path.is_empty() || path.len() + name.count_bytes() + 2 < sys::PATH_MAX)
    {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
    }
    std::ffi::CString::new(path).map_err(|_| Errno::INVAL)
}
