//! Quiesce, save, restore, resume, abort, reset.

use std::fs;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use purlin_snapshot::Section;
use tempfile::{TempDir, tempdir};

use super::client::{Client, ROOT, config, descriptors_below};
use crate::testing::Buf;
use crate::virtio::fs::{Fs, FsConfig, OverlayEntry, OverlayKind, Source};
use crate::virtio::{ResetProgress, SaveError, VirtioDevice};
use fuse_backend_rs::abi::fuse_abi::Opcode;
use purlin_vmm_core::memory::ByteValued;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// Saves the client's device and goes on with a new one restored from that.
pub fn move_to_new_device(c: &mut Client, config: FsConfig) {
    c.device.quiesce(soon()).unwrap();
    let section = c.device.save().unwrap();
    let mut fresh = Fs::new(config).unwrap();
    fresh.restore(&section, Some(c.context())).unwrap();
    assert_eq!(fresh.save().unwrap(), section, "saving again gives the same bytes");
    c.device = fresh;
    c.device.resume();
}

fn one_shot(dir: &TempDir) -> FsConfig {
    let mut config = config(dir.path());
    let kind = OverlayKind::File { data: b"init".into(), one_shot: true };
    config.overlay.push(OverlayEntry { path: "init.krun".into(), mode: 0o755, kind });
    config
}

#[test]
fn open_files_go_on_after_a_restore() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(one_shot(&dir));
    let init = c.walk("init.krun").unwrap();
    let d = c.mkdir(ROOT, "d", 0o755).unwrap().nodeid;
    for i in 0..50 {
        c.put(d, &format!("f{i}"), format!("data{i}").as_bytes());
    }
    let (f, open) = c.create(d, "open", libc::O_RDWR, 0o600).unwrap();
    let (f, fh) = (f.nodeid, open.fh);
    c.write(f, fh, 0, b"before").unwrap();
    let dh = c.opendir(d).unwrap().fh;
    let first = c.readdir(d, dh, 0, false, 1024).unwrap();
    let first = super::client::parse_dir(&first, false);
    move_to_new_device(&mut c, one_shot(&dir));
    // Same node and handle numbers.
    assert_eq!(c.read(f, fh, 0, 9).unwrap(), b"before");
    assert_eq!(c.write(f, fh, 6, b"+after"), Ok(6));
    assert_eq!(fs::read(dir.path().join("d/open")).unwrap(), b"before+after");
    // The listing goes on where it stood.
    let mut names: Vec<String> = first.iter().map(|e| e.0.clone()).collect();
    let mut offset = first.last().unwrap().3;
    loop {
        let more = c.readdir(d, dh, offset, false, 1024).unwrap();
        let more = super::client::parse_dir(&more, false);
        let Some(last) = more.last() else { break };
        offset = last.3;
        names.extend(more.into_iter().map(|e| e.0));
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 53);
    // Used up before, used up now; who has it keeps it.
    assert_eq!(c.walk("init.krun"), Err(libc::ENOENT));
    assert_eq!(c.read(init, 0, 0, 9).unwrap(), b"init");
    // New numbers do not collide with old ones.
    assert!(c.put(ROOT, "new", b"") > f);
    assert!(c.open(f, libc::O_RDONLY).unwrap().fh > dh);
    assert_eq!(c.walk("d/open"), Ok(f));
}

#[test]
fn what_changed_meanwhile_is_stale() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let removed = c.put(ROOT, "removed", b"1");
    let replaced = c.put(ROOT, "replaced", b"2");
    let kept = c.put(ROOT, "kept", b"3");
    let open: Vec<_> = [removed, replaced, kept].map(|n| (n, c.open(n, libc::O_RDONLY).unwrap().fh)).into();
    c.device.quiesce(soon()).unwrap();
    let section = c.device.save().unwrap();
    fs::remove_file(dir.path().join("removed")).unwrap();
    fs::write(dir.path().join("new"), "2").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("replaced")).unwrap();
    let mut fresh = Fs::new(config(dir.path())).unwrap();
    fresh.restore(&section, Some(c.context())).unwrap();
    c.device = fresh;
    c.device.resume();
    assert_eq!(c.read(open[0].0, open[0].1, 0, 1), Err(libc::ESTALE));
    assert_eq!(c.read(open[1].0, open[1].1, 0, 1), Err(libc::ESTALE), "never silently another file");
    assert_eq!(c.read(open[2].0, open[2].1, 0, 1).unwrap(), b"3");
    assert_ne!(c.walk("replaced"), Ok(replaced));
}

#[test]
fn an_open_file_without_a_name_cannot_be_saved() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    let (f, open) = c.create(ROOT, "f", libc::O_RDWR, 0o600).unwrap();
    assert!(matches!(c.device.save(), Err(SaveError::NotQuiesced(_))));
    c.unlink(ROOT, "f").unwrap();
    c.device.quiesce(soon()).unwrap();
    let ino = c_ino(&c, f.attr.ino);
    match c.device.save() {
        Err(SaveError::Unsavable { reason, .. }) => assert!(reason.contains(&ino), "{reason}"),
        other => panic!("{other:?}"),
    }
    // The machine goes on after the failed snapshot.
    c.device.abort();
    c.write(f.nodeid, open.fh, 0, b"x").unwrap();
    c.release(f.nodeid, open.fh).unwrap();
    c.device.quiesce(soon()).unwrap();
    assert!(c.device.save().is_ok());
}

fn c_ino(_: &Client, ino: u64) -> String {
    ino.to_string()
}

#[test]
fn requests_wait_while_the_device_rests() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    for _ in 0..3 {
        c.device.quiesce(soon()).unwrap();
        c.device.quiesce(soon()).unwrap();
        let header = c.header(Opcode::Statfs as u32, ROOT, 0);
        c.requests.submit(&[Buf::Read(header.as_slice()), Buf::Write(96)]);
        c.requests.kick();
        std::thread::sleep(Duration::from_millis(20));
        assert!(c.requests.used().is_empty(), "served while at rest");
        c.device.resume();
        c.device.resume();
        assert_eq!(c.collect().len(), 96);
    }
}

/// A guest that keeps the queue full does not keep the device from stopping.
#[test]
fn a_busy_queue_can_be_stopped() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(config(dir.path()));
    for round in 0..20 {
        for _ in 0..400 {
            let header = c.header(Opcode::Statfs as u32, ROOT, 0);
            c.requests.submit(&[Buf::Read(header.as_slice()), Buf::Write(96)]);
        }
        c.requests.kick();
        let start = Instant::now();
        c.device.quiesce(soon()).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let early = c.requests.used().len();
        c.device.resume();
        let mut got = early;
        let end = soon();
        while got < 400 {
            got += c.requests.used().len();
            assert!(Instant::now() < end, "round {round}: {got} of 400");
        }
    }
}

#[test]
fn reset_ends_the_session() {
    let dir = tempdir().unwrap();
    let mut c = Client::new(one_shot(&dir));
    let f = c.put(ROOT, "f", b"x");
    c.open(f, libc::O_RDONLY).unwrap();
    c.walk("init.krun").unwrap();
    let end = soon();
    while c.device.reset() == ResetProgress::Pending {
        assert!(Instant::now() < end);
    }
    assert_eq!(descriptors_below(dir.path()), 1, "the root stays");
    assert!(c.device.reset() == ResetProgress::Done);
    // The rings start anew with the driver.
    let ram = c.ram.clone();
    c.requests = crate::testing::DriverRing::new(&ram, 0, 32 << 20, 1024);
    c.hiprio = crate::testing::DriverRing::new(&ram, 32 << 20, 16 << 20, 1024);
    let context = c.context();
    c.device.activate(context).unwrap();
    assert!(c.device.activate(c.context()).is_err(), "already active");
    assert_eq!(c.getattr(ROOT).map(|_| ()), Err(libc::EIO), "INIT comes first again");
    c.init(7, 38, 0).unwrap();
    assert!(c.walk("init.krun").is_ok(), "a guest that starts again finds it again");
}

#[test]
fn an_idle_device_is_saved_too() {
    let dir = tempdir().unwrap();
    let device = Fs::new(config(dir.path())).unwrap();
    let section = device.save().unwrap();
    let mut fresh = Fs::new(config(dir.path())).unwrap();
    fresh.restore(&section, None).unwrap();
    let mut other = Fs::new(FsConfig::new("other", Source::Path(dir.path().to_owned()))).unwrap();
    assert!(other.restore(&section, None).unwrap_err().to_string().contains("tag"));
}

fn saved(dir: &TempDir) -> (Client, Section) {
    let mut c = Client::new(one_shot(dir));
    let d = c.mkdir(ROOT, "d", 0o755).unwrap().nodeid;
    let f = c.put(d, "f", b"x");
    c.open(f, libc::O_RDONLY).unwrap();
    c.opendir(d).unwrap();
    c.device.quiesce(soon()).unwrap();
    let section = c.device.save().unwrap();
    (c, section)
}

#[test]
fn a_damaged_section_is_refused_or_harmless() {
    let dir = tempdir().unwrap();
    let (c, section) = saved(&dir);
    for cut in 0..section.payload.len() {
        let short = Section::new(section.id, section.payload[..cut].to_vec());
        assert!(Fs::new(one_shot(&dir)).unwrap().restore(&short, Some(c.context())).is_err(), "cut at {cut}");
    }
    let mut runner = proptest::test_runner::TestRunner::default();
    let range = (0..section.payload.len(), any::<u8>(), 0..section.payload.len(), any::<u8>());
    runner
        .run(&range, |(a, x, b, y)| {
            let mut bytes = section.payload.clone();
            bytes[a] ^= x;
            bytes[b] = y;
            let mut device = Fs::new(one_shot(&dir)).unwrap();
            if device.restore(&Section::new(section.id, bytes), Some(c.context())).is_ok() {
                // Whatever it holds now, it can be saved, started and stopped.
                let _ = device.save();
                device.resume();
                device.quiesce(soon()).unwrap();
            }
            Ok(())
        })
        .unwrap();
}

/// The section of a device whose only handle is this one, with other flags.
fn with_flags(section: &Section, node: u64, fh: u64, from: i32, to: i32) -> Section {
    let saved =
        |flags: i32| [&fh.to_le_bytes()[..], &node.to_le_bytes(), &[0], &flags.to_le_bytes()].concat();
    let mut bytes = section.payload.clone();
    let at = bytes.windows(21).position(|part| part == saved(from)).unwrap();
    bytes[at..at + 21].copy_from_slice(&saved(to));
    Section::new(section.id, bytes)
}

#[test]
fn saved_flags_of_a_handle_open_nothing_that_an_open_would_not() {
    let dir = tempdir().unwrap();
    let text = || fs::read_to_string(dir.path().join("f")).unwrap();
    fs::write(dir.path().join("f"), "text").unwrap();
    let mut c = Client::new(config(dir.path()));
    let f = c.walk("f").unwrap();
    let fh = c.open(f, libc::O_RDWR).unwrap().fh;
    c.device.quiesce(soon()).unwrap();
    let section = c.device.save().unwrap();
    // A share that is read-only opens nothing for writing.
    let read_only = || FsConfig { read_only: true, ..config(dir.path()) };
    for mode in [libc::O_WRONLY, libc::O_RDWR, libc::O_ACCMODE] {
        let forged = with_flags(&section, f, fh, libc::O_RDWR, mode);
        let mut fresh = Fs::new(read_only()).unwrap();
        let refused = fresh.restore(&forged, Some(c.context())).unwrap_err().to_string();
        assert!(refused.contains("read-only"), "{refused}");
    }
    let forged = with_flags(&section, f, fh, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC);
    let mut fresh = Fs::new(read_only()).unwrap();
    fresh.restore(&forged, Some(c.context())).unwrap();
    c.device = fresh;
    c.device.resume();
    assert_eq!(c.read(f, fh, 0, 9).unwrap(), b"text");
    assert_eq!(c.write(f, fh, 0, b"x"), Err(libc::EROFS));
    // Whatever else was saved with it.
    c.device.quiesce(soon()).unwrap();
    let section = c.device.save().unwrap();
    let forged = with_flags(&section, f, fh, libc::O_RDONLY, !libc::O_ACCMODE | libc::O_RDWR);
    let mut fresh = Fs::new(config(dir.path())).unwrap();
    fresh.restore(&forged, Some(c.context())).unwrap();
    c.device = fresh;
    c.device.resume();
    assert_eq!(c.read(f, fh, 0, 9).unwrap(), b"text");
    assert_eq!((c.write(f, fh, 0, b"T"), text()), (Ok(1), "Text".into()));
}
