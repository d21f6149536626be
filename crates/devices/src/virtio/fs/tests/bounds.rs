//! What a guest can make the host hold.

use std::fs;
use std::os::fd::AsRawFd;

use tempfile::tempdir;

use super::client::{Client, ROOT, config, descriptors_below};
use crate::virtio::VirtioDevice;

#[test]
fn descriptors_stay_bounded_at_a_hundred_thousand_inodes() {
    let dir = tempdir().unwrap();
    for d in 0..100 {
        let sub = dir.path().join(format!("d{d}"));
        fs::create_dir(&sub).unwrap();
        for f in 0..1000 {
            fs::File::create(sub.join(format!("f{f}"))).unwrap();
        }
    }
    let mut small = config(dir.path());
    small.limits.cached_descriptors = 64;
    let mut c = Client::new(small);
    let mut nodes = Vec::new();
    for d in 0..100 {
        let sub = c.lookup(ROOT, &format!("d{d}")).unwrap().nodeid;
        nodes.extend(c.list(sub, true, 1 << 16).unwrap().into_iter().map(|e| e.1).filter(|n| *n != 0));
    }
    assert_eq!(nodes.len(), 100_000);
    // Touch a part of them in a way that needs descriptors.
    for node in nodes.iter().step_by(50) {
        let fh = c.open(*node, libc::O_RDONLY).unwrap().fh;
        c.release(*node, fh).unwrap();
        c.getattr(*node).unwrap();
    }
    // The cache and the root.
    let open = descriptors_below(dir.path());
    assert!((2..=65).contains(&open), "{open} descriptors");
    c.device.quiesce(std::time::Instant::now() + std::time::Duration::from_secs(5)).unwrap();
    let section = c.device.save().unwrap();
    assert!(section.payload.len() < 9 << 20, "{} bytes", section.payload.len());
    drop(c);
    assert_eq!(descriptors_below(dir.path()), 0);
}

#[test]
fn handles_are_bounded() {
    let dir = tempdir().unwrap();
    let mut small = config(dir.path());
    small.limits.handles = 8;
    let mut c = Client::new(small);
    let f = c.put(ROOT, "f", b"x");
    let open: Vec<u64> = (0..8).map(|_| c.open(f, libc::O_RDONLY).unwrap().fh).collect();
    assert_eq!(c.open(f, libc::O_RDONLY).map(|_| ()), Err(libc::EMFILE));
    assert_eq!(c.opendir(ROOT).map(|_| ()), Err(libc::EMFILE));
    assert_eq!(c.create(ROOT, "g", libc::O_RDWR, 0o644).map(|_| ()), Err(libc::EMFILE));
    assert!(!dir.path().join("g").exists(), "nothing is created that cannot be opened");
    c.release(f, open[0]).unwrap();
    assert!(c.opendir(ROOT).is_ok());
}

#[test]
fn nodes_are_bounded() {
    let dir = tempdir().unwrap();
    for i in 0..20 {
        fs::write(dir.path().join(format!("f{i}")), "").unwrap();
    }
    let mut small = config(dir.path());
    small.limits.nodes = 10;
    let mut c = Client::new(small);
    for i in 0..9 {
        c.lookup(ROOT, &format!("f{i}")).unwrap();
    }
    assert_eq!(c.lookup(ROOT, "f10").map(|_| ()), Err(libc::ENOMEM));
    let known = c.list(ROOT, true, 65536).unwrap().into_iter().filter(|e| e.1 != 0).count();
    assert_eq!(known, 9, "listed, but not told of");
    let f0 = c.walk("f0").unwrap();
    c.forget(f0, 100);
    assert!(c.lookup(ROOT, "f10").is_ok());
}

/// Names longer than PATH_MAX in all, walked in pieces.
#[test]
fn deep_trees() {
    let dir = tempdir().unwrap();
    let mut tiny = config(dir.path());
    tiny.limits.cached_descriptors = 1;
    let mut c = Client::new(tiny);
    let name = "d".repeat(200);
    let mut node = ROOT;
    for _ in 0..100 {
        node = c.mkdir(node, &name, 0o755).unwrap().nodeid;
    }
    let f = c.put(node, "f", b"deep");
    // Something else takes the one place in the cache.
    c.getxattr(ROOT, "user.none", 1).unwrap_err();
    let other = c.put(ROOT, "other", b"");
    c.open(other, libc::O_RDONLY).unwrap();
    let fh = c.open(f, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(f, fh, 0, 9).unwrap(), b"deep");
}

/// A host that has no descriptors left answers EMFILE and recovers. In a process of its own, since the
/// limit is the process's.
#[test]
fn a_host_without_descriptors() {
    const CHILD: &str = "PURLIN_FS_TEST_NO_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "virtio::fs::tests::bounds::a_host_without_descriptors";
        let out = std::process::Command::new(me).args([name, "--exact"]).env(CHILD, "1").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        return;
    }
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    for i in 0..200 {
        c.put(ROOT, &format!("f{i}"), b"x");
    }
    let highest = fs::File::open(dir.path()).unwrap().as_raw_fd() as u64;
    let limit = rustix::process::Rlimit { current: Some(highest + 60), maximum: Some(highest + 60) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    // More inodes than descriptors: the cache gives way.
    for i in 0..200 {
        let node = c.walk(&format!("f{i}")).unwrap();
        let fh = c.open(node, libc::O_RDWR).unwrap().fh;
        c.release(node, fh).unwrap();
    }
    // More open files than descriptors: the guest is told.
    let mut open = Vec::new();
    let refused = loop {
        let node = c.walk(&format!("f{}", open.len())).unwrap();
        match c.open(node, libc::O_RDONLY) {
            Ok(o) => open.push((node, o.fh)),
            Err(e) => break e,
        }
    };
    assert_eq!(refused, libc::EMFILE);
    assert!(open.len() > 20, "{}", open.len());
    for (node, fh) in open {
        assert_eq!(c.read(node, fh, 0, 1).unwrap(), b"x");
        c.release(node, fh).unwrap();
    }
    let f7 = c.walk("f7").unwrap();
    c.open(f7, libc::O_RDONLY).unwrap();
}
