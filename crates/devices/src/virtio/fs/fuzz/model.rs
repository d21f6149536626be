//! Sequences of operations, each compared with what a file system in memory does.
//!
//! Before each operation the guest looks the path up, as a kernel without a cache would.

use std::path::Path;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, Opcode, ReadIn, SetattrIn, WriteIn};
use purlin_vmm_core::memory::ByteValued;

use super::super::config::{FsConfig, Source};
use super::super::direct::{Direct, fail};
use super::tree::{Id, Kind, MAX_FILE, ROOT, Tree};

/// Bytes of one operation: what, two paths of two names, and two numbers.
const OP: usize = 8;
/// Most operations per input, so that an input takes bounded time.
const MAX_OPS: usize = 200;
const HANDLES: usize = 4;

struct Open {
    fh: u64,
    node: u64,
    id: Id,
}

struct Run {
    guest: Direct,
    tree: Tree,
    open: Vec<Open>,
}

/// Runs the operations in `data` in the empty directory `dir`.
///
/// # Panics
///
/// If the share answers anything but what the model does.
pub(super) fn compare(dir: &Path, data: &[u8]) {
    let mut config = FsConfig::new("model", Source::Path(dir.to_owned()));
    // So few that everything is found again by name all the time.
    config.limits.cached_descriptors = 2;
    let Ok(guest) = Direct::new(config) else { return };
    let mut run = Run { guest, tree: Tree::new(), open: Vec::new() };
    for op in data.chunks_exact(OP).take(MAX_OPS) {
        run.operate(op);
    }
    run.same_everywhere(ROOT, 1);
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, share: T, model: T) {
    if share != model {
        fail(&format!("{what}: the share says {share:?}, the model {model:?}"));
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

impl Run {
    fn operate(&mut self, op: &[u8]) {
        let byte = |at: usize| op.get(at).copied().unwrap_or(0);
        let (first, second) = ([byte(1), byte(2)], [byte(3), byte(4)]);
        let number = u16::from_le_bytes([byte(5), byte(6)]);
        let name = first[1] % 4;
        match byte(0) % 16 {
            0 | 1 => self.create(first, name),
            2 => self.add(first, Opcode::Mkdir, Kind::Dir(std::collections::BTreeMap::new()), 0o750),
            3 => {
                self.add(first, Opcode::Symlink, Kind::Link(vec![b't'; usize::from(number % 50) + 1]), 0o777)
            }
            4 => self.link(first, second),
            5 => self.remove(first, Opcode::Unlink),
            6 => self.remove(first, Opcode::Rmdir),
            7 | 8 => self.rename(first, second, u32::from(byte(7) % 3)),
            9 => self.write(byte(1), number, byte(7)),
            10 => self.read(byte(1), number),
            11 => self.truncate(first, number),
            12 => self.chmod(first, u32::from(number) & 0o777),
            13 => self.close(byte(1)),
            14 => self.reload(),
            _ => self.list(first),
        }
    }

    /// The directory a path's last name is in: the root, or a directory of it.
    fn parent(&mut self, path: [u8; 2]) -> Option<(Id, u64)> {
        if path[0] & 0x80 == 0 {
            return Some((ROOT, 1));
        }
        let (id, node) = self.find(ROOT, 1, path[0] % 4)?;
        Some((id, node))
    }

    /// Looks a name up in both; `None` if it is in neither.
    fn find(&mut self, dir: Id, node: u64, name: u8) -> Option<(Id, u64)> {
        let found = self.guest.call(Opcode::Lookup as u32, node, &[b'a' + name, 0], 128);
        let known = self.tree.lookup(dir, name);
        same("LOOKUP", found.as_ref().map(|_| ()).map_err(|e| *e), known.map(|_| ()));
        let (reply, id) = (found.ok()?, known.ok()?);
        self.same_attributes(id, reply.get(40..).unwrap_or(&[]));
        Some((id, word(&reply, 0)))
    }

    /// Size, mode and number of links, as in `struct fuse_attr`.
    fn same_attributes(&self, id: Id, attr: &[u8]) {
        let Some(inode) = self.tree.get(id) else { return };
        let (format, size) = match &inode.kind {
            Kind::File(data) => (libc::S_IFREG, data.len() as u64),
            Kind::Link(target) => (libc::S_IFLNK, target.len() as u64),
            Kind::Dir(_) => (libc::S_IFDIR, word(attr, 8)),
        };
        let links = if format == libc::S_IFDIR { half(attr, 64) } else { inode.links };
        let told = (word(attr, 8), half(attr, 60), half(attr, 64));
        same("size, mode, links", told, (size, format | inode.mode, links));
    }

    fn create(&mut self, path: [u8; 2], name: u8) {
        let Some((dir, node)) = self.parent(path) else { return };
        if self.open.len() >= HANDLES {
            return;
        }
        let args = CreateIn { flags: libc::O_RDWR as u32, mode: 0o640, umask: 0, fuse_flags: 0 };
        let body = [args.as_slice(), &[b'a' + name, 0]].concat();
        let reply = self.guest.call(Opcode::Create as u32, node, &body, 144);
        let known = match self.tree.add(dir, name, Kind::File(Vec::new()), 0o640) {
            Err(libc::EEXIST) => {
                self.tree.lookup(dir, name).and_then(|id| match self.tree.get(id).map(|i| &i.kind) {
                    Some(Kind::Dir(_)) => Err(libc::EISDIR),
                    Some(Kind::Link(_)) => Err(libc::ELOOP),
                    _ => Ok(id),
                })
            }
            other => other,
        };
        same("CREATE", reply.as_ref().map(|_| ()).map_err(|e| *e), known.map(|_| ()));
        if let (Ok(reply), Ok(id)) = (reply, known) {
            self.same_attributes(id, reply.get(40..).unwrap_or(&[]));
            self.open.push(Open { fh: word(&reply, 128), node: word(&reply, 0), id });
        }
    }

    fn add(&mut self, path: [u8; 2], opcode: Opcode, kind: Kind, mode: u32) {
        let Some((dir, node)) = self.parent(path) else { return };
        let name = path[1] % 4;
        let body = match &kind {
            Kind::Link(target) => [&[b'a' + name, 0][..], target, &[0]].concat(),
            _ => [&mode.to_le_bytes()[..], &[0; 4], &[b'a' + name, 0]].concat(),
        };
        let opcode = opcode as u32;
        let reply = self.guest.call(opcode, node, &body, 128);
        let known = self.tree.add(dir, name, kind, mode);
        same("MKDIR or SYMLINK", reply.as_ref().map(|_| ()).map_err(|e| *e), known.map(|_| ()));
        if let (Ok(reply), Ok(id)) = (reply, known) {
            self.same_attributes(id, reply.get(40..).unwrap_or(&[]));
        }
    }

    fn link(&mut self, from: [u8; 2], to: [u8; 2]) {
        let Some((dir, dir_node)) = self.parent(from) else { return };
        let Some((id, node)) = self.find(dir, dir_node, from[1] % 4) else { return };
        let Some((to_dir, to_node)) = self.parent(to) else { return };
        let name = to[1] % 4;
        let body = [&node.to_le_bytes()[..], &[b'a' + name, 0]].concat();
        let reply = self.guest.call(Opcode::Link as u32, to_node, &body, 128);
        same("LINK", reply.map(|_| ()), self.tree.link(id, to_dir, name));
    }

    fn remove(&mut self, path: [u8; 2], opcode: Opcode) {
        let Some((dir, node)) = self.parent(path) else { return };
        let name = path[1] % 4;
        let is_dir = matches!(opcode, Opcode::Rmdir);
        let reply = self.guest.call(opcode as u32, node, &[b'a' + name, 0], 0);
        same("UNLINK or RMDIR", reply.map(|_| ()), self.tree.remove(dir, name, is_dir));
    }

    fn rename(&mut self, from: [u8; 2], to: [u8; 2], flags: u32) {
        let Some((dir, node)) = self.parent(from) else { return };
        let Some((to_dir, to_node)) = self.parent(to) else { return };
        let (old, new) = (from[1] % 4, to[1] % 4);
        let names = [b'a' + old, 0, b'a' + new, 0];
        let body = [&to_node.to_le_bytes()[..], &flags.to_le_bytes(), &[0; 4], &names].concat();
        let reply = self.guest.call(Opcode::Rename2 as u32, node, &body, 0);
        same("RENAME", reply.map(|_| ()), self.tree.rename((dir, old), (to_dir, new), flags));
    }

    fn handle(&self, choice: u8) -> Option<&Open> {
        self.open.get(usize::from(choice) % self.open.len().max(1))
    }

    fn write(&mut self, choice: u8, offset: u16, len: u8) {
        let Some(&Open { fh, node, id }) = self.handle(choice) else { return };
        let data = vec![len ^ choice; len.into()];
        let args = WriteIn { fh, offset: offset.into(), size: len.into(), ..WriteIn::default() };
        let reply = self.guest.call(Opcode::Write as u32, node, &[args.as_slice(), &data].concat(), 8);
        same("WRITE", reply.map(|r| half(&r, 0)), Ok(len.into()));
        if let Some(Kind::File(file)) = self.tree.get_mut(id).map(|inode| &mut inode.kind) {
            let (start, end) = (usize::from(offset), usize::from(offset) + data.len());
            if len > 0 && file.len() < end {
                file.resize(end.min(MAX_FILE + 256), 0);
            }
            if let Some(part) = file.get_mut(start..end) {
                part.copy_from_slice(&data);
            }
        }
    }

    fn read(&mut self, choice: u8, offset: u16) {
        let Some(&Open { fh, node, id }) = self.handle(choice) else { return };
        let args = ReadIn { fh, offset: offset.into(), size: 4096, ..ReadIn::default() };
        let reply = self.guest.call(Opcode::Read as u32, node, args.as_slice(), 4096);
        let Some(Kind::File(file)) = self.tree.get(id).map(|inode| &inode.kind) else { return };
        let start = usize::from(offset).min(file.len());
        let part = file.get(start..file.len().min(start + 4096)).unwrap_or(&[]);
        same("READ", reply, Ok(part.to_vec()));
    }

    fn truncate(&mut self, path: [u8; 2], size: u16) {
        let Some((dir, dir_node)) = self.parent(path) else { return };
        let Some((id, node)) = self.find(dir, dir_node, path[1] % 4) else { return };
        let args = SetattrIn { valid: 8, size: size.into(), ..SetattrIn::default() };
        let reply = self.guest.call(Opcode::Setattr as u32, node, args.as_slice(), 104);
        let known = match self.tree.get_mut(id).map(|inode| &mut inode.kind) {
            Some(Kind::File(file)) => {
                file.resize(size.into(), 0);
                Ok(())
            }
            Some(Kind::Dir(_)) => Err(libc::EISDIR),
            _ => Err(libc::ELOOP),
        };
        same("SETATTR of the size", reply.map(|_| ()), known);
    }

    fn chmod(&mut self, path: [u8; 2], mode: u32) {
        let Some((dir, dir_node)) = self.parent(path) else { return };
        let Some((id, node)) = self.find(dir, dir_node, path[1] % 4) else { return };
        // Not every process that fuzzes may pass by modes.
        let mode = mode | 0o700;
        let args = SetattrIn { valid: 1, mode, ..SetattrIn::default() };
        let reply = self.guest.call(Opcode::Setattr as u32, node, args.as_slice(), 104);
        let known = match self.tree.get_mut(id) {
            Some(inode) if !matches!(inode.kind, Kind::Link(_)) => {
                inode.mode = mode;
                Ok(())
            }
            _ => Err(libc::EOPNOTSUPP),
        };
        same("SETATTR of the mode", reply.map(|_| ()), known);
    }

    fn close(&mut self, choice: u8) {
        if self.open.is_empty() {
            return;
        }
        let Open { fh, node, .. } = self.open.swap_remove(usize::from(choice) % self.open.len());
        let body = [&fh.to_le_bytes()[..], &[0; 16]].concat();
        same("RELEASE", self.guest.call(Opcode::Release as u32, node, &body, 0), Ok(Vec::new()));
    }

    /// Works unless something is open that has no name. (With other names than that it was opened by it may.)
    fn reload(&mut self) {
        let nameless =
            self.open.iter().any(|open| self.tree.get(open.id).is_none_or(|inode| inode.links == 0));
        let saved = self.guest.reload();
        if saved && nameless {
            fail("a file that is open without a name was saved");
        }
    }

    fn list(&mut self, path: [u8; 2]) {
        let Some((dir, node)) = self.parent(path) else { return };
        if self.tree.get(dir).is_some_and(|inode| inode.dir().is_some()) {
            self.same_entries(dir, node);
        }
    }

    fn same_entries(&mut self, dir: Id, node: u64) {
        let Ok(opened) = self.guest.call(Opcode::Opendir as u32, node, &[0; 8], 16) else {
            fail("OPENDIR of a directory");
        };
        let fh = word(&opened, 0);
        let args = ReadIn { fh, size: 4096, ..ReadIn::default() };
        let reply = self.guest.call(Opcode::Readdir as u32, node, args.as_slice(), 4096).unwrap_or_default();
        let mut names = Vec::new();
        let mut rest = &reply[..];
        while rest.len() >= 24 {
            let len = half(rest, 16) as usize;
            if let Some(&[name]) = rest.get(24..24 + len)
                && name != b'.'
            {
                names.push(name.wrapping_sub(b'a'));
            }
            rest = rest.get((24 + len).next_multiple_of(8)..).unwrap_or(&[]);
        }
        names.sort_unstable();
        let known: Vec<u8> =
            self.tree.get(dir).and_then(|d| d.dir()).into_iter().flatten().map(|e| *e.0).collect();
        same("READDIR", names, known);
        let body = [&fh.to_le_bytes()[..], &[0; 16]].concat();
        let _ = self.guest.call(Opcode::Releasedir as u32, node, &body, 0);
    }

    /// Everything, at the end.
    fn same_everywhere(&mut self, dir: Id, node: u64) {
        self.same_entries(dir, node);
        for name in 0..4 {
            if let Some((id, node)) = self.find(dir, node, name)
                && self.tree.get(id).is_some_and(|inode| inode.dir().is_some())
            {
                self.same_everywhere(id, node);
            }
        }
    }
}
