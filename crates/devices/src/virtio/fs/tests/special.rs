//! Files without a name, copies inside the host, and a host that is full.

use std::fs;

use fuse_backend_rs::abi::fuse_abi::{CopyFileRangeIn, CreateIn, EntryOut, InHeader, Opcode, OpenOut};
use purlin_vmm_core::memory::ByteValued;
use tempfile::tempdir;

use super::client::{Client, ROOT, config, cstr, pod};
use super::kernel::{mount, own_mounts};
use crate::testing::Buf;
use crate::virtio::{SaveError, VirtioDevice};

pub fn tmpfile(c: &mut Client, dir: u64, flags: i32) -> Result<(EntryOut, OpenOut), i32> {
    let args = CreateIn { flags: flags as u32, mode: 0o640, umask: 0, fuse_flags: 0 };
    let body = [args.as_slice(), &cstr("/")].concat();
    let header = InHeader { opcode: 51, ..c.header(0, dir, body.len()) };
    let reply = c.raw(&[Buf::Read(header.as_slice()), Buf::Read(&body), Buf::Write(16), Buf::Write(144)]);
    let error = i32::from_le_bytes(reply[4..8].try_into().unwrap());
    if error == 0 { Ok((pod(&reply[16..144]), pod(&reply[144..]))) } else { Err(-error) }
}

#[test]
fn files_without_a_name() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let d = c.mkdir(ROOT, "d", 0o755).unwrap().nodeid;
    let (entry, open) = match tmpfile(&mut c, d, libc::O_RDWR) {
        Err(libc::EOPNOTSUPP) => return println!("skipped: {:?} has no O_TMPFILE", dir.path()),
        other => other.unwrap(),
    };
    assert_eq!((entry.attr.nlink, entry.attr.mode), (0, libc::S_IFREG | 0o640));
    assert_eq!(c.write(entry.nodeid, open.fh, 0, b"hidden"), Ok(6));
    assert_eq!(c.getattr(entry.nodeid).unwrap().attr.size, 6);
    assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 0);
    // It cannot be found again by a later machine.
    c.device.quiesce(std::time::Instant::now() + std::time::Duration::from_secs(5)).unwrap();
    assert!(matches!(c.device.save(), Err(SaveError::Unsavable { .. })));
    c.device.resume();
    c.interrupt.take();
    // Until it gets a name.
    assert_eq!(c.link(entry.nodeid, d, "named").unwrap().nodeid, entry.nodeid);
    assert_eq!(fs::read(dir.path().join("d/named")).unwrap(), b"hidden");
    c.device.quiesce(std::time::Instant::now() + std::time::Duration::from_secs(5)).unwrap();
    assert!(c.device.save().is_ok());
    c.device.resume();
    c.interrupt.take();
    assert_eq!(c.read(entry.nodeid, open.fh, 0, 9).unwrap(), b"hidden");
    // One that is never to have a name, and one that is forgotten.
    let (never, open) = tmpfile(&mut c, d, libc::O_RDWR | libc::O_EXCL).unwrap();
    assert_eq!(c.link(never.nodeid, d, "x").map(|_| ()), Err(libc::ENOENT));
    c.release(never.nodeid, open.fh).unwrap();
    c.forget(never.nodeid, 1);
    assert_eq!(c.getattr(never.nodeid).map(|_| ()), Err(libc::ESTALE));
    assert_eq!(tmpfile(&mut c, entry.nodeid, libc::O_RDWR).map(|_| ()), Err(libc::ENOTDIR));
    assert_eq!(tmpfile(&mut c, d, libc::O_RDONLY).map(|_| ()), Err(libc::EINVAL));
}

#[test]
fn copies_stay_inside_the_host() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let data: Vec<u8> = (0..200_000u32).map(|i| (i / 3) as u8).collect();
    let from = c.put(ROOT, "from", &data);
    let to = c.put(ROOT, "to", b"0123456789");
    let (a, b) = (c.open(from, libc::O_RDONLY).unwrap().fh, c.open(to, libc::O_WRONLY).unwrap().fh);
    let mut copy = |node, fh_in, offset_in, nodeid_out, fh_out, offset_out, len, flags| {
        let args = CopyFileRangeIn { fh_in, offset_in, nodeid_out, fh_out, offset_out, len, flags };
        c.call(Opcode::CopyFileRange, node, &[args.as_slice()], 8).map(|b| pod::<[u32; 2]>(&b)[0])
    };
    assert_eq!(copy(from, a, 1000, to, b, 5, 150_000, 0), Ok(150_000));
    assert_eq!(copy(from, a, 199_999, to, b, 0, u64::MAX / 2, 0), Ok(1));
    assert_eq!(copy(from, a, 200_000, to, b, 0, 10, 0), Ok(0));
    for (want, args) in [
        (libc::EBADF, (from, b, 0, to, b, 0, 10, 0)),
        (libc::EBADF, (from, a, 0, from, b, 0, 10, 0)),
        (libc::EBADF, (from, a, 0, to, 99, 0, 10, 0)),
        (libc::EBADF, (from, a, 0, from, a, 0, 10, 0)),
        (libc::EINVAL, (from, a, 0, to, b, 0, 10, 1)),
        (libc::EINVAL, (from, a, u64::MAX, to, b, 0, 10, 0)),
        (libc::EINVAL, (from, a, 0, to, b, u64::MAX, 10, 0)),
    ] {
        let (n, i, oi, no, o, oo, len, flags) = args;
        assert_eq!(copy(n, i, oi, no, o, oo, len, flags), Err(want), "{args:?}");
    }
    let got = fs::read(dir.path().join("to")).unwrap();
    assert_eq!(got.len(), 150_005);
    assert!(got[5..] == data[1000..151_000]);
    assert_eq!(&got[..5], &[data[199_999], b'1', b'2', b'3', b'4']);
}

/// Needs root, for a small file system.
#[test]
fn a_full_host() {
    let dir = tempdir().unwrap();
    if !own_mounts() {
        return;
    }
    mount(c"none", dir.path(), c"tmpfs", 0, c"size=1m,nr_inodes=20").unwrap();
    let mut c = Client::new(config(dir.path()));
    let (f, open) = c.create(ROOT, "f", libc::O_RDWR, 0o644).unwrap();
    let data = vec![1; 900 << 10];
    assert_eq!(c.write(f.nodeid, open.fh, 0, &data), Ok(900 << 10));
    // What fits is written, then nothing more.
    let part = c.write(f.nodeid, open.fh, 900 << 10, &data).unwrap();
    assert!(part > 0 && part < 900 << 10, "{part}");
    assert_eq!(c.write(f.nodeid, open.fh, 1 << 20, b"x"), Err(libc::ENOSPC));
    assert_eq!(c.fallocate(f.nodeid, open.fh, 0, 0, 4 << 20), Err(libc::ENOSPC));
    let free = c.statfs(ROOT).unwrap();
    assert_eq!((free.bavail, free.blocks), (0, 256));
    let mut made = 0;
    let refused = loop {
        match c.mkdir(ROOT, &format!("d{made}"), 0o755) {
            Ok(_) => made += 1,
            Err(e) => break e,
        }
        assert!(made < 20);
    };
    assert_eq!(refused, libc::ENOSPC);
    assert_eq!(c.symlink(ROOT, "s", "t").map(|_| ()), Err(libc::ENOSPC));
    assert_eq!(c.create(ROOT, "g", libc::O_RDWR, 0o644).map(|_| ()), Err(libc::ENOSPC));
    // Room again.
    c.rmdir(ROOT, "d0").unwrap();
    c.unlink(ROOT, "f").unwrap();
    c.release(f.nodeid, open.fh).unwrap();
    c.forget(f.nodeid, 1);
    let g = c.put(ROOT, "g", &data);
    assert_eq!(c.getattr(g).unwrap().attr.size, 900 << 10);
}
