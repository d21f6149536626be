//! Files in the shared memory window.

use std::borrow::Cow;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fuse_backend_rs::abi::fuse_abi::Opcode;
use fuse_backend_rs::abi::virtio_fs::SetupmappingIn;
use purlin_vmm_core::memory::{ByteValued, RamRange, Window};
use tempfile::tempdir;

use super::client::{Client, ROOT, config};
use crate::virtio::fs::maps::MAX_MAPS;
use crate::virtio::fs::{Fs, FsConfig, OverlayEntry, OverlayKind};
use crate::virtio::{ActivateContext, VirtioDevice};

const LEN: u64 = 8 << 20;
const WRITE: u64 = 1;

fn with_window(dir: &Path) -> FsConfig {
    let mut config = config(dir);
    config.dax_window = LEN;
    let kind = OverlayKind::File { data: Cow::Borrowed(b"#!init"), one_shot: false };
    config.overlay.push(OverlayEntry { path: "init".into(), mode: 0o755, kind });
    config
}

fn window() -> Window {
    window_of(LEN)
}

fn window_of(len: u64) -> Window {
    Window::reserve(RamRange { start: 1 << 32, len }).unwrap()
}

/// An active device with a window.
fn client(config: FsConfig, window: &Window) -> Client {
    let mut c = Client::start_with(config, Some(window.clone()));
    let out = c.init(7, 38, u64::MAX).unwrap();
    assert_eq!((out.flags & 1 << 26 != 0, out.map_alignment), (true, 12));
    c
}

fn setup(c: &mut Client, node: u64, at: u64, len: u64, offset: u64, flags: u64) -> Result<(), i32> {
    // Linux names no handle.
    let args = SetupmappingIn { fh: u64::MAX, foffset: offset, len, flags, moffset: at };
    c.call(Opcode::SetupMapping, node, &[args.as_slice()], 0).map(|_| ())
}

fn remove(c: &mut Client, pieces: &[(u64, u64)]) -> Result<(), i32> {
    let mut args = (pieces.len() as u32).to_le_bytes().to_vec();
    args.extend(pieces.iter().flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()].concat()));
    c.call(Opcode::RemoveMapping, ROOT, &[&args], 0).map(|_| ())
}

/// True if something can be read there, by proc_pid_maps(5); `/proc/self/mem` passes by protections.
fn readable(addr: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&addr) && rest.starts_with('r')
    })
}

/// What a guest finds there; `None` is the end of the machine.
fn bytes(window: &Window, at: u64) -> Option<[u8; 4]> {
    if !readable(window.host_addr() + at) {
        return None;
    }
    let mut bytes = [0; 4];
    let memory = File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut bytes, window.host_addr() + at).ok().map(|()| bytes)
}

fn poke(window: &Window, at: u64, bytes: &[u8]) -> bool {
    let memory = File::options().write(true).open("/proc/self/mem").unwrap();
    memory.write_all_at(bytes, window.host_addr() + at).is_ok()
}

fn rest(c: &mut Client) {
    c.device.quiesce(Instant::now() + Duration::from_secs(10)).unwrap();
}

#[test]
fn files_appear_and_writes_reach_them() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), [b"a".repeat(4096), b"b".repeat(4096)].concat()).unwrap();
    let window = window();
    let mut c = client(with_window(dir.path()), &window);
    let f = c.walk("f").unwrap();
    assert_eq!(c.device.shm_request(), Some((0, LEN)));
    setup(&mut c, f, 0, 8192, 0, WRITE).unwrap();
    setup(&mut c, f, 2 << 20, 4096, 4096, 0).unwrap();
    assert_eq!((bytes(&window, 4096), bytes(&window, 2 << 20)), (Some(*b"bbbb"), Some(*b"bbbb")));
    assert!(poke(&window, 4096, b"from the guest"));
    assert_eq!(&fs::read(dir.path().join("f")).unwrap()[4096..4110], b"from the guest");
    assert_eq!(bytes(&window, 2 << 20), Some(*b"from"), "one file");
    // What is in memory only.
    let init = c.walk("init").unwrap();
    setup(&mut c, init, 4 << 20, 4096, 0, 0).unwrap();
    assert_eq!(bytes(&window, 4 << 20), Some(*b"#!in"));
    assert_eq!(setup(&mut c, init, 4 << 20, 4096, 0, WRITE), Err(libc::EROFS));
    // A part goes, the rest stays; then everything.
    remove(&mut c, &[(4096, 4096), (2 << 20, 4096)]).unwrap();
    assert_eq!([0, 4096, 2 << 20].map(|at| bytes(&window, at)), [Some(*b"aaaa"), None, None]);
    c.init(7, 38, u64::MAX).unwrap();
    assert_eq!([0, 4 << 20].map(|at| bytes(&window, at)), [None, None], "a new session starts empty");
}

#[test]
fn nothing_outside_of_the_window_is_touched() {
    let dir = tempdir().unwrap();
    let window = window();
    let mut c = client(with_window(dir.path()), &window);
    let f = c.put(ROOT, "f", &[1; 8192]);
    let d = c.mkdir(ROOT, "d", 0o755).unwrap().nodeid;
    for (at, len, offset) in [
        (LEN, 4096, 0),
        (LEN - 4096, 8192, 0),
        (0, 0, 0),
        (0, LEN + 4096, 0),
        (u64::MAX - 4095, 4096, 0),
        (4096, u64::MAX - 4095, 0),
        (1, 4096, 0),
        (0, 4095, 0),
        (0, 4096, 1),
        (0, 4096, u64::MAX - 4095),
    ] {
        assert_eq!(setup(&mut c, f, at, len, offset, 0), Err(libc::EINVAL), "{at:#x} {len:#x} {offset:#x}");
    }
    assert_eq!(setup(&mut c, d, 0, 4096, 0, 0), Err(libc::EISDIR));
    assert_eq!(setup(&mut c, 9999, 0, 4096, 0, 0), Err(libc::ESTALE));
    for piece in [(LEN, 4096), (LEN - 4096, 8192), (0, 0), (5, 4096), (u64::MAX, u64::MAX)] {
        assert_eq!(remove(&mut c, &[piece]), Err(libc::EINVAL), "{piece:x?}");
    }
    assert_eq!(c.call(Opcode::RemoveMapping, ROOT, &[&u32::MAX.to_le_bytes()], 0), Err(libc::EINVAL));
    let mut read_only = with_window(dir.path());
    read_only.read_only = true;
    let other = self::window();
    let mut c = client(read_only, &other);
    let f = c.walk("f").unwrap();
    assert_eq!(setup(&mut c, f, 0, 4096, 0, WRITE), Err(libc::EROFS));
    setup(&mut c, f, 0, 4096, 0, 0).unwrap();
    assert_eq!(bytes(&other, 0), Some([1; 4]));
    // Without a window there is nothing to map into.
    let mut c = Client::new(config(dir.path()));
    let f = c.walk("f").unwrap();
    assert_eq!(setup(&mut c, f, 0, 4096, 0, 0), Err(libc::ENOSYS));
    assert_eq!(remove(&mut c, &[(0, 4096)]), Err(libc::ENOSYS));
}

#[test]
fn what_is_mapped_is_mapped_again_after_a_restore() {
    let dir = tempdir().unwrap();
    let old = window();
    let mut c = client(with_window(dir.path()), &old);
    let f = c.put(ROOT, "f", &[5; 8192]);
    setup(&mut c, f, 1 << 20, 8192, 0, WRITE).unwrap();
    rest(&mut c);
    let section = c.device.save().unwrap();
    let new = window();
    let context = ActivateContext { shm: Some(new.clone()), ..c.context() };
    let mut fresh = Fs::new(with_window(dir.path())).unwrap();
    fresh.restore(&section, Some(context)).unwrap();
    assert_eq!(fresh.save().unwrap(), section);
    c.device = fresh;
    assert_eq!(bytes(&old, 1 << 20), None, "the old device left nothing behind");
    c.device.resume();
    c.interrupt.take();
    assert_eq!(bytes(&new, 1 << 20), Some([5; 4]));
    assert!(poke(&new, 1 << 20, b"more"));
    assert_eq!(&fs::read(dir.path().join("f")).unwrap()[..4], b"more");
    // Without the file, or without a window, the guest would fault.
    rest(&mut c);
    let refused = Fs::new(with_window(dir.path())).unwrap().restore(&section, Some(c.context())).unwrap_err();
    assert!(refused.to_string().contains("window"), "{refused}");
    fs::remove_file(dir.path().join("f")).unwrap();
    let context = ActivateContext { shm: Some(window()), ..c.context() };
    assert!(Fs::new(with_window(dir.path())).unwrap().restore(&section, Some(context)).is_err());
    drop(c);
    assert_eq!(bytes(&new, 1 << 20), None);
}

/// A device that waits for a reset is restored without a window, and its guest uses nothing of it.
#[test]
fn a_broken_device_is_restored_without_what_was_mapped() {
    let dir = tempdir().unwrap();
    let old = window();
    let mut c = client(with_window(dir.path()), &old);
    let f = c.put(ROOT, "f", &[5; 4096]);
    setup(&mut c, f, 0, 4096, 0, 0).unwrap();
    rest(&mut c);
    let whole = c.device.save().unwrap();
    c.device.resume();
    // A head that is no descriptor.
    c.requests.publish(5000);
    c.requests.kick();
    let end = Instant::now() + Duration::from_secs(10);
    while !c.interrupt.reset_needed() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    rest(&mut c);
    let broken = c.device.save().unwrap();
    assert_eq!(whole.payload.len() - broken.payload.len(), 33, "one mapping");
    for section in [whole, broken] {
        Fs::new(with_window(dir.path())).unwrap().restore(&section, None).unwrap();
    }
}

/// Each mapping is one of the process's, of which there are not many.
#[test]
fn the_number_of_mappings_is_bounded() {
    const PAGE: u64 = 4096;
    let dir = tempdir().unwrap();
    let most = MAX_MAPS as u64;
    let len = (2 * most + 16) * PAGE;
    let config = || FsConfig { dax_window: len, ..with_window(dir.path()) };
    let window = window_of(len);
    let mut c = client(config(), &window);
    let f = c.put(ROOT, "f", &[5; 4 * PAGE as usize]);
    // One of four pages, and others that touch nothing.
    let large = 2 * most * PAGE;
    setup(&mut c, f, large, 4 * PAGE, 0, 0).unwrap();
    for i in 0..most - 1 {
        setup(&mut c, f, 2 * i * PAGE, PAGE, 0, 0).unwrap();
    }
    assert_eq!(setup(&mut c, f, PAGE, PAGE, 0, 0), Err(libc::ENOSPC));
    // In the place of one, but not in the middle.
    setup(&mut c, f, 0, PAGE, PAGE, 0).unwrap();
    setup(&mut c, f, 0, 2 * PAGE, 0, 0).unwrap();
    assert_eq!(setup(&mut c, f, large + PAGE, PAGE, 0, 0), Err(libc::ENOSPC));
    assert_eq!(remove(&mut c, &[(large + PAGE, PAGE)]), Err(libc::ENOSPC));
    assert_eq!(bytes(&window, large + PAGE), Some([5; 4]));
    assert_eq!(remove(&mut c, &[(large, PAGE)]), Ok(()), "from an end");
    // All of them are saved, and shown again.
    rest(&mut c);
    let section = c.device.save().unwrap();
    let other = window_of(len);
    let context = ActivateContext { shm: Some(other.clone()), ..c.context() };
    let mut fresh = Fs::new(config()).unwrap();
    fresh.restore(&section, Some(context)).unwrap();
    c.device = fresh;
    c.device.resume();
    assert_eq!(setup(&mut c, f, large + 8 * PAGE, PAGE, 0, 0), Err(libc::ENOSPC));
    assert_eq!(remove(&mut c, &[(0, PAGE), (PAGE, PAGE), (large + 2 * PAGE, PAGE)]), Ok(()));
    assert_eq!([1, 2, 3].map(|i| bytes(&other, large + i * PAGE)), [Some([5; 4]), None, Some([5; 4])]);
    assert_eq!(setup(&mut c, f, large + 8 * PAGE, PAGE, 0, 0), Err(libc::ENOSPC));
}
