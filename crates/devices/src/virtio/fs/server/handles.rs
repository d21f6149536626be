//! Open files and directories of a guest.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::job::Medium;
use super::{FileServer, Res};
use crate::virtio::fs::sys;
use std::os::fd::AsFd;

/// What a guest opened. The descriptor is absent after a restore, until the first use.
#[derive(Debug)]
pub(in crate::virtio::fs) enum Handle {
    File {
        node: u64,
        /// Flags to open it again with.
        flags: OFlags,
        file: Option<Arc<File>>,
        /// Whether calls on it may wait.
        medium: Medium,
    },
    Dir {
        node: u64,
        stream: Option<super::dirs::Stream>,
    },
}

impl Handle {
    /// A file that is opened when it is used.
    pub fn unopened(node: u64, flags: OFlags) -> Self {
        Handle::File { node, flags, file: None, medium: Medium::Waits }
    }

    pub fn node(&self) -> u64 {
        match self {
            Handle::File { node, .. } | Handle::Dir { node, .. } => *node,
        }
    }
}

/// All handles of a session, bounded.
#[derive(Debug)]
pub(in crate::virtio::fs) struct Handles {
    open: HashMap<u64, Handle>,
    next: u64,
    limit: usize,
}

impl Handles {
    pub fn new(limit: usize) -> Self {
        // 0 stands for "no handle" with some requests.
        Handles { open: HashMap::new(), next: 1, limit }
    }

    pub fn is_full(&self) -> bool {
        self.open.len() >= self.limit || self.next == u64::MAX
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Handle)> {
        self.open.iter().map(|(fh, handle)| (*fh, handle))
    }

    pub fn next_id(&self) -> u64 {
        self.next
    }

    /// Puts saved handles back.
    pub fn insert_saved(&mut self, fh: u64, handle: Handle) -> bool {
        if fh == 0 || self.is_full() {
            return false;
        }
        self.skip_to(fh.saturating_add(1));
        self.open.insert(fh, handle).is_none()
    }

    /// The next handle gets at least this number.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    fn add(&mut self, handle: Handle) -> u64 {
        let fh = self.next;
        self.next = self.next.saturating_add(1);
        self.open.insert(fh, handle);
        fh
    }

    fn get_mut(&mut self, fh: u64) -> Option<&mut Handle> {
        self.open.get_mut(&fh)
    }
}

impl FileServer {
    /// Checks for room before anything is opened or created.
    pub(super) fn room_for_handle(&self) -> Res<()> {
        if self.handles.is_full() { Err(Errno::MFILE) } else { Ok(()) }
    }

    pub(super) fn add_handle(&mut self, handle: Handle) -> u64 {
        let id = handle.node();
        let fh = self.handles.add(handle);
        if let Some(node) = self.nodes.get_mut(id) {
            node.open = node.open.saturating_add(1);
            node.handle = fh;
        }
        fh
    }

    /// A file of the node that is open anyway, if there is one.
    pub(super) fn open_already(&self, id: u64) -> Option<&File> {
        match self.handles.open.get(&self.nodes.get(id)?.handle)? {
            Handle::File { node, file: Some(file), .. } if *node == id => Some(file),
            _ => None,
        }
    }

    pub(super) fn release(&mut self, fh: u64) {
        let Some(handle) = self.handles.open.remove(&fh) else { return };
        if let Some(node) = self.nodes.get_mut(handle.node()) {
            node.open = node.open.saturating_sub(1);
            if node.handle == fh {
                node.handle = 0;
            }
        }
    }

    /// A handle of a file that was just opened.
    pub(super) fn file_handle(&mut self, node: u64, flags: OFlags, file: File) -> Handle {
        let dev = self.nodes.get(node).map_or(0, |n| n.identity.dev);
        let medium = self.media.of(dev, &file);
        Handle::File { node, flags, file: Some(Arc::new(file)), medium }
    }

    /// The open file `fh` of `node`.
    pub(super) fn file(&mut self, node: u64, fh: u64) -> Res<&Arc<File>> {
        self.open_handle(node, fh).map(|(file, _, _)| file)
    }

    /// The open file `fh` of `node`, with its flags and medium.
    pub(super) fn open_handle(&mut self, node: u64, fh: u64) -> Res<(&Arc<File>, OFlags, &mut Medium)> {
        let missing = match self.handles.get_mut(fh) {
            Some(Handle::File { node: of, file, flags, .. }) if *of == node => {
                file.is_none().then_some(*flags)
            }
            _ => return Err(Errno::BADF),
        };
        if let Some(flags) = missing {
            let opened = self.open_file(node, flags)?;
            let opened = self.file_handle(node, flags, opened);
            if let Some(handle) = self.handles.get_mut(fh) {
                *handle = opened;
            }
        }
        match self.handles.get_mut(fh) {
            Some(Handle::File { file: Some(file), flags, medium, .. }) => Ok((file, *flags, medium)),
            _ => Err(Errno::BADF),
        }
    }

    /// The open directory `fh` of `node`.
    pub(super) fn stream(&mut self, node: u64, fh: u64) -> Res<&mut super::dirs::Stream> {
        let missing = match self.handles.get_mut(fh) {
            Some(Handle::Dir { node: of, stream }) if *of == node => stream.is_none(),
            _ => return Err(Errno::BADF),
        };
        if missing {
            let opened = self.open_stream(node)?;
            if let Some(Handle::Dir { stream, .. }) = self.handles.get_mut(fh) {
                *stream = Some(opened);
            }
        }
        match self.handles.get_mut(fh) {
            Some(Handle::Dir { stream: Some(stream), .. }) => Ok(stream),
            _ => Err(Errno::BADF),
        }
    }

    /// Opens a node that is a regular file. Anything else is the guest kernel's business: opening a FIFO
    /// could block here, and opening a device node would reach a device of the host.
    pub(super) fn open_file(&mut self, node: u64, flags: OFlags) -> Res<File> {
        match self.format(node)? {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::ISDIR),
            libc::S_IFLNK => return Err(Errno::LOOP),
            _ => return Err(Errno::OPNOTSUPP),
        }
        // The identity of what is opened, format included, was checked when the descriptor was made.
        let path = self.path_fd(node)?;
        let read_only = self.share.read_only;
        self.with_room(|_| {
            if !read_only {
                return sys::reopen(path.as_fd(), flags);
            }
            // Not even the access time may change; only the owner may ask for that.
            match sys::reopen(path.as_fd(), flags | OFlags::NOATIME) {
                Err(Errno::PERM) => sys::reopen(path.as_fd(), flags),
                result => result,
            }
        })
    }
}
