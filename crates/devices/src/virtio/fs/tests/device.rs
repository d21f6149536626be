//! Configuration, overlay entries, read-only shares, the exit code.

use std::borrow::Cow;
use std::fs;
use std::sync::{Arc, Mutex};

use fuse_backend_rs::abi::fuse_abi::{Opcode, SetattrIn};
use tempfile::tempdir;

use super::client::{Client, ROOT, config, descriptors_below};
use crate::virtio::VirtioDevice;
use crate::virtio::fs::{Fs, FsConfig, FsConfigError, OverlayEntry, OverlayKind, Semantics, Source};

fn file(path: &str, data: &'static [u8], one_shot: bool) -> OverlayEntry {
    OverlayEntry {
        path: path.into(),
        mode: 0o755,
        kind: OverlayKind::File { data: Cow::Borrowed(data), one_shot },
    }
}

fn directory(path: &str) -> OverlayEntry {
    OverlayEntry { path: path.into(), mode: 0o750, kind: OverlayKind::Dir }
}

#[test]
fn wrong_configurations_are_named() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for tag in ["", "0123456789012345678901234567890123456", "a\0b"] {
        let error = Fs::new(FsConfig::new(tag, Source::Virtual)).err().unwrap();
        assert!(matches!(error, FsConfigError::Tag { len, .. } if len == tag.len()), "{error}");
    }
    for (name, errno) in [("none", libc::ENOENT), ("file", libc::ENOTDIR)] {
        let error = Fs::new(config(&dir.path().join(name))).err().unwrap();
        let host = error.host_error().and_then(std::io::Error::raw_os_error);
        assert_eq!(host, Some(errno), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let mut c = config(dir.path());
    c.overlay.push(file("a/b", b"", false));
    assert!(matches!(Fs::new(c).err().unwrap(), FsConfigError::Overlay { .. }));
    let mut c = config(dir.path());
    c.limits.handles = 0;
    assert!(matches!(Fs::new(c).err().unwrap(), FsConfigError::Limit { field: "handles", .. }));
}

#[test]
fn config_space_features_and_linked_roots() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let tag = "0123456789012345678901234567890123456"[..36].to_owned();
    let device = Fs::new(FsConfig::new(&tag, Source::Path(dir.path().join("link")))).unwrap();
    let mut space = [0xaa; 48];
    device.read_config(0, &mut space);
    assert_eq!(&space[..36], tag.as_bytes());
    assert_eq!(space[36..40], 1u32.to_le_bytes());
    assert_eq!(space[40..], [0xaa; 8]);
    device.read_config(u64::MAX, &mut space);
    assert_eq!((device.queue_sizes(), device.features()), (&[1024, 1024][..], 1 << 29));
}

#[test]
fn a_one_shot_init_over_the_hosts() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("init.krun"), "host's").unwrap();
    let mut config = config(dir.path());
    config.overlay.push(file("/init.krun", b"ours", true));
    let mut c = Client::new(config);
    let names: Vec<_> = c.list(ROOT, true, 4096).unwrap().into_iter().collect();
    assert!(names.iter().any(|e| e.0 == "init.krun" && e.1 == 0), "listing does not look it up: {names:?}");
    assert_eq!(c.mkdir(ROOT, "init.krun", 0o755).map(|_| ()), Err(libc::EEXIST));
    let found = c.lookup(ROOT, "init.krun").unwrap();
    assert_eq!((found.attr.size, found.attr.mode), (4, libc::S_IFREG | 0o755));
    assert_eq!((found.entry_valid, found.attr_valid), (0, 0));
    // The name is the host's now; who has the file keeps it.
    let host = c.lookup(ROOT, "init.krun").unwrap();
    assert_ne!(host.nodeid, found.nodeid);
    let fh = c.open(found.nodeid, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(found.nodeid, fh, 0, 100).unwrap(), b"ours");
    assert_eq!(c.read(found.nodeid, fh, 2, 100).unwrap(), b"rs");
    assert_eq!(c.read(found.nodeid, fh, u64::MAX, 100).unwrap(), b"");
    assert_eq!(c.getattr(found.nodeid).unwrap().attr.size, 4);
    assert_eq!(c.open(found.nodeid, libc::O_RDWR).map(|_| ()), Err(libc::EROFS));
    assert_eq!(c.write(found.nodeid, fh, 0, b"x"), Err(libc::EROFS));
    assert_eq!(c.link(found.nodeid, ROOT, "x").map(|_| ()), Err(libc::EROFS));
    c.release(found.nodeid, fh).unwrap();
    // A guest that starts again finds it again.
    c.init(7, 38, 0).unwrap();
    assert_eq!(c.lookup(ROOT, "init.krun").unwrap().nodeid, found.nodeid);
}

#[test]
fn a_share_without_a_host_directory() {
    let mut config = FsConfig::new("/dev/root", Source::Virtual);
    config.overlay = vec![
        file("init.krun", b"init", true),
        directory("dev"),
        directory("proc"),
        directory("dev/sub"),
        file("dev/sub/f", b"deep", false),
    ];
    let mut c = Client::new(config);
    assert_eq!(c.getattr(ROOT).unwrap().attr.mode, libc::S_IFDIR | 0o755);
    let dev = c.lookup(ROOT, "dev").unwrap();
    assert_eq!(dev.attr.mode, libc::S_IFDIR | 0o750);
    assert_eq!(c.mkdir(ROOT, "dev", 0o755).map(|_| ()), Err(libc::EEXIST));
    assert_eq!(c.mkdir(ROOT, "new", 0o755).map(|_| ()), Err(libc::EROFS));
    assert_eq!(c.lookup(ROOT, "new").map(|_| ()), Err(libc::ENOENT));
    let f = c.walk("dev/sub/f").unwrap();
    assert_eq!(c.lookup(f, "x").map(|_| ()), Err(libc::ENOTDIR));
    let fh = c.open(f, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(f, fh, 0, 9).unwrap(), b"deep");
    for plus in [false, true] {
        let names: Vec<_> = c.list(ROOT, plus, 4096).unwrap().into_iter().map(|e| e.0).collect();
        assert_eq!(names, [".", ".."]);
    }
    assert_eq!(c.statfs(ROOT).unwrap().bsize, 4096);
    assert_eq!(c.getxattr(f, "security.capability", 20), Err(libc::ENODATA));
    assert_eq!(c.readlink(f), Err(libc::EINVAL));
    assert_eq!(c.lookup(ROOT, "init.krun").unwrap().attr.size, 4);
    assert_eq!(c.lookup(ROOT, "init.krun").map(|_| ()), Err(libc::ENOENT));
}

#[test]
fn overlay_names_cannot_be_changed() {
    let dir = tempdir().unwrap();
    let mut config = config(dir.path());
    config.overlay = vec![directory("d"), file("d/f", b"", false)];
    let mut c = Client::new(config);
    let host = c.put(ROOT, "host", b"");
    let d = c.lookup(ROOT, "d").unwrap().nodeid;
    assert_eq!(c.rmdir(ROOT, "d"), Err(libc::EROFS));
    assert_eq!(c.unlink(d, "f"), Err(libc::EROFS));
    assert_eq!(c.rename((ROOT, "d"), (ROOT, "e"), 0), Err(libc::EROFS));
    assert_eq!(c.rename((ROOT, "host"), (ROOT, "d"), 0), Err(libc::EEXIST));
    assert_eq!(c.rename((ROOT, "host"), (d, "g"), 0), Err(libc::EROFS));
    assert_eq!(c.create(d, "g", libc::O_RDWR, 0o644).map(|_| ()), Err(libc::EROFS));
    assert_eq!(c.link(host, ROOT, "d").map(|_| ()), Err(libc::EEXIST));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn read_only_means_nothing_is_written() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "data").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let before = fs::metadata(dir.path().join("f")).unwrap();
    let mut config = config(dir.path());
    config.read_only = true;
    config.overlay.push(directory("virtual"));
    let mut c = Client::new(config);
    let f = c.walk("f").unwrap();
    for flags in [libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY | libc::O_TRUNC] {
        assert_eq!(c.open(f, flags).map(|_| ()), Err(libc::EROFS), "{flags:#x}");
    }
    let fh = c.open(f, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(f, fh, 0, 9).unwrap(), b"data");
    let rofs = Err(libc::EROFS);
    assert_eq!(c.write(f, fh, 0, b"x"), Err(libc::EROFS));
    assert_eq!(c.create(ROOT, "g", libc::O_RDONLY, 0o644).map(|_| ()), rofs);
    assert_eq!(c.mkdir(ROOT, "g", 0o755).map(|_| ()), rofs);
    assert_eq!(c.mkdir(ROOT, "virtual", 0o755).map(|_| ()), Err(libc::EEXIST));
    assert_eq!(c.mknod(ROOT, "g", libc::S_IFREG, 0).map(|_| ()), rofs);
    assert_eq!(c.symlink(ROOT, "g", "t").map(|_| ()), rofs);
    assert_eq!(c.link(f, ROOT, "g").map(|_| ()), rofs);
    assert_eq!(c.unlink(ROOT, "f"), rofs);
    assert_eq!(c.rmdir(ROOT, "d"), rofs);
    assert_eq!(c.rename((ROOT, "f"), (ROOT, "g"), 0), rofs);
    assert_eq!(c.fallocate(f, fh, 0, 0, 1 << 20), rofs);
    assert_eq!(c.setxattr(f, "user.a", b"v"), rofs);
    assert_eq!(c.removexattr(f, "user.a"), rofs);
    assert_eq!(c.fsync(Opcode::Fsync, f, fh), Ok(()));
    for valid in [1, 2, 4, 8, 16, 32, 0x80, 0x100, 0x1ff] {
        let args = SetattrIn { valid, ..SetattrIn::default() };
        assert_eq!(c.setattr(f, args).map(|_| ()), rofs, "SETATTR {valid:#x}");
    }
    assert_eq!(c.ioctl(f, 0x4008_6602, 0), Err(libc::ENOTTY), "FS_IOC_SETFLAGS");
    let after = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!(before.accessed().unwrap(), after.accessed().unwrap());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "f"]);
}

#[test]
fn the_exit_code_arrives_from_any_inode() {
    let dir = tempdir().unwrap();
    let codes = Arc::new(Mutex::new(Vec::new()));
    let mut config = config(dir.path());
    let sink = codes.clone();
    config.exit_code = Some(Arc::new(move |code| sink.lock().unwrap().push(code)));
    let mut c = Client::new(config);
    let f = c.put(ROOT, "f", b"");
    for (node, arg) in [(ROOT, 0), (f, 3), (ROOT, 255), (f, u64::from(u32::MAX)), (f, u64::MAX)] {
        assert_eq!(c.ioctl(node, 0x7602, arg), Ok(vec![0; 16]));
    }
    assert_eq!(*codes.lock().unwrap(), [0, 3, 255, -1, -1]);
    assert_eq!(c.ioctl(f, 0x7601, 1), Err(libc::ENOTTY));
}

#[test]
fn simplified_semantics_do_not_cache_attributes() {
    let dir = tempdir().unwrap();
    let mut config = config(dir.path());
    config.semantics = Semantics::Simplified;
    let mut c = Client::start(config);
    let out = c.init(7, 38, u64::MAX).unwrap();
    assert_eq!(out.flags2 & (1 << 8), 0, "no idmaps");
    let d = c.mkdir(ROOT, "d", 0o755).unwrap();
    assert_eq!((d.entry_valid, d.attr_valid), (5, 0));
}

#[test]
fn a_dropped_device_leaves_no_descriptors() {
    let dir = tempdir().unwrap();
    for _ in 0..3 {
        let mut c = Client::new(config(dir.path()));
        let d = c.mkdir(ROOT, "d", 0o755).unwrap().nodeid;
        let f = c.put(d, "f", b"x");
        c.open(f, libc::O_RDWR).unwrap();
        c.opendir(d).unwrap();
        c.unlink(d, "f").unwrap();
        assert!(descriptors_below(dir.path()) >= 3);
        c.rmdir(ROOT, "d").unwrap();
        drop(c);
        assert_eq!(descriptors_below(dir.path()), 0);
    }
}
