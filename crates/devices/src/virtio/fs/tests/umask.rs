//! Modes of new files where the host does not let the device's thread have a umask of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};
use tempfile::tempdir;

use super::client::{Client, ROOT, config};
use super::special::tmpfile;
use crate::testing::with_refused;

/// Runs `body` where `unshare` is refused and the umask is 077, and looks whether the umask stayed.
fn without_unshare(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let masked = scope.spawn(|| {
            // Of this thread and those it starts alone. SAFETY: takes no pointers.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0, "{}", std::io::Error::last_os_error());
            // SAFETY: takes a number.
            unsafe { libc::umask(0o077) };
            // The two threads have one umask.
            with_refused(&[libc::SYS_unshare], body);
            // SAFETY: takes a number.
            let now = unsafe { libc::umask(0o077) };
            assert_eq!(now, 0o077, "the device changed the umask of the process");
        });
        masked.join().unwrap();
    });
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_modes_asked_for_come_without_a_umask_of_ones_own() {
    let dir = tempdir().unwrap();
    without_unshare(|| {
        let mut c = Client::new(config(dir.path()));
        let (f, open) = c.create(ROOT, "f", libc::O_RDWR, 0o666).unwrap();
        assert_eq!(c.write(f.nodeid, open.fh, 0, b"as ever"), Ok(7));
        let made = [
            (f, "f", libc::S_IFREG | 0o666),
            (
                c.create(ROOT, "read-only", libc::O_RDONLY, 0o444).unwrap().0,
                "read-only",
                libc::S_IFREG | 0o444,
            ),
            (c.create(ROOT, "set-id", libc::O_WRONLY, 0o6755).unwrap().0, "set-id", libc::S_IFREG | 0o6755),
            (c.create(ROOT, "own", libc::O_WRONLY, 0o600).unwrap().0, "own", libc::S_IFREG | 0o600),
            (c.mkdir(ROOT, "d", 0o1777).unwrap(), "d", libc::S_IFDIR | 0o1777),
            (c.mknod(ROOT, "p", libc::S_IFIFO | 0o622, 0).unwrap(), "p", libc::S_IFIFO | 0o622),
            (c.mknod(ROOT, "s", libc::S_IFSOCK | 0o755, 0).unwrap(), "s", libc::S_IFSOCK | 0o755),
            (c.mknod(ROOT, "n", libc::S_IFREG | 0o640, 0).unwrap(), "n", libc::S_IFREG | 0o640),
            (c.symlink(ROOT, "l", "d").unwrap(), "l", libc::S_IFLNK | 0o777),
        ];
        for (entry, name, mode) in made {
            assert_eq!(entry.attr.mode, mode, "{name} as the guest is told");
            assert_eq!(mode_of(&dir.path().join(name)), mode & 0o7777, "{name} on the host");
        }
        // A directory hands its group down, with the bit that says so.
        fs::set_permissions(dir.path().join("d"), PermissionsExt::from_mode(0o2775)).unwrap();
        let d = c.walk("d").unwrap();
        assert_eq!(c.mkdir(d, "e", 0o755).unwrap().attr.mode, libc::S_IFDIR | 0o2755);
        match tmpfile(&mut c, d, libc::O_RDWR) {
            Err(libc::EOPNOTSUPP) => println!("skipped: {:?} has no O_TMPFILE", dir.path()),
            other => assert_eq!(other.unwrap().0.attr.mode, libc::S_IFREG | 0o640),
        }
    });
}

#[test]
fn a_default_acl_keeps_the_place_of_the_umask() {
    let dir = tempdir().unwrap();
    // Version 2; entries of tag, permissions, id: the owner rwx, the group r-x, others nothing.
    let entries = [[1u16, 7], [4, 5], [32, 0]].map(|entry| [entry[0], entry[1], u16::MAX, u16::MAX]);
    let acl: Vec<u8> =
        [2u16, 0].iter().chain(entries.as_flattened()).flat_map(|word| word.to_le_bytes()).collect();
    match setxattr(dir.path(), "system.posix_acl_default", &acl, XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => return println!("skipped: {:?} has no ACLs", dir.path()),
        other => other.unwrap(),
    }
    without_unshare(|| {
        let mut c = Client::new(config(dir.path()));
        let (f, _) = c.create(ROOT, "f", libc::O_RDWR, 0o666).unwrap();
        let d = c.mkdir(ROOT, "d", 0o777).unwrap();
        assert_eq!((f.attr.mode & 0o7777, d.attr.mode & 0o7777), (0o640, 0o750));
    });
}
