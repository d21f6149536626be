//! Requests that wait for the host do not hold up others.

use std::fs;
use std::time::{Duration, Instant};

use fuse_backend_rs::abi::fuse_abi::{Opcode, ReadIn};
use purlin_vmm_core::memory::ByteValued;
use tempfile::{TempDir, tempdir};

use super::client::{Client, ROOT, config};
use super::kernel::Mount;
use crate::testing::Buf;
use crate::virtio::{ResetProgress, VirtioDevice};

/// A share with a directory `slow` on a file system whose server can be made to wait.
fn slow_share() -> Option<(TempDir, TempDir, Mount)> {
    let (dir, behind) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(behind.path().join("f"), "slow but sure").unwrap();
    fs::create_dir(dir.path().join("slow")).unwrap();
    let mount = Mount::at(config(behind.path()), &dir.path().join("slow"))?;
    Some((dir, behind, mount))
}

/// Sends without waiting for the answer.
fn send(c: &mut Client, opcode: Opcode, node: u64, args: &[u8], room: u32) {
    let header = c.header(opcode as u32, node, args.len());
    c.requests.want_interrupt();
    c.requests.submit(&[Buf::Read(header.as_slice()), Buf::Read(args), Buf::Write(16), Buf::Write(room)]);
    c.requests.kick();
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn others_go_on_while_one_waits() {
    let Some((dir, _behind, mount)) = slow_share() else { return };
    let mut c = Client::new(config(dir.path()));
    let _open = mount.gate.open_at_end();
    let slow = c.walk("slow/f").unwrap();
    let fh = c.open(slow, libc::O_RDWR).unwrap().fh;
    for (opcode, args) in [
        (Opcode::Read, ReadIn { fh, size: 100, ..ReadIn::default() }.as_slice().to_vec()),
        (Opcode::Fsync, [fh.to_le_bytes(), [0; 8]].concat()),
    ] {
        mount.gate.close(opcode);
        send(&mut c, opcode, slow, &args, 128);
        // Everything else is answered meanwhile.
        let f = c.put(ROOT, "f", b"fast");
        let quick = c.open(f, libc::O_RDWR).unwrap().fh;
        assert_eq!(c.read(f, quick, 0, 10).unwrap(), b"fast");
        assert_eq!(c.fsync(Opcode::Fsync, f, quick), Ok(()), "another thread waits for this");
        c.unlink(ROOT, "f").unwrap();
        // Rest has to wait, and the device goes on if it takes too long.
        assert!(c.device.quiesce(Instant::now() + Duration::from_millis(50)).is_err());
        assert!(c.statfs(ROOT).is_ok());
        mount.gate.open();
        c.device.quiesce(soon()).unwrap();
        let used = c.requests.used();
        assert_eq!(used.len(), 1, "{opcode:?}");
        let want = if matches!(opcode, Opcode::Read) { b"slow but sure".as_slice() } else { b"" };
        assert_eq!(&used[0].data[16..16 + want.len()], want);
        assert_eq!(used[0].len as usize, 16 + want.len());
        c.interrupt.take();
        c.device.resume();
    }
}

#[test]
fn a_reset_waits_and_a_dropped_device_does_not_write() {
    let Some((dir, _behind, mount)) = slow_share() else { return };
    let mut c = Client::new(config(dir.path()));
    let _open = mount.gate.open_at_end();
    let slow = c.walk("slow/f").unwrap();
    let fh = c.open(slow, libc::O_RDONLY).unwrap().fh;
    mount.gate.close(Opcode::Read);
    send(&mut c, Opcode::Read, slow, ReadIn { fh, size: 100, ..ReadIn::default() }.as_slice(), 128);
    // Until the request has left the queue.
    assert!(c.statfs(ROOT).is_ok());
    assert_eq!(c.device.reset(), ResetProgress::Pending);
    mount.gate.open();
    let end = soon();
    while c.device.reset() == ResetProgress::Pending {
        assert!(Instant::now() < end);
    }
}

/// A guest that sends more than can be in flight is served all the same, and none is lost.
#[test]
fn more_requests_than_threads() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let f = c.put(ROOT, "f", &[7; 8192]);
    let fh = c.open(f, libc::O_RDWR).unwrap().fh;
    let args = [fh.to_le_bytes(), [0; 8]].concat();
    let end = soon();
    let mut answered = 0;
    for _ in 0..5 {
        while c.requests.free_descriptors() < 600 {
            answered += c.requests.used().len();
            assert!(Instant::now() < end, "{answered} answers");
        }
        for _ in 0..200 {
            let header = c.header(Opcode::Fsync as u32, f, args.len());
            c.requests.submit(&[Buf::Read(header.as_slice()), Buf::Read(&args), Buf::Write(16)]);
        }
        c.requests.kick();
    }
    while answered < 1000 {
        answered += c.requests.used().iter().filter(|used| used.len == 16).count();
        assert!(Instant::now() < end, "{answered} answers");
    }
    c.device.quiesce(soon()).unwrap();
    assert!(c.device.save().is_ok());
}
