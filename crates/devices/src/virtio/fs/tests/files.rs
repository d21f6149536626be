//! Contents and attributes of files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use fuse_backend_rs::abi::fuse_abi::{
    CreateIn, FOPEN_IN_KILL_SUIDGID, Opcode, SetattrIn, WRITE_CACHE, WriteIn,
};
use rustix::fs::IFlags;
use tempfile::tempdir;

use super::client::{Client, ROOT, config};

const MODE: u32 = 1;
const UID: u32 = 2;
const GID: u32 = 4;
const SIZE: u32 = 8;
const MTIME: u32 = 32;
const KILL_SUIDGID: u32 = 0x800;

#[test]
fn write_and_read_back() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let (entry, open) = c.create(ROOT, "f", libc::O_RDWR, 0o640).unwrap();
    let data: Vec<u8> = (0..(1 << 20)).map(|i: u32| (i / 7) as u8).collect();
    assert_eq!(c.write(entry.nodeid, open.fh, 0, &data), Ok(1 << 20));
    assert_eq!(c.write(entry.nodeid, open.fh, 1 << 20, b"tail"), Ok(4));
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap()[..1 << 20], data);
    assert_eq!(c.read(entry.nodeid, open.fh, 0, 1 << 20).unwrap(), data);
    assert_eq!(c.read(entry.nodeid, open.fh, 1 << 20, 4096).unwrap(), b"tail");
    assert_eq!(c.read(entry.nodeid, open.fh, 1 << 21, 4096).unwrap(), b"");
    assert_eq!(c.fsync(Opcode::Fsync, entry.nodeid, open.fh), Ok(()));
    assert_eq!(c.release(entry.nodeid, open.fh), Ok(()));
    assert_eq!(c.read(entry.nodeid, open.fh, 0, 1), Err(libc::EBADF));
    let attr = c.getattr(entry.nodeid).unwrap();
    assert_eq!((attr.attr.size, attr.attr.mode & 0o7777, attr.attr_valid), ((1 << 20) + 4, 0o640, 5));
}

#[test]
fn modes_do_not_depend_on_the_process_umask() {
    let dir = tempdir().unwrap();
    // SAFETY: reads the umask by setting it twice; other tests do not depend on it in between.
    let before = unsafe { libc::umask(0o077) };
    let mut c = Client::new(config(dir.path()));
    c.create(ROOT, "f", libc::O_WRONLY, 0o666).unwrap();
    c.mkdir(ROOT, "d", 0o777).unwrap();
    c.mknod(ROOT, "p", libc::S_IFIFO | 0o622, 0).unwrap();
    for (name, mode) in [("f", 0o666), ("d", 0o777), ("p", 0o622)] {
        let found = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{name}");
    }
    // SAFETY: as above.
    let now = unsafe { libc::umask(before) };
    assert_eq!(now, 0o077, "the device changed the umask of the process");
}

#[test]
fn append_truncate_and_flags() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.put(ROOT, "f", b"hello");
    let open = c.open(node, libc::O_WRONLY | libc::O_APPEND).unwrap();
    assert_eq!(c.write_with(node, appending(open.fh), b" world"), Ok(6));
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"hello world");
    let open = c.open(node, libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"");
    assert_eq!(c.read(node, open.fh, 0, 1), Err(libc::EBADF), "write-only handle");
    let open = c.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(c.write(node, open.fh, 0, b"x"), Err(libc::EBADF), "read-only handle");
}

/// A write on a descriptor with O_APPEND; the guest's idea of the end may be old.
fn appending(fh: u64) -> WriteIn {
    WriteIn { fh, offset: 2, flags: libc::O_APPEND as u32, ..WriteIn::default() }
}

/// Linux writes the pages of a mapping through any descriptor that may write.
#[test]
fn pages_of_a_mapping_stay_in_place_on_an_appending_descriptor() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let old = c.put(ROOT, "old", b"0123456789");
    let opened = c.open(old, libc::O_RDWR | libc::O_APPEND).unwrap();
    let (new, made) = c.create(ROOT, "new", libc::O_RDWR | libc::O_APPEND, 0o644).unwrap();
    let (new, made) = (new.nodeid, made.fh);
    c.write_with(new, appending(made), b"0123456789").unwrap();
    for after_restore in [false, true] {
        for (node, fh, name) in [(old, opened.fh, "old"), (new, made, "new")] {
            fs::write(dir.path().join(name), "0123456789").unwrap();
            // With the flags of the descriptor too, as other kernels might.
            for flags in [0, libc::O_APPEND as u32] {
                let page = WriteIn { fuse_flags: WRITE_CACHE, flags, ..appending(fh) };
                assert_eq!(c.write_with(node, page, b"page"), Ok(4));
            }
            let text = || fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(text(), "01page6789", "{name}, {after_restore}");
            assert_eq!(c.write_with(node, appending(fh), b"+"), Ok(1));
            assert_eq!(text(), "01page6789+", "{name}, {after_restore}");
            // fcntl(2) took O_APPEND from the descriptor.
            assert_eq!(c.write_with(node, WriteIn { flags: 0, ..appending(fh) }, b"FREE"), Ok(4));
            assert_eq!(text(), "01FREE6789+", "{name}, {after_restore}");
        }
        if !after_restore {
            super::life::move_to_new_device(&mut c, config(dir.path()));
        }
    }
}

/// Needs root, and a file system with attributes.
#[test]
fn a_file_that_can_only_be_appended_to() {
    if !is_root() {
        return;
    }
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.put(ROOT, "log", b"one");
    let file = fs::File::open(dir.path().join("log")).unwrap();
    let before = rustix::fs::ioctl_getflags(&file);
    if before.and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | IFlags::APPEND)).is_err() {
        println!("skipped: {:?} has no attributes", dir.path());
        return;
    }
    let opened = c.open(node, libc::O_WRONLY | libc::O_APPEND).map(|open| open.fh);
    let plain = c.open(node, libc::O_WRONLY).map(|_| ());
    let fh = opened.unwrap_or(0);
    let appended = c.write_with(node, appending(fh), b" two");
    let page = c.write_with(node, WriteIn { fuse_flags: WRITE_CACHE, ..appending(fh) }, b"page");
    let text = fs::read_to_string(dir.path().join("log")).unwrap();
    // First of all, so that the directory can be removed.
    rustix::fs::ioctl_setflags(&file, before.unwrap()).unwrap();
    assert_eq!((plain, appended, page), (Err(libc::EPERM), Ok(4), Err(libc::EPERM)));
    assert_eq!(text, "one two");
}

#[test]
fn pages_are_kept_only_while_the_file_is_as_told() {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "one").unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.lookup(ROOT, "f").unwrap().nodeid;
    assert_eq!(c.open(node, libc::O_RDONLY).unwrap().open_flags & 2, 2);
    std::fs::write(dir.path().join("f"), "another").unwrap();
    assert_eq!(c.open(node, libc::O_RDONLY).unwrap().open_flags & 2, 0, "the host changed it");
    c.getattr(node).unwrap();
    assert_eq!(c.open(node, libc::O_RDONLY).unwrap().open_flags & 2, 2);
}

#[test]
fn attributes_are_set() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    let mut c = Client::new(config(dir.path()));
    let node = c.put(ROOT, "f", b"0123456789");
    let set = |valid| SetattrIn { valid, ..SetattrIn::default() };
    c.setattr(node, SetattrIn { mode: 0o4711, ..set(MODE) }).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o4711);
    let attr = c.setattr(node, SetattrIn { size: 4, ..set(SIZE | KILL_SUIDGID) }).unwrap();
    assert_eq!((attr.attr.size, attr.attr.mode & 0o7777), (4, 0o711));
    assert_eq!(std::fs::read(&path).unwrap(), b"0123");
    c.setattr(node, SetattrIn { mtime: 1_000_000, mtimensec: 5, ..set(MTIME) }).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000, 5));
    let before_1970 = (-5i64) as u64;
    let attr = c.setattr(node, SetattrIn { mtime: before_1970, ..set(MTIME) }).unwrap();
    assert_eq!(attr.attr.mtime, before_1970);
    assert_eq!(c.setattr(node, SetattrIn { size: u64::MAX, ..set(SIZE) }).map(|_| ()), Err(libc::EFBIG));
    assert_eq!(
        c.setattr(node, SetattrIn { mtimensec: 2_000_000_000, ..set(MTIME) }).map(|_| ()),
        Err(libc::EINVAL)
    );
    let link = c.symlink(ROOT, "l", "f").unwrap().nodeid;
    assert_eq!(c.setattr(link, SetattrIn { mode: 0o777, ..set(MODE) }).map(|_| ()), Err(libc::EOPNOTSUPP));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o711, "not through the link");
    c.setattr(link, SetattrIn { mtime: 77, ..set(MTIME) }).unwrap();
    assert_eq!(std::fs::symlink_metadata(dir.path().join("l")).unwrap().mtime(), 77);
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// Needs root.
#[test]
fn files_belong_to_the_guests_user() {
    if !is_root() {
        return;
    }
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    // A directory only its owner may write to: the guest's kernel has let the user pass by a group.
    let d = c.mkdir(ROOT, "d", 0o700).unwrap().nodeid;
    c.ids = (1234, 5678);
    c.put(d, "f", b"x");
    c.mkdir(d, "sub", 0o755).unwrap();
    c.symlink(d, "l", "f").unwrap();
    c.mknod(d, "n", libc::S_IFREG | 0o600, 0).unwrap();
    for name in ["f", "sub", "l", "n"] {
        let meta = std::fs::symlink_metadata(dir.path().join("d").join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 5678), "{name}");
    }
    // And the thread is root again afterwards.
    c.ids = (0, 0);
    c.put(d, "again", b"x");
    assert_eq!(std::fs::metadata(dir.path().join("d/again")).unwrap().uid(), 0);
    let node = c.lookup(d, "f").unwrap().nodeid;
    let owner = SetattrIn { valid: UID | GID, uid: 7, gid: 8, ..SetattrIn::default() };
    let attr = c.setattr(node, owner).unwrap().attr;
    assert_eq!((attr.uid, attr.gid), (7, 8));
    // A set-group-id directory passes its group on.
    c.setattr(d, SetattrIn { valid: MODE | GID, mode: 0o2777, gid: 99, ..SetattrIn::default() }).unwrap();
    c.ids = (1234, 5678);
    c.put(d, "inherits", b"x");
    assert_eq!(std::fs::metadata(dir.path().join("d/inherits")).unwrap().gid(), 99);
}

#[test]
fn a_write_takes_set_id_bits_when_asked() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.put(ROOT, "f", b"x");
    c.setattr(node, SetattrIn { valid: MODE, mode: 0o6755, ..SetattrIn::default() }).unwrap();
    let fh = c.open(node, libc::O_WRONLY).unwrap().fh;
    c.write_flags(node, fh, 0, b"y", 4).unwrap();
    assert_eq!(c.getattr(node).unwrap().attr.mode & 0o7777, 0o755);
}

#[test]
fn an_open_that_truncates_takes_set_id_bits_when_asked() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.put(ROOT, "f", b"");
    let kill = FOPEN_IN_KILL_SUIDGID;
    let modes = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR | libc::O_APPEND];
    for (flags, created) in modes.into_iter().flat_map(|flags| [(flags, false), (flags, true)]) {
        let mut open = |flags, open_flags| {
            fs::write(dir.path().join("f"), "text").unwrap();
            c.setattr(node, SetattrIn { valid: MODE, mode: 0o6755, ..SetattrIn::default() }).unwrap();
            let fh = if created {
                // The host made it since the guest looked.
                let args = CreateIn { flags: flags as u32, fuse_flags: open_flags, ..CreateIn::default() };
                c.create_with(ROOT, "f", args).unwrap().1.fh
            } else {
                c.open_with(node, flags, open_flags).unwrap().fh
            };
            let attr = c.getattr(node).unwrap().attr;
            assert_eq!(c.write(node, fh, 0, b"x").is_ok(), flags & libc::O_ACCMODE != libc::O_RDONLY);
            (attr.size, attr.mode & 0o7777)
        };
        assert_eq!(open(flags | libc::O_TRUNC, kill), (0, 0o755), "{flags:#o}, {created}");
        assert_eq!(open(flags | libc::O_TRUNC, 0), (0, 0o6755), "{flags:#o}, {created}: who may keep them");
        assert_eq!(open(flags, kill), (4, 0o6755), "{flags:#o}, {created}: nothing changes");
    }
}

#[test]
fn holes_and_space() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let (entry, open) = c.create(ROOT, "f", libc::O_RDWR, 0o600).unwrap();
    let (node, fh) = (entry.nodeid, open.fh);
    assert_eq!(c.fallocate(node, fh, 0, 0, 1 << 20), Ok(()));
    assert_eq!(c.getattr(node).unwrap().attr.size, 1 << 20);
    c.write(node, fh, 0, &[1; 1 << 16]).unwrap();
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    assert_eq!(c.fallocate(node, fh, punch, 0, 1 << 16), Ok(()));
    assert_eq!(c.read(node, fh, 0, 16).unwrap(), [0; 16]);
    assert_eq!(c.lseek(node, fh, 0, libc::SEEK_HOLE), Ok(0));
    assert_eq!(c.lseek(node, fh, 0, libc::SEEK_END), Err(libc::EINVAL));
    assert_eq!(c.lseek(node, fh, u64::MAX, libc::SEEK_DATA), Err(libc::ENXIO));
    assert_eq!(c.fallocate(node, fh, 1 << 20, 0, 1), Err(libc::EOPNOTSUPP));
    assert_eq!(c.fallocate(node, fh, 0, u64::MAX, 1), Err(libc::EFBIG));
    let st = c.statfs(node).unwrap();
    assert!(st.blocks > 0 && st.namelen == 255 && st.bsize > 0, "{st:?}");
}

#[test]
fn extended_attributes() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.put(ROOT, "f", b"x");
    if let Err(e) = c.setxattr(node, "user.a", b"value") {
        assert_eq!(e, libc::EOPNOTSUPP);
        println!("skipped: {:?} has no user attributes", dir.path());
        return;
    }
    assert_eq!(c.getxattr(node, "user.a", 100).unwrap(), b"value");
    assert_eq!(c.getxattr(node, "user.a", 0).unwrap()[..4], 5u32.to_le_bytes());
    assert_eq!(c.getxattr(node, "user.a", 2), Err(libc::ERANGE));
    assert_eq!(c.getxattr(node, "user.none", 100), Err(libc::ENODATA));
    // Through an open file, whose name is not needed: that is gone from the host.
    let fh = c.open(node, libc::O_WRONLY).unwrap().fh;
    std::fs::rename(dir.path().join("f"), dir.path().join("moved")).unwrap();
    assert_eq!(c.getxattr(node, "user.a", 0).unwrap()[..4], 5u32.to_le_bytes());
    assert_eq!(c.getxattr(node, "user.none", 0), Err(libc::ENODATA));
    std::fs::rename(dir.path().join("moved"), dir.path().join("f")).unwrap();
    c.release(node, fh).unwrap();
    let names = c.listxattr(node, 1000).unwrap();
    assert!(names.windows(7).any(|w| w == b"user.a\0"), "{names:?}");
    assert_eq!(c.removexattr(node, "user.a"), Ok(()));
    assert_eq!(c.removexattr(node, "user.a"), Err(libc::ENODATA));
}

/// Nothing the server opens may block or reach a device of the host.
#[test]
fn special_files_are_not_opened() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let fifo = c.mknod(ROOT, "fifo", libc::S_IFIFO | 0o666, 0).unwrap();
    assert!(std::fs::metadata(dir.path().join("fifo")).unwrap().file_type().is_fifo());
    let socket = c.mknod(ROOT, "sock", libc::S_IFSOCK | 0o666, 0).unwrap();
    let link = c.symlink(ROOT, "link", "/etc/passwd").unwrap();
    for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_TRUNC] {
        assert_eq!(c.open(fifo.nodeid, flags).map(|_| ()), Err(libc::EOPNOTSUPP));
        assert_eq!(c.open(socket.nodeid, flags).map(|_| ()), Err(libc::EOPNOTSUPP));
        assert_eq!(c.open(link.nodeid, flags).map(|_| ()), Err(libc::ELOOP));
        assert_eq!(c.open(ROOT, flags).map(|_| ()), Err(libc::EISDIR));
    }
    let size = SetattrIn { valid: SIZE, size: 0, ..SetattrIn::default() };
    assert_eq!(c.setattr(fifo.nodeid, size).map(|_| ()), Err(libc::EOPNOTSUPP));
    // Their attributes can be changed all the same.
    let mode = SetattrIn { valid: MODE, mode: 0o600, ..SetattrIn::default() };
    assert_eq!(c.setattr(fifo.nodeid, mode).unwrap().attr.mode, libc::S_IFIFO | 0o600);
    if is_root() {
        // 1:3 is /dev/null.
        match c.mknod(ROOT, "null", libc::S_IFCHR | 0o666, 0x103) {
            Ok(null) => {
                assert_eq!(null.attr.rdev, 0x103);
                assert_eq!(c.open(null.nodeid, libc::O_RDWR).map(|_| ()), Err(libc::EOPNOTSUPP));
            }
            Err(e) => assert_eq!(e, libc::EPERM, "a host without CAP_MKNOD"),
        }
    }
}
