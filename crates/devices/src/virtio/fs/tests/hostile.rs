//! What no driver sends.

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode, ReadIn, WriteIn};
use purlin_vmm_core::memory::ByteValued;
use tempfile::tempdir;

use super::client::{Client, ROOT, config, cstr};
use crate::testing::Buf;

/// Names that are no names never reach the host.
#[test]
fn names() {
    let outer = tempdir().unwrap();
    let dir = outer.path().join("share");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    let mut c = Client::new(config(&dir));
    let f = c.put(ROOT, "f", b"");
    let long = "n".repeat(256);
    let names = ["", ".", "..", "/", "/etc/passwd", "../secret", "f/..", "./f", "a/b", "f/", long.as_str()];
    for name in names {
        let want = Err(if name == long { libc::ENAMETOOLONG } else { libc::EINVAL });
        assert_eq!(c.lookup(ROOT, name).map(|_| ()), want, "LOOKUP {name:?}");
        assert_eq!(c.mkdir(ROOT, name, 0o755).map(|_| ()), want, "MKDIR {name:?}");
        assert_eq!(c.create(ROOT, name, libc::O_RDWR, 0o644).map(|_| ()), want, "CREATE {name:?}");
        assert_eq!(c.symlink(ROOT, name, "t").map(|_| ()), want, "SYMLINK {name:?}");
        assert_eq!(c.mknod(ROOT, name, libc::S_IFREG, 0).map(|_| ()), want, "MKNOD {name:?}");
        assert_eq!(c.link(f, ROOT, name).map(|_| ()), want, "LINK {name:?}");
        assert_eq!(c.unlink(ROOT, name), want, "UNLINK {name:?}");
        assert_eq!(c.rmdir(ROOT, name), want, "RMDIR {name:?}");
        assert_eq!(c.rename((ROOT, "f"), (ROOT, name), 0), want, "RENAME to {name:?}");
        assert_eq!(c.rename((ROOT, name), (ROOT, "g"), 0), want, "RENAME from {name:?}");
    }
    // A NUL inside ends the name; what follows makes the message malformed.
    assert_eq!(c.call(Opcode::Lookup, ROOT, &[b"f\0g\0"], 128), Err(libc::EINVAL));
    assert_eq!(c.call(Opcode::Lookup, ROOT, &[b"f"], 128), Err(libc::EINVAL));
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}

/// Node numbers and handles the device never gave out.
#[test]
fn forged_numbers() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let f = c.put(ROOT, "f", b"data");
    let fh = c.open(f, libc::O_RDWR).unwrap().fh;
    for node in [0, 2 + f, u64::MAX, 1 << 63, (1 << 63) + 7, u64::MAX - 1] {
        let stale =
            |e: i32| [libc::ESTALE, libc::ENOENT, libc::EROFS, libc::ENOTDIR, libc::ENODATA].contains(&e);
        assert!(c.getattr(node).is_err_and(stale), "GETATTR {node:#x}");
        assert!(c.lookup(node, "f").is_err_and(stale), "LOOKUP {node:#x}");
        assert!(c.open(node, libc::O_RDONLY).is_err_and(stale), "OPEN {node:#x}");
        assert!(c.opendir(node).is_err_and(stale), "OPENDIR {node:#x}");
        assert!(c.mkdir(node, "d", 0o755).is_err_and(stale), "MKDIR {node:#x}");
        assert!(c.unlink(node, "f").is_err_and(stale), "UNLINK {node:#x}");
        assert!(c.link(node, ROOT, "l").is_err_and(stale), "LINK {node:#x}");
        assert!(c.rename((ROOT, "f"), (node, "g"), 0).is_err_and(stale), "RENAME {node:#x}");
        assert!(c.getxattr(node, "user.x", 10).is_err_and(stale), "GETXATTR {node:#x}");
        c.forget(node, u64::MAX);
        // A handle works with its own node only.
        assert!(c.read(node, fh, 0, 4).is_err(), "READ {node:#x}");
    }
    for bad in [0, fh + 1, u64::MAX] {
        assert_eq!(c.read(f, bad, 0, 4), Err(libc::EBADF));
        assert_eq!(c.write(f, bad, 0, b"x"), Err(libc::EBADF));
        assert_eq!(c.fsync(Opcode::Fsync, f, bad), Err(libc::EBADF));
        assert_eq!(c.readdir(ROOT, bad, 0, true, 4096), Err(libc::EBADF));
        assert_eq!(c.release(f, bad), Ok(()));
    }
    let dh = c.opendir(ROOT).unwrap().fh;
    assert_eq!(c.read(ROOT, dh, 0, 4), Err(libc::EBADF), "a directory is not read");
    assert_eq!(c.readdir(f, fh, 0, false, 4096), Err(libc::EBADF), "a file is not listed");
    assert_eq!(c.readdir(ROOT, dh, u64::MAX, false, 4096), Err(libc::EINVAL));
    // The root cannot be forgotten.
    c.forget(ROOT, u64::MAX);
    assert_eq!(c.read(f, fh, 0, 4).unwrap(), b"data");
}

/// Lengths that contradict each other get an error reply and change nothing.
#[test]
fn lengths() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let error = |reply: &[u8]| -> i32 {
        assert_eq!(reply.len(), 16, "{reply:?}");
        -i32::from_le_bytes(reply[4..8].try_into().unwrap())
    };
    let name = cstr("d");
    let mkdir = [&0o755u32.to_le_bytes()[..], &[0; 4], &name].concat();
    for len in [0, 1, 40, 41, 49, 51, 1 << 20, u32::MAX] {
        let header = InHeader { len, ..c.header(Opcode::Mkdir as u32, ROOT, 0) };
        let message = [header.as_slice(), &mkdir].concat();
        let reply = c.raw(&[Buf::Read(&message), Buf::Write(144)]);
        assert_eq!(error(&reply), libc::EINVAL, "len {len}");
    }
    let header = c.header(Opcode::Mkdir as u32, ROOT, mkdir.len());
    let message = [header.as_slice(), &mkdir].concat();
    // Too little room for the reply.
    for room in [16, 17, 143] {
        assert_eq!(error(&c.raw(&[Buf::Read(&message), Buf::Write(room)])), libc::EINVAL, "room {room}");
    }
    // No room for any reply: given back untouched.
    for room in [0, 1, 15] {
        assert_eq!(c.raw(&[Buf::Read(&message), Buf::Write(room)]), b"", "room {room}");
    }
    assert_eq!(c.raw(&[Buf::Read(&message)]), b"");
    // Cut headers, and nothing readable at all.
    for cut in [1, 16, 39] {
        assert_eq!(error(&c.raw(&[Buf::Read(&message[..cut]), Buf::Write(144)])), libc::EINVAL);
    }
    assert_eq!(error(&c.raw(&[Buf::Write(144)])), libc::EINVAL);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // In many small pieces it is fine.
    let pieces: Vec<Buf> = message.chunks(3).map(Buf::Read).chain((0..72).map(|_| Buf::Write(2))).collect();
    assert_eq!(c.raw(&pieces).len(), 144);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn sizes() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let f = c.put(ROOT, "f", b"data");
    let fh = c.open(f, libc::O_RDWR).unwrap().fh;
    // READ asks for more than it has room for: as much as fits.
    let args = ReadIn { fh, size: u32::MAX, ..ReadIn::default() };
    assert_eq!(c.call(Opcode::Read, f, &[args.as_slice()], 2).unwrap(), b"da");
    assert_eq!(c.call(Opcode::Read, f, &[args.as_slice()], 0).unwrap(), b"");
    let far = ReadIn { fh, size: 4, offset: u64::MAX, ..ReadIn::default() };
    assert_eq!(c.call(Opcode::Read, f, &[far.as_slice()], 4), Err(libc::EINVAL));
    // WRITE says more or less than it carries.
    for size in [0, 3, 5, u32::MAX] {
        let args = WriteIn { fh, size, ..WriteIn::default() };
        assert_eq!(c.call(Opcode::Write, f, &[args.as_slice(), b"1234"], 8), Err(libc::EINVAL), "{size}");
    }
    // READDIR with less room than it says.
    let dh = c.opendir(ROOT).unwrap().fh;
    let args = ReadIn { fh: dh, size: u32::MAX, ..ReadIn::default() };
    assert_eq!(c.call(Opcode::Readdir, ROOT, &[args.as_slice()], 4096), Err(libc::EINVAL));
    assert_eq!(c.readdir(ROOT, dh, 0, false, 0), Ok(vec![]));
    assert_eq!(c.readdir(ROOT, dh, 0, true, 20), Ok(vec![]));
    // A value longer than Linux allows.
    assert_eq!(c.setxattr(f, "user.x", &vec![0; (64 << 10) + 1]), Err(libc::E2BIG));
    assert_eq!(c.setxattr(f, "user.x", &vec![0; 256 << 10]), Err(libc::E2BIG));
    assert_eq!(c.getxattr(f, &"x".repeat(300), 10), Err(libc::ERANGE));
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"data");
}

#[test]
fn opcodes() {
    let dir = tempdir().unwrap();
    let mut c = Client::start(config(dir.path()));
    assert_eq!(c.lookup(ROOT, "x").map(|_| ()), Err(libc::EIO), "before INIT");
    assert_eq!(c.init(6, 0, 0).map(|_| ()), Err(libc::EPROTO));
    assert_eq!(c.init(7, 26, 0).map(|_| ()), Err(libc::EPROTO));
    assert_eq!(c.init(8, 0, 0).unwrap().major, 7);
    let out = c.init(7, 31, 0x7fff_ffff).unwrap();
    assert_eq!(u64::from(out.flags) & (1 << 16), 0, "no writeback cache");
    for opcode in [0u32, 7, 19, 50, 52, 53, 1000, 4096, 436_207_616, u32::MAX] {
        let header = c.header(opcode, ROOT, 0);
        let reply = c.raw(&[Buf::Read(header.as_slice()), Buf::Write(64)]);
        assert_eq!(reply[4..8], (-libc::ENOSYS).to_le_bytes(), "opcode {opcode}");
    }
    for opcode in [Opcode::Flush, Opcode::Access, Opcode::Getlk, Opcode::Setlkw, Opcode::Poll, Opcode::Bmap] {
        assert_eq!(c.call(opcode, ROOT, &[&[0; 64]], 64), Err(libc::ENOSYS), "{opcode:?}");
    }
    // No reply to these, on either queue, whatever is in them.
    for opcode in [Opcode::Interrupt, Opcode::Forget, Opcode::BatchForget] {
        for body in [0, 8, 24, 4000] {
            let header = c.header(opcode as u32, ROOT, body);
            let message = [header.as_slice(), &vec![0xff; body]].concat();
            assert_eq!(c.raw(&[Buf::Read(&message), Buf::Write(64)]), b"", "{opcode:?}");
        }
    }
    assert_eq!(c.call(Opcode::Destroy, ROOT, &[], 0), Ok(vec![]));
    assert_eq!(c.lookup(ROOT, "x").map(|_| ()), Err(libc::EIO), "after DESTROY");
}

/// Buffers outside of RAM, loops and heads that do not exist.
#[test]
fn rings() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let header = c.header(Opcode::Statfs as u32, ROOT, 0);
    // Descriptor 1000 and on are free: `submit` takes low ones first.
    let ram = c.ram.clone();
    let at = |n: u64| (40 << 20) + n * 4096;
    use purlin_vmm_core::memory::{Bytes, GuestAddress};
    ram.write_slice(header.as_slice(), GuestAddress(at(0))).unwrap();
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    // The reply goes to nowhere: an error reply into the first writable buffer.
    c.requests.write_descriptor(0, at(0), 40, NEXT, 1);
    c.requests.write_descriptor(1, at(1), 16, NEXT | WRITE, 2);
    c.requests.write_descriptor(2, 1 << 40, 80, WRITE, 0);
    c.requests.want_interrupt();
    c.requests.publish(0);
    c.requests.kick();
    assert_eq!(c.collect().len(), 0, "the ring helper knows no buffers of it");
    let mut reply = [0; 16];
    ram.read_slice(&mut reply, GuestAddress(at(1))).unwrap();
    assert_eq!(reply[4..8], (-libc::EIO).to_le_bytes());
    assert_eq!(reply[8..], header.unique.to_le_bytes());
    // Header beyond the end of RAM, across its end, and a loop of descriptors.
    for (addr, len, flags) in [(1u64 << 40, 40, 0), ((48 << 20) - 20, 40, 0), (at(0), 40, NEXT)] {
        c.requests.write_descriptor(0, addr, len, flags, 0);
        c.requests.want_interrupt();
        c.requests.publish(0);
        c.requests.kick();
        assert_eq!(c.collect().len(), 0);
    }
    assert!(c.statfs(ROOT).is_ok(), "the device goes on");
    // A head that is no descriptor is beyond repair.
    c.requests.publish(5000);
    c.requests.kick();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !c.interrupt.reset_needed() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
