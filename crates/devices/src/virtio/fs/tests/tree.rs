//! Names: finding, making, moving and removing them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::tempdir;

use super::client::{Client, ROOT, config};

#[test]
fn find_and_list() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    fs::write(dir.path().join("a/b/c/f"), "deep").unwrap();
    let mut c = Client::new(config(dir.path()));
    let node = c.walk("a/b/c/f").unwrap();
    assert_eq!(c.walk("a/b/c/f"), Ok(node), "the same file is the same node");
    let fh = c.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(node, fh, 0, 100).unwrap(), b"deep");
    assert_eq!(c.lookup(ROOT, "none").map(|_| ()), Err(libc::ENOENT));
    assert_eq!(c.lookup(node, "x").map(|_| ()), Err(libc::ENOTDIR));
    for i in 0..300 {
        fs::write(dir.path().join(format!("file-with-a-longer-name-{i:03}")), "").unwrap();
    }
    for plus in [false, true] {
        for size in [400, 4096, 65536] {
            let mut names: Vec<_> = c.list(ROOT, plus, size).unwrap();
            names.sort();
            assert_eq!(names.len(), 303, "plus {plus} size {size}");
            assert_eq!((names[0].0.as_str(), names[1].0.as_str(), names[2].0.as_str()), (".", "..", "a"));
            assert_eq!(names[2].2, u32::from(libc::DT_DIR));
            if plus {
                assert_eq!((names[0].1, names[1].1), (0, 0), "the guest knows itself");
                assert!(names[2..].iter().all(|n| n.1 > ROOT));
                assert_eq!(c.lookup(ROOT, "a").unwrap().nodeid, names[2].1);
            }
        }
    }
}

#[test]
fn entries_removed_while_listing_do_not_hide_others() {
    let dir = tempdir().unwrap();
    for i in 0..500 {
        fs::write(dir.path().join(format!("f{i}")), "").unwrap();
    }
    let mut c = Client::new(config(dir.path()));
    let fh = c.opendir(ROOT).unwrap().fh;
    let (mut seen, mut offset) = (0, 0);
    loop {
        let reply = c.readdir(ROOT, fh, offset, true, 4096).unwrap();
        if reply.is_empty() {
            break;
        }
        for (name, _, _, next) in super::client::parse_dir(&reply, true) {
            offset = next;
            if !name.starts_with('.') {
                c.unlink(ROOT, &name).unwrap();
                seen += 1;
            }
        }
    }
    assert_eq!((seen, fs::read_dir(dir.path()).unwrap().count()), (500, 0));
}

#[test]
fn hard_links_are_one_inode() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let a = c.put(ROOT, "a", b"shared");
    let b = c.link(a, ROOT, "b").unwrap();
    assert_eq!((b.nodeid, b.attr.nlink), (a, 2));
    assert_eq!(c.lookup(ROOT, "a").unwrap().nodeid, a);
    // Either name may go.
    c.unlink(ROOT, "a").unwrap();
    assert_eq!(c.lookup(ROOT, "b").unwrap().nodeid, a);
    let fh = c.open(a, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(a, fh, 0, 10).unwrap(), b"shared");
    c.link(a, ROOT, "a").unwrap();
    c.unlink(ROOT, "b").unwrap();
    // Gone by the last name too, but open.
    c.unlink(ROOT, "a").unwrap();
    assert_eq!(c.read(a, fh, 0, 10).unwrap(), b"shared");
    assert_eq!(c.getattr(a).unwrap().attr.nlink, 0);
}

#[test]
fn links_hold_any_target_and_are_not_followed() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let long = "t".repeat(4095);
    for (name, target) in [("a", "/etc"), ("b", "../../.."), ("c", long.as_str())] {
        let node = c.symlink(ROOT, name, target).unwrap().nodeid;
        assert_eq!(c.readlink(node).unwrap(), target.as_bytes());
        assert_eq!(c.lookup(node, "passwd").map(|_| ()), Err(libc::ENOTDIR));
        assert_eq!(c.opendir(node).map(|_| ()), Err(libc::ENOTDIR));
    }
    let hard = c.walk("a").and_then(|node| c.link(node, ROOT, "a2")).unwrap();
    assert_eq!(c.readlink(hard.nodeid).unwrap(), b"/etc", "the link itself was linked");
    assert_eq!(c.readlink(ROOT), Err(libc::EINVAL));
}

#[test]
fn renames_take_children_along() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let old = c.mkdir(ROOT, "old", 0o755).unwrap().nodeid;
    let sub = c.mkdir(old, "sub", 0o755).unwrap().nodeid;
    let f = c.put(sub, "f", b"1");
    let other = c.mkdir(ROOT, "other", 0o755).unwrap().nodeid;
    c.rename((ROOT, "old"), (other, "new"), 0).unwrap();
    let fh = c.open(f, libc::O_RDWR).unwrap().fh;
    assert_eq!(c.read(f, fh, 0, 1).unwrap(), b"1");
    c.put(sub, "g", b"2");
    assert_eq!(fs::read(dir.path().join("other/new/sub/g")).unwrap(), b"2");
    assert_eq!(c.lookup(ROOT, "old").map(|_| ()), Err(libc::ENOENT));
    assert_eq!(c.walk("other/new/sub/f"), Ok(f));
}

#[test]
fn renames_over_and_across() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let a = c.put(ROOT, "a", b"a");
    let b = c.put(ROOT, "b", b"b");
    assert_eq!(c.rename((ROOT, "a"), (ROOT, "b"), libc::RENAME_NOREPLACE), Err(libc::EEXIST));
    c.rename((ROOT, "a"), (ROOT, "b"), libc::RENAME_EXCHANGE).unwrap();
    for (node, want) in [(a, b"a"), (b, b"b")] {
        let fh = c.open(node, libc::O_RDONLY).unwrap().fh;
        assert_eq!(c.read(node, fh, 0, 9).unwrap(), want);
    }
    assert_eq!((c.walk("b"), c.walk("a")), (Ok(a), Ok(b)));
    // a (named "b") replaces b (named "a"), which stays readable while open.
    let open_b = c.open(b, libc::O_RDONLY).unwrap().fh;
    c.rename((ROOT, "b"), (ROOT, "a"), 0).unwrap();
    assert_eq!(c.walk("a"), Ok(a));
    assert_eq!(c.read(b, open_b, 0, 9).unwrap(), b"b");
    assert_eq!(c.getattr(b).unwrap().attr.nlink, 0);
    assert_eq!(c.rename((ROOT, "a"), (ROOT, "x"), 64), Err(libc::EINVAL));
    assert_eq!(c.rename((ROOT, "none"), (ROOT, "x"), 0), Err(libc::ENOENT));
}

#[test]
fn a_removed_file_works_while_it_is_open() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let (entry, open) = c.create(ROOT, "f", libc::O_RDWR, 0o600).unwrap();
    let (node, fh) = (entry.nodeid, open.fh);
    c.unlink(ROOT, "f").unwrap();
    assert_eq!(c.write(node, fh, 0, b"still"), Ok(5));
    assert_eq!(c.getattr(node).unwrap().attr.size, 5);
    let again = c.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(c.read(node, again, 0, 9).unwrap(), b"still");
    // A new file of that name is another one.
    assert_ne!(c.put(ROOT, "f", b"new"), node);
    c.release(node, fh).unwrap();
    c.release(node, again).unwrap();
    c.forget(node, 1);
    assert_eq!(c.getattr(node).map(|_| ()), Err(libc::ESTALE));
    let d = c.mkdir(ROOT, "d", 0o755).unwrap().nodeid;
    c.put(d, "x", b"");
    assert_eq!(c.rmdir(ROOT, "d"), Err(libc::ENOTEMPTY));
    assert_eq!(c.unlink(ROOT, "d"), Err(libc::EISDIR));
    c.unlink(d, "x").unwrap();
    c.rmdir(ROOT, "d").unwrap();
}

#[test]
fn another_object_under_the_name_is_stale() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), "first").unwrap();
    fs::write(dir.path().join("g"), "g").unwrap();
    // A cache of one descriptor, so that nothing is reached by an old one.
    let mut small = config(dir.path());
    small.limits.cached_descriptors = 1;
    let mut c = Client::new(small);
    let f = c.walk("d/f").unwrap();
    let g = c.walk("g").unwrap();
    c.open(g, libc::O_RDONLY).unwrap();
    // Removed and made again at once: most file systems give the same inode number.
    fs::remove_file(dir.path().join("d/f")).unwrap();
    fs::write(dir.path().join("d/f"), "second").unwrap();
    assert_eq!(c.getattr(f).map(|_| ()), Err(libc::ESTALE));
    assert_eq!(c.open(f, libc::O_RDONLY).map(|_| ()), Err(libc::ESTALE));
    let now = c.walk("d/f").unwrap();
    assert_ne!(now, f);
    fs::remove_file(dir.path().join("d/f")).unwrap();
    assert_eq!(c.getattr(now).map(|_| ()), Err(libc::ESTALE));
    fs::create_dir(dir.path().join("d/f")).unwrap();
    assert_eq!(c.getattr(now).map(|_| ()), Err(libc::ESTALE), "another type");
}

/// Somebody on the host keeps exchanging a directory for a link to a secret outside.
#[test]
fn a_link_put_in_the_way_is_never_followed() {
    let dir = tempdir().unwrap();
    let secret = tempdir().unwrap();
    fs::write(secret.path().join("f"), "secret").unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/f"), "public").unwrap();
    std::os::unix::fs::symlink(secret.path(), dir.path().join("evil")).unwrap();
    fs::rename(dir.path().join("real"), dir.path().join("d")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let attacker = {
        let (stop, root) = (stop.clone(), dir.path().to_owned());
        std::thread::spawn(move || {
            let root = fs::File::open(root).unwrap();
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "d", &root, "evil", flags).unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    // Nothing stays cached, so every request walks the names again.
    let mut small = config(dir.path());
    small.limits.cached_descriptors = 1;
    let mut c = Client::new(small);
    let mut reads = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < end {
        let Ok(d) = c.lookup(ROOT, "d") else { continue };
        let Ok(f) = c.lookup(d.nodeid, "f") else { continue };
        let Ok(open) = c.open(f.nodeid, libc::O_RDWR) else { continue };
        assert_eq!(c.read(f.nodeid, open.fh, 0, 100).unwrap(), b"public");
        c.release(f.nodeid, open.fh).unwrap();
        let _ = c.create(d.nodeid, "made", libc::O_WRONLY, 0o600).map(|(e, o)| c.release(e.nodeid, o.fh));
        let _ = c.unlink(d.nodeid, "made");
        reads += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = attacker.join().unwrap();
    assert!(swaps > 100 && reads > 10, "{swaps} swaps, {reads} reads");
    let left: Vec<_> = fs::read_dir(secret.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["f"]);
    assert_eq!(fs::read(secret.path().join("f")).unwrap(), b"secret");
}
