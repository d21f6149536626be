//! Directories.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{Dirent, EntryOut, OpenOut, ReadIn};
use purlin_vmm_core::memory::ByteValued;
use rustix::fs::{Dir, DirEntry, FileType};
use rustix::io::Errno;

use super::io::{CACHE_DIR, KEEP_CACHE, errno};
use super::{FileServer, Handle, Job, Reply, Res};
use crate::virtio::fs::message::MAX_DATA;
use crate::virtio::fs::nodes::ROOT;
use crate::virtio::fs::sys;

/// An open host directory and where reading stands.
#[derive(Debug)]
pub(in crate::virtio::fs) struct Stream {
    dir: Dir,
    /// Cookie of the next entry [`Stream::next`] returns.
    at: u64,
    /// Read from the host but did not fit into the last reply.
    held: Option<DirEntry>,
}

impl Stream {
    fn seek(&mut self, to: u64) -> Res<()> {
        if self.at == to {
            return Ok(());
        }
        let offset = i64::try_from(to).map_err(|_| Errno::INVAL)?;
        self.held = None;
        self.dir.seek(offset)?;
        self.at = to;
        Ok(())
    }

    fn next(&mut self) -> Option<Res<DirEntry>> {
        match self.held.take() {
            Some(entry) => Some(Ok(entry)),
            None => self.dir.read(),
        }
    }
}

impl FileServer {
    pub(super) fn opendir(&mut self, node: u64) -> Res<OpenOut> {
        let open_flags = KEEP_CACHE | CACHE_DIR;
        if let Some(attr) = self.virtual_attr(node) {
            let is_dir = attr?.attr.mode & libc::S_IFMT == libc::S_IFDIR;
            return if is_dir { Ok(OpenOut::default()) } else { Err(Errno::NOTDIR) };
        }
        self.room_for_handle()?;
        let stream = self.open_stream(node)?;
        let fh = self.add_handle(Handle::Dir { node, stream: Some(stream) });
        Ok(OpenOut { fh, open_flags, passthrough: 0 })
    }

    pub(super) fn open_stream(&mut self, node: u64) -> Res<Stream> {
        if self.format(node)? != libc::S_IFDIR {
            return Err(Errno::NOTDIR);
        }
        let path = self.path_fd(node)?;
        let fd = self.with_room(|_| sys::open_dir(path.as_fd()))?;
        Ok(Stream { dir: Dir::new(fd)?, at: 0, held: None })
    }

    /// Reads entries from `args.offset` on until the reply is full. With `plus` the guest is told of the
    /// objects too, as if it had looked them up.
    pub(super) fn readdir(&mut self, node: u64, args: &ReadIn, plus: bool) -> Res<Reply> {
        let mut out = std::mem::take(&mut self.output);
        out.clear();
        let size = (args.size as usize).min(MAX_DATA);
        let result = match self.virtual_attr(node) {
            Some(_) => virtual_entries(&mut out, size, args.offset, plus),
            None => self.host_entries(&mut out, size, node, args, plus),
        };
        self.output = out;
        result.map(|()| Reply::Bytes)
    }

    fn host_entries(
        &mut self,
        out: &mut Vec<u8>,
        size: usize,
        node: u64,
        args: &ReadIn,
        plus: bool,
    ) -> Res<()> {
        self.stream(node, args.fh)?.seek(args.offset)?;
        let mut first_error = None;
        loop {
            let entry = match self.stream(node, args.fh)?.next() {
                None => break,
                Some(Ok(entry)) => entry,
                Some(Err(e)) => {
                    first_error = Some(e);
                    break;
                }
            };
            let next = entry.offset() as u64;
            let head = Dirent {
                ino: entry.ino(),
                off: next,
                namelen: u32::try_from(entry.file_name().count_bytes()).unwrap_or(u32::MAX),
                type_: dirent_type(entry.file_type()),
            };
            if out.len() + record_len(entry.file_name(), plus) > size {
                self.stream(node, args.fh)?.held = Some(entry);
                break;
            }
            let known = if plus { Some(self.tell(node, args.fh, entry.file_name())) } else { None };
            push(out, known, &head, entry.file_name());
            self.stream(node, args.fh)?.at = next;
        }
        match first_error {
            // A directory that was removed has nothing to read.
            Some(e) if out.is_empty() && e != Errno::NOENT => Err(e),
            _ => Ok(()),
        }
    }

    /// What READDIRPLUS says of an entry; a node number of 0 makes the guest look it up if it cares.
    fn tell(&mut self, dir: u64, fh: u64, name: &CStr) -> EntryOut {
        if matches!(name.to_bytes(), b"." | b"..") {
            return EntryOut::default();
        }
        if dir == ROOT && !matches!(self.overlay_entry(dir, name), Ok(None)) {
            return EntryOut::default();
        }
        let st = self.stream(dir, fh).and_then(|s| sys::stat_at(s.dir.fd()?, name));
        st.and_then(|st| self.learn(dir, name, &st)).unwrap_or_default()
    }

    pub(super) fn fsyncdir(&mut self, node: u64, fh: u64, data_only: bool) -> Res<Reply> {
        self.host_only(node)?;
        let fd = self.stream(node, fh)?.dir.fd()?.try_clone_to_owned().map_err(|e| errno(&e))?;
        Ok(Reply::Later(Job::Sync { file: Arc::new(fd.into()), data_only }))
    }
}

/// Overlay directories list nothing but themselves.
fn virtual_entries(out: &mut Vec<u8>, size: usize, offset: u64, plus: bool) -> Res<()> {
    for (next, name) in [(1, c"."), (2, c"..")] {
        if next <= offset || out.len() + record_len(name, plus) > size {
            continue;
        }
        let head =
            Dirent { ino: ROOT, off: next, namelen: name.count_bytes() as u32, type_: libc::DT_DIR.into() };
        push(out, plus.then(EntryOut::default), &head, name);
    }
    Ok(())
}

fn record_len(name: &CStr, plus: bool) -> usize {
    let head = size_of::<Dirent>() + if plus { size_of::<EntryOut>() } else { 0 };
    (head + name.count_bytes()).next_multiple_of(8)
}

fn push(out: &mut Vec<u8>, known: Option<EntryOut>, head: &Dirent, name: &CStr) {
    if let Some(entry) = known {
        out.extend_from_slice(entry.as_slice());
    }
    out.extend_from_slice(head.as_slice());
    out.extend_from_slice(name.to_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
}

fn dirent_type(kind: FileType) -> u32 {
    let kind = match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    };
    kind.into()
}
