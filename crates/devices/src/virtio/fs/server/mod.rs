//! The file server: FUSE requests against a host directory.
//!
//! One thread uses it at a time. [`Share`] is what does not change while the device lives; [`FileServer`]
//! is one session of a guest with it, and is what a snapshot holds.

mod attrs;
mod create;
mod dax;
mod dirs;
mod handles;
mod io;
mod job;
mod remove;
mod walk;
mod xattr;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{
    AttrOut, EntryOut, GetxattrOut, InHeader, InitOut, IoctlIn, IoctlOut, Kstatfs, LseekOut, OpenOut,
    WriteOut,
};
use rustix::fs::{Statx, fstatvfs};
use rustix::io::Errno;

use super::buffers::Buffers;
use super::config::{ExitCodeSink, FsConfig, FsConfigError, Limits, Semantics, Source, TAG_MAX};
use super::message::{MAX_DATA, Request, forget_items, mapping_items};
use super::nodes::{END, Identity, NodeTable, ROOT};
use super::overlay::{OverlayId, OverlayKind, OverlayTree};
use super::recent::Recent;
use super::sys::{self, Own};

use job::Media;

pub(super) use dax::Dax;
pub(super) use handles::{Handle, Handles};
pub(super) use io::{again, host_flags};
pub(super) use job::Job;

type Res<T> = Result<T, Errno>;

/// Node numbers of overlay entries have this bit; those of host inodes never reach it.
pub(super) const OVERLAY: u64 = END;
/// `_IO('v', 2)`: libkrun's ioctl for the exit code; the argument is the code.
const IOCTL_EXIT_CODE: u32 = 0x7602;
/// Oldest protocol minor version served (the one with `max_pages`).
const MIN_MINOR: u32 = 27;
/// Protocol minor version told to the guest.
const MINOR: u32 = 38;

/// FUSE INIT flags (`fuse.h`), as far as they are used here.
mod flag {
    pub const ASYNC_READ: u64 = 1;
    pub const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const HAS_IOCTL_DIR: u64 = 1 << 11;
    pub const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const MAP_ALIGNMENT: u64 = 1 << 26;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub const INIT_EXT: u64 = 1 << 30;
    pub const ALLOW_IDMAP: u64 = 1 << 40;

    /// Wanted whenever the guest offers them. No writeback cache: the host and other guests may write
    /// the same files.
    pub const WANTED: u64 = ASYNC_READ
        | ATOMIC_O_TRUNC
        | BIG_WRITES
        | HAS_IOCTL_DIR
        | AUTO_INVAL_DATA
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | ASYNC_DIO
        | PARALLEL_DIROPS
        | MAX_PAGES
        | CACHE_SYMLINKS
        | HANDLE_KILLPRIV_V2
        | INIT_EXT;
}

/// What does not change while the device lives.
pub(super) struct Share {
    pub tag: String,
    root: Option<Arc<OwnedFd>>,
    root_identity: Identity,
    pub read_only: bool,
    overlay: OverlayTree,
    semantics: Semantics,
    exit_code: Option<ExitCodeSink>,
    limits: Limits,
    own: Own,
}

impl Share {
    pub fn new(config: FsConfig) -> Result<Arc<Self>, FsConfigError> {
        let FsConfig { tag, source, read_only, overlay, semantics, exit_code, limits, dax_window: _ } =
            config;
        if tag.is_empty() || tag.len() > TAG_MAX || tag.contains('\0') {
            return Err(FsConfigError::Tag { len: tag.len(), tag });
        }
        let numbers = [
            ("nodes", limits.nodes),
            ("cached_descriptors", limits.cached_descriptors),
            ("handles", limits.handles),
        ];
        if let Some((field, _)) = numbers.into_iter().find(|(_, n)| *n == 0) {
            return Err(FsConfigError::Limit { tag, field });
        }
        let overlay = match OverlayTree::new(overlay) {
            Ok(tree) => tree,
            Err(source) => return Err(FsConfigError::Overlay { tag, source }),
        };
        let (root, root_identity) = open_source(&tag, source)?;
        sys::check_proc().map_err(|e| FsConfigError::Proc(e.into()))?;
        let read_only = read_only || root.is_none();
        let own = Own::get();
        Ok(Arc::new(Share {
            tag,
            root,
            root_identity,
            read_only,
            overlay,
            semantics,
            exit_code,
            limits,
            own,
        }))
    }
}

/// The root of a share without a host directory.
const VIRTUAL_ROOT: Identity = Identity { dev: 0, ino: ROOT, born: 0, format: libc::S_IFDIR };

fn open_source(tag: &str, source: Source) -> Result<(Option<Arc<OwnedFd>>, Identity), FsConfigError> {
    use std::os::fd::AsFd;
    let (opened, path) = match source {
        Source::Virtual => return Ok((None, VIRTUAL_ROOT)),
        Source::Path(path) => (sys::open_root(&path), path),
        Source::Directory(fd) => (Ok(fd), std::path::PathBuf::from("(descriptor)")),
    };
    let checked = opened.and_then(|fd| {
        let identity = sys::identity(&sys::stat_fd(fd.as_fd())?);
        if identity.format == libc::S_IFDIR { Ok((fd, identity)) } else { Err(Errno::NOTDIR) }
    });
    match checked {
        Ok((fd, identity)) => Ok((Some(Arc::new(fd)), identity)),
        Err(e) => Err(FsConfigError::Source { tag: tag.to_owned(), path, source: e.into() }),
    }
}

/// A successful reply.
#[derive(Debug)]
pub(super) enum Reply {
    /// The driver expects none.
    None,
    /// Header only.
    Empty,
    Entry(EntryOut),
    Created(EntryOut, OpenOut),
    Attr(AttrOut),
    Open(OpenOut),
    Written(WriteOut),
    /// So many bytes are already in place behind the header.
    Placed(usize),
    /// To be had from this call, which may wait for the host.
    Later(Job),
    /// The bytes in [`FileServer::output`].
    Bytes,
    Size(GetxattrOut),
    Offset(LseekOut),
    Statfs(Kstatfs),
    Init(InitOut),
    Ioctl(IoctlOut),
}

/// Guest memory of one request, without the headers and arguments.
#[derive(Debug)]
pub(super) struct Bulk {
    /// The data of a WRITE.
    pub readable: Buffers,
    /// Room for the reply's body.
    pub writable: Buffers,
}

/// One guest's session with a share.
pub(super) struct FileServer {
    pub(super) share: Arc<Share>,
    pub(super) nodes: NodeTable,
    /// `O_PATH` descriptors of nodes; any may go at any time.
    paths: Recent<Arc<OwnedFd>>,
    /// `O_PATH` descriptors of nodes that are open and have no name any more.
    pins: HashMap<u64, Arc<OwnedFd>>,
    pub(super) handles: Handles,
    media: Media,
    /// The window, if the share has one.
    pub(super) dax: Option<Dax>,
    /// One-shot overlay entries that were looked up.
    pub(super) consumed: Vec<bool>,
    /// INIT flags agreed on; 0 before INIT.
    pub(super) flags: u64,
    /// Scratch for replies of unknown size.
    pub(super) output: Vec<u8>,
}

impl FileServer {
    pub fn new(share: Arc<Share>) -> Self {
        FileServer {
            nodes: NodeTable::new(share.root_identity, share.limits.nodes),
            paths: Recent::new(share.limits.cached_descriptors),
            pins: HashMap::new(),
            handles: Handles::new(share.limits.handles),
            media: Media::default(),
            dax: None,
            consumed: vec![false; share.overlay.len()],
            flags: 0,
            output: Vec::new(),
            share,
        }
    }

    /// Serves one request. Errors become the reply's error number.
    pub fn serve(&mut self, header: &InHeader, request: &Request<'_>, bulk: &mut Bulk) -> Res<Reply> {
        let node = header.nodeid;
        match *request {
            Request::Init { major, minor, max_readahead, flags } => {
                return self.init(major, minor, max_readahead, flags).map(Reply::Init);
            }
            Request::Forget { lookups } => {
                self.forget(node, lookups);
                return Ok(Reply::None);
            }
            Request::BatchForget { items } => {
                for (node, lookups) in forget_items(items) {
                    self.forget(node, lookups);
                }
                return Ok(Reply::None);
            }
            Request::Interrupt => return Ok(Reply::None),
            // A guest may report how it ended even if it never got as far as INIT.
            Request::Ioctl(args) => return self.ioctl(&args).map(Reply::Ioctl),
            _ if self.flags == 0 => return Err(Errno::IO),
            _ => {}
        }
        match *request {
            Request::Lookup { name } => self.lookup(node, name).map(Reply::Entry),
            Request::Getattr { fh } => self.getattr(node, fh).map(Reply::Attr),
            Request::Readlink => self.readlink(node),
            Request::Open(ref args) => self.open(node, args).map(Reply::Open),
            Request::Read(args) => self.read(node, &args, bulk),
            Request::Statfs => self.statfs(node).map(Reply::Statfs),
            Request::Release { fh } | Request::Releasedir { fh } => {
                self.release(fh);
                Ok(Reply::Empty)
            }
            Request::Getxattr { name, size } => self.getxattr(node, name, size),
            Request::Listxattr { size } => self.listxattr(node, size),
            Request::Opendir => self.opendir(node).map(Reply::Open),
            Request::Readdir { args, plus } => self.readdir(node, &args, plus),
            Request::Lseek { fh, offset, whence } => self.lseek(node, fh, offset, whence),
            Request::Destroy => {
                self.start_anew();
                Ok(Reply::Empty)
            }
            Request::SetupMapping(ref args) => self.setup_mapping(node, args),
            Request::RemoveMapping { items } => self.remove_mappings(mapping_items(items)),
            Request::Unsupported => Err(Errno::NOSYS),
            _ => self.modify(header, request, bulk),
        }
    }

    /// Requests that change the host directory.
    fn modify(&mut self, header: &InHeader, request: &Request<'_>, bulk: &mut Bulk) -> Res<Reply> {
        if self.share.read_only {
            return match request {
                // Nothing was written, so there is nothing to bring to disk.
                Request::Fsync { .. } | Request::Fsyncdir { .. } => Ok(Reply::Empty),
                // Says more than EROFS: the name is taken.
                Request::Mkdir { name, .. }
                    if matches!(self.overlay_entry(header.nodeid, name), Ok(Some(_))) =>
                {
                    Err(Errno::EXIST)
                }
                _ => Err(Errno::ROFS),
            };
        }
        let node = header.nodeid;
        match *request {
            Request::Setattr(ref args) => self.setattr(node, args).map(Reply::Attr),
            Request::Symlink { name, target } => self.symlink(header, name, target).map(Reply::Entry),
            Request::Mknod { ref args, name } => self.mknod(header, args, name).map(Reply::Entry),
            Request::Mkdir { mode, name } => self.mkdir(header, mode, name).map(Reply::Entry),
            Request::Link { node: old, name } => self.link(old, node, name).map(Reply::Entry),
            Request::Create { ref args, name } => {
                self.create(header, args, name).map(|(entry, open)| Reply::Created(entry, open))
            }
            Request::Unlink { name } => self.remove(node, name, false).map(|()| Reply::Empty),
            Request::Rmdir { name } => self.remove(node, name, true).map(|()| Reply::Empty),
            Request::Rename { new_dir, flags, old, new } => {
                self.rename(node, old, new_dir, new, flags).map(|()| Reply::Empty)
            }
            Request::Write(ref args) => self.write(node, args, bulk),
            Request::Fsync { fh, data_only } => self.fsync(node, fh, data_only),
            Request::Fsyncdir { fh, data_only } => self.fsyncdir(node, fh, data_only),
            Request::Fallocate(ref args) => self.fallocate(node, args),
            Request::CopyFileRange(ref args) => self.copy_file_range(node, args),
            Request::Tmpfile(ref args) => {
                self.tmpfile(header, args).map(|(entry, open)| Reply::Created(entry, open))
            }
            Request::Setxattr { name, value, flags } => {
                self.setxattr(node, name, value, flags).map(|()| Reply::Empty)
            }
            Request::Removexattr { name } => self.removexattr(node, name).map(|()| Reply::Empty),
            _ => Err(Errno::NOSYS),
        }
    }

    fn init(&mut self, major: u32, minor: u32, max_readahead: u32, offered: u64) -> Res<InitOut> {
        let mut out = InitOut { major: 7, minor: MINOR, ..InitOut::default() };
        if major > 7 {
            // The guest comes again with our version.
            return Ok(out);
        }
        if major < 7 || minor < MIN_MINOR {
            return Err(Errno::PROTO);
        }
        // A guest that mounts again starts anew.
        self.start_anew();
        let idmap = if self.share.semantics == Semantics::Complete { flag::ALLOW_IDMAP } else { 0 };
        // INIT_EXT also says that the session has begun.
        let dax = if self.dax.is_some() { flag::MAP_ALIGNMENT } else { 0 };
        self.flags = offered & (flag::WANTED | idmap | dax) | flag::INIT_EXT;
        let told = offered & self.flags;
        out.flags = told as u32;
        out.flags2 = (told >> 32) as u32;
        out.max_readahead = max_readahead;
        out.max_background = u16::MAX;
        out.congestion_threshold = u16::MAX / 4 * 3;
        out.max_write = MAX_DATA as u32;
        out.max_pages = (MAX_DATA / 4096) as u16;
        out.time_gran = 1;
        if told & flag::MAP_ALIGNMENT != 0 {
            out.map_alignment = dax::MAP_ALIGNMENT;
        }
        Ok(out)
    }

    /// Forgets the session; the window is empty then.
    fn start_anew(&mut self) {
        let mut dax = self.dax.take();
        if let Some(dax) = &mut dax {
            dax.clear();
        }
        *self = FileServer::new(Arc::clone(&self.share));
        self.dax = dax;
    }

    fn forget(&mut self, node: u64, lookups: u64) {
        if node & OVERLAY == 0 {
            let FileServer { nodes, paths, pins, .. } = self;
            nodes.forget(node, lookups, &mut |id| drop_descriptors(paths, pins, id));
        }
    }

    fn ioctl(&mut self, args: &IoctlIn) -> Res<IoctlOut> {
        if args.cmd != IOCTL_EXIT_CODE {
            return Err(Errno::NOTTY);
        }
        if let Some(sink) = &self.share.exit_code {
            // The code is the low half of the argument.
            sink(args.arg as u32 as i32);
        }
        Ok(IoctlOut::default())
    }

    fn statfs(&mut self, node: u64) -> Res<Kstatfs> {
        if self.is_virtual(node) {
            return Ok(Kstatfs { bsize: 4096, frsize: 4096, namelen: 255, ..Kstatfs::default() });
        }
        let fd = self.path_fd(node)?;
        let st = fstatvfs(&*fd)?;
        Ok(Kstatfs {
            blocks: st.f_blocks,
            bfree: st.f_bfree,
            bavail: st.f_bavail,
            files: st.f_files,
            ffree: st.f_ffree,
            bsize: u32::try_from(st.f_bsize).unwrap_or(u32::MAX),
            namelen: u32::try_from(st.f_namemax).unwrap_or(255),
            frsize: u32::try_from(st.f_frsize).unwrap_or(u32::MAX),
            ..Kstatfs::default()
        })
    }

    /// The reply about a host inode; notes what the guest then knows.
    fn entry(&mut self, id: u64, st: &Statx) -> EntryOut {
        let (entry, attr) = (self.share.semantics.entry_timeout(), self.share.semantics.attr_timeout());
        if let Some(node) = self.nodes.get_mut(id) {
            node.told = Some(sys::version(st));
        }
        EntryOut {
            nodeid: id,
            generation: 0,
            entry_valid: entry.as_secs(),
            attr_valid: attr.as_secs(),
            entry_valid_nsec: entry.subsec_nanos(),
            attr_valid_nsec: attr.subsec_nanos(),
            attr: sys::attr(st),
        }
    }

    fn attr_out(&mut self, id: u64, st: &Statx) -> AttrOut {
        let entry = self.entry(id, st);
        AttrOut {
            attr_valid: entry.attr_valid,
            attr_valid_nsec: entry.attr_valid_nsec,
            dummy: 0,
            attr: entry.attr,
        }
    }
}

/// What a node number says about where to look.
enum Where {
    /// A host inode (or the root, if there is a host directory).
    Host,
    /// An overlay entry; `None` is the root of a share without a host directory.
    Overlay(Option<OverlayId>),
}

fn locate(share: &Share, node: u64) -> Where {
    if node & OVERLAY != 0 {
        // More than 32 bits never were given out, so no entry is found for them.
        Where::Overlay(Some(u32::try_from(node & !OVERLAY).unwrap_or(u32::MAX)))
    } else if share.root.is_none() && node == ROOT {
        Where::Overlay(None)
    } else {
        Where::Host
    }
}

fn drop_descriptors(paths: &mut Recent<Arc<OwnedFd>>, pins: &mut HashMap<u64, Arc<OwnedFd>>, id: u64) {
    paths.remove(id);
    pins.remove(&id);
}

/// Attributes of an overlay entry, or of the root of a share without a host directory.
fn overlay_attr(share: &Share, id: Option<OverlayId>) -> Res<fuse_backend_rs::abi::fuse_abi::Attr> {
    use fuse_backend_rs::abi::fuse_abi::Attr;
    let base = Attr { ino: ROOT, nlink: 1, blksize: 4096, ..Attr::default() };
    let Some(id) = id else { return Ok(Attr { mode: libc::S_IFDIR | 0o755, ..base }) };
    let entry = share.overlay.get(id).ok_or(Errno::STALE)?;
    let (format, size) = match &entry.kind {
        OverlayKind::Dir => (libc::S_IFDIR, 0),
        OverlayKind::File { data, .. } => (libc::S_IFREG, data.len() as u64),
    };
    let mode = format | entry.mode & 0o7777;
    Ok(Attr { ino: OVERLAY | u64::from(id), mode, size, blocks: size.div_ceil(512), ..base })
}
