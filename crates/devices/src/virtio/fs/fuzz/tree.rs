//! A file system in memory: what a share should look like. Pure.

use std::collections::BTreeMap;

/// Longest file; writes beyond are not made.
pub(super) const MAX_FILE: usize = 1 << 16;

pub(super) type Id = usize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File(Vec<u8>),
    Dir(BTreeMap<u8, Id>),
    Link(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub kind: Kind,
    /// Names it has.
    pub links: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Inode {
    pub fn dir(&self) -> Option<&BTreeMap<u8, Id>> {
        match &self.kind {
            Kind::Dir(entries) => Some(entries),
            _ => None,
        }
    }
}

/// All inodes; the first is the root. Names are single bytes.
#[derive(Debug)]
pub(super) struct Tree(Vec<Inode>);

pub(super) const ROOT: Id = 0;

type Res<T> = Result<T, i32>;

impl Tree {
    pub fn new() -> Self {
        Tree(vec![Inode { kind: Kind::Dir(BTreeMap::new()), links: 1, mode: 0o755 }])
    }

    pub fn get(&self, id: Id) -> Option<&Inode> {
        self.0.get(id)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut Inode> {
        self.0.get_mut(id)
    }

    fn entries(&self, dir: Id) -> Res<&BTreeMap<u8, Id>> {
        self.get(dir).and_then(Inode::dir).ok_or(libc::ENOTDIR)
    }

    fn entries_mut(&mut self, dir: Id) -> Option<&mut BTreeMap<u8, Id>> {
        match &mut self.0.get_mut(dir)?.kind {
            Kind::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn lookup(&self, dir: Id, name: u8) -> Res<Id> {
        self.entries(dir)?.get(&name).copied().ok_or(libc::ENOENT)
    }

    pub fn add(&mut self, dir: Id, name: u8, kind: Kind, mode: u32) -> Res<Id> {
        if self.entries(dir)?.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        let id = self.0.len();
        self.0.push(Inode { kind, links: 1, mode });
        self.put(dir, name, Some(id));
        Ok(id)
    }

    fn put(&mut self, dir: Id, name: u8, id: Option<Id>) {
        let Some(entries) = self.entries_mut(dir) else { return };
        match id {
            Some(id) => entries.insert(name, id),
            None => entries.remove(&name),
        };
    }

    fn count(&mut self, id: Id, by: i32) {
        if let Some(inode) = self.get_mut(id) {
            inode.links = inode.links.saturating_add_signed(by);
        }
    }

    pub fn link(&mut self, id: Id, dir: Id, name: u8) -> Res<()> {
        if self.entries(dir)?.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        if self.get(id).and_then(Inode::dir).is_some() {
            return Err(libc::EPERM);
        }
        self.put(dir, name, Some(id));
        self.count(id, 1);
        Ok(())
    }

    pub fn remove(&mut self, dir: Id, name: u8, is_dir: bool) -> Res<()> {
        let id = self.lookup(dir, name)?;
        match (self.get(id).and_then(Inode::dir), is_dir) {
            (Some(_), false) => return Err(libc::EISDIR),
            (None, true) => return Err(libc::ENOTDIR),
            (Some(entries), true) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.put(dir, name, None);
        self.count(id, -1);
        Ok(())
    }

    /// True if `dir` is `top` or lies below it.
    fn within(&self, dir: Id, top: Id) -> bool {
        dir == top
            || self
                .get(top)
                .and_then(Inode::dir)
                .is_some_and(|e| e.values().any(|below| self.within(dir, *below)))
    }

    /// rename(2) in the order in which Linux checks. `flags` as `RENAME_NOREPLACE` (1) or `RENAME_EXCHANGE` (2).
    pub fn rename(&mut self, from: (Id, u8), to: (Id, u8), flags: u32) -> Res<()> {
        self.entries(from.0)?;
        self.entries(to.0)?;
        let old = self.lookup(from.0, from.1)?;
        let new = self.lookup(to.0, to.1).ok();
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        match new {
            Some(_) if flags & libc::RENAME_NOREPLACE != 0 => return Err(libc::EEXIST),
            None if exchange => return Err(libc::ENOENT),
            _ => {}
        }
        if from.0 != to.0 {
            if self.within(to.0, old) {
                return Err(libc::EINVAL);
            }
            if new.is_some_and(|new| self.within(from.0, new)) {
                return Err(if exchange { libc::EINVAL } else { libc::ENOTEMPTY });
            }
        }
        if new == Some(old) {
            return Ok(());
        }
        if let (Some(new), false) = (new, exchange) {
            let old_is_dir = self.get(old).and_then(Inode::dir).is_some();
            match (old_is_dir, self.get(new).and_then(Inode::dir)) {
                (true, None) => return Err(libc::ENOTDIR),
                (false, Some(_)) => return Err(libc::EISDIR),
                (true, Some(entries)) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
                _ => self.count(new, -1),
            }
        }
        self.put(from.0, from.1, new.filter(|_| exchange));
        self.put(to.0, to.1, Some(old));
        Ok(())
    }
}
