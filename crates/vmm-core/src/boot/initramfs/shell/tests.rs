use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::fuzz::read_back;
use super::super::{InitramfsError, SENTINEL, lz4};
use super::*;
use crate::memory::alloc::{Backing, RamConfig, allocate};
use crate::memory::{Bytes, GuestAddress, GuestMemory, MemoryLayout, SharedRam};

const MIB: u64 = 1 << 20;

fn builder(dir: &Path) -> InitramfsBuilder {
    InitramfsBuilder::new()
        .cache(BaseCache::directory(dir))
        .content("/init", 0o755, &b"#!/bin/sh\n"[..])
        .directory("/proc", 0o755)
        .symlink("/bin/sh", "busybox")
}

fn ram(mib: u64) -> (SharedRam, MemoryLayout) {
    let layout = MemoryLayout::new(mib * MIB).unwrap();
    let config = RamConfig { transparent_huge_pages: false, ..RamConfig::default() };
    (allocate(&layout, &config).unwrap(), layout)
}

/// What a guest would unpack.
fn unpacked(archive: &Initramfs) -> Vec<(String, u32, Vec<u8>)> {
    let (ram, layout) = ram(64);
    let loaded = archive.load(&ram, &layout, MIB, u32::MAX).unwrap();
    let mut bytes = vec![0; loaded.initrd.len as usize];
    ram.read_slice(&mut bytes, GuestAddress(loaded.initrd.addr)).unwrap();
    assert_eq!(loaded.copied + loaded.mapped, loaded.initrd.len);
    assert_eq!(archive.sizes().packed(), loaded.initrd.len);
    let mut written = Vec::new();
    archive.write_to(&mut written).unwrap();
    assert!(written == bytes);
    if archive.compression() == Compression::Lz4 {
        let mut plain = Vec::new();
        lz4::decode(&bytes, 1 << 30, |block| plain.extend_from_slice(block)).unwrap();
        bytes = plain;
    }
    assert_eq!(bytes.len() as u64, archive.sizes().unpacked);
    read_back(&bytes)
}

fn paths(archive: &Initramfs) -> Vec<String> {
    unpacked(archive).into_iter().map(|(path, ..)| path).collect()
}

#[test]
fn base_then_run_then_sentinel() {
    let dir = tempfile::tempdir().unwrap();
    for compression in [Compression::Lz4, Compression::None] {
        let archive = builder(dir.path())
            .compression(compression)
            .per_run("/etc/run", 0o600, &b"1"[..])
            .per_run("/bin/x", 0o600, &b"1"[..])
            .build()
            .unwrap();
        let want = ["bin", "bin/sh", "init", "proc", "bin/x", "etc", "etc/run", &SENTINEL[1..]];
        assert_eq!(paths(&archive), want);
        let again = archive.for_run([("/etc/other", "2".to_owned())]).unwrap();
        assert_eq!(again.key(), archive.key());
        assert_eq!(paths(&again), ["bin", "bin/sh", "init", "proc", "etc", "etc/other", &SENTINEL[1..]]);
    }
    let nothing = InitramfsBuilder::new().cache(None).build().unwrap();
    assert_eq!(paths(&nothing), [&SENTINEL[1..]]);
}

#[test]
fn what_is_in_the_base_is_in_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = |builder: InitramfsBuilder| builder.build().unwrap().key();
    let plain = || builder(dir.path());
    let same = key(plain());
    assert_eq!(key(plain()), same);
    assert_eq!(key(plain().per_run("/run", 0o644, &b"x"[..])), same, "a run does not count");
    let others = [
        key(plain().compression(Compression::None)),
        key(plain().content("/extra", 0o644, &b"x"[..])),
        key(plain().content("/extra", 0o644, &b"y"[..])),
        key(plain().content("/extra", 0o600, &b"y"[..])),
        key(plain().directory("/proc", 0o700)),
        key(plain().symlink("/bin/ash", "busybox")),
        key(plain().char_device("/null", 0o666, 1, 3)),
        key(plain().char_device("/null", 0o666, 1, 5)),
    ];
    for (n, other) in others.iter().enumerate() {
        assert!(*other != same && !others[n + 1..].contains(other), "{n}");
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let refused = |builder: InitramfsBuilder| builder.cache(None).build().unwrap_err();
    let plain = InitramfsBuilder::new;
    let text = |error: InitramfsError| error.to_string();
    assert!(text(refused(plain().directory("proc", 0o755))).contains("\"proc\""));
    assert!(text(refused(plain().init("/no/such/file"))).contains("/no/such/file"));
    assert!(text(refused(plain().file("/x", None, "/proc"))).contains("/proc"));
    assert!(text(refused(plain().content(SENTINEL, 0o644, &b""[..]))).contains(SENTINEL));
    assert!(text(refused(plain().per_run(SENTINEL, 0o644, &b""[..]))).contains(SENTINEL));
    let below_a_link = plain().symlink("/lib", "usr/lib").per_run("/lib/x", 0o644, &b""[..]);
    assert!(text(refused(below_a_link)).contains("symbolic link"));
}

/// Smaps fields in KiB of the mapping that contains an address.
fn smaps(addr: u64, field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in text.lines() {
        if let Some((start, rest)) = line.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
        {
            let end = u64::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
            inside = (start..end).contains(&addr);
        } else if inside && let Some(value) = line.strip_prefix(field) {
            return value.trim_start_matches(':').trim().split(' ').next().unwrap().parse().unwrap();
        }
    }
    panic!("no {field} at {addr:#x}");
}

/// The second machine of a base of 64 MiB gets none of it copied: measured by the kernel's own count of private pages.
#[test]
fn a_cached_base_is_not_copied() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut x = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    })
    .take(64 << 20)
    .collect();
    let big = builder(dir.path()).compression(Compression::None).content("/noise", 0o644, noise);
    assert_eq!(big.build().unwrap().base_origin(), BaseOrigin::Published);
    let archive = big.per_run("/run", 0o644, &b"2"[..]).build().unwrap();
    assert_eq!(archive.base_origin(), BaseOrigin::Found);

    let (ram, layout) = ram(256);
    let loaded = archive.load(&ram, &layout, 16 * MIB, u32::MAX).unwrap();
    assert!(loaded.mapped >= 64 * MIB, "{loaded:?}");
    assert_eq!(loaded.copied, archive.sizes().suffix);
    let host = ram.get_host_address(GuestAddress(loaded.initrd.addr)).unwrap() as u64;
    assert!(smaps(host, "Size") >= 64 << 10);
    // The page where the base ends and the suffix begins.
    assert!(smaps(host, "Anonymous") <= 4);
    assert!(smaps(host, "Rss") <= 256, "not even read, but for what the kernel maps around a page that is");

    // The guest reads all of it: still nothing private.
    let mut all = vec![0; loaded.initrd.len as usize];
    ram.read_slice(&mut all, GuestAddress(loaded.initrd.addr)).unwrap();
    assert!(smaps(host, "Anonymous") <= 4);
}

#[test]
fn ram_that_cannot_be_overlaid_gets_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let archive = builder(dir.path()).build().unwrap();
    let layout = MemoryLayout::new(32 * MIB).unwrap();
    let config = RamConfig { backing: Backing::Memfd, ..RamConfig::default() };
    let ram = allocate(&layout, &config).unwrap();
    let loaded = archive.load(&ram, &layout, MIB, u32::MAX).unwrap();
    assert_eq!((loaded.mapped, loaded.copied), (0, loaded.initrd.len));
}

/// The object is looked at again before it is mapped: one that somebody changed is not used.
#[test]
fn an_object_that_changed_is_not_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let archive = builder(dir.path()).build().unwrap();
    let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let object = fs::File::options().write(true).open(&path).unwrap();
    let len = object.metadata().unwrap().len();
    let (ram, layout) = ram(32);

    object.set_len(len + 4096).unwrap();
    let loaded = archive.load(&ram, &layout, MIB, u32::MAX).unwrap();
    assert_eq!(loaded.mapped, 0, "of another size, so copied; what is copied is still right");
    object.set_len(len).unwrap();
    assert!(archive.load(&ram, &layout, MIB, u32::MAX).unwrap().mapped > 0);
    object.write_all_at(b"bad!", 0).unwrap();
    let refused = archive.load(&ram, &layout, MIB, u32::MAX);
    assert!(matches!(refused, Err(LoadError::NotThere { found, .. }) if &found == b"bad!"));
}

/// Nobody removes or replaces the object while a machine maps it; the lock goes with the memory.
#[test]
fn the_lock_lasts_as_long_as_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BaseCache::directory(dir.path());
    let archive = builder(dir.path()).build().unwrap();
    let (ram, layout) = ram(32);
    assert!(archive.load(&ram, &layout, MIB, u32::MAX).unwrap().mapped > 0);
    drop(archive);
    let count = || fs::read_dir(dir.path()).unwrap().count();
    cache.trim(0);
    assert_eq!(count(), 1, "in use");
    let device = ram.clone();
    drop(ram);
    cache.trim(0);
    assert_eq!(count(), 1, "a device still has the memory");
    drop(device);
    cache.trim(0);
    assert_eq!(count(), 0);
}

#[test]
fn an_archive_without_room_is_refused() {
    let archive = builder(tempfile::tempdir().unwrap().path()).build().unwrap();
    let (ram, layout) = ram(32);
    let refused = archive.load(&ram, &layout, 32 * MIB - 100, u32::MAX);
    assert!(matches!(refused, Err(LoadError::Layout(_))));
}

/// A program of this machine runs from an archive of its own, with no file but those found for it.
#[test]
fn a_dynamic_program_runs_from_its_archive() {
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let archive = InitramfsBuilder::new().cache(None).program("/shell/sh", &shell).build().unwrap();
    assert!(archive.parts().len() >= 3, "program, loader and C library: {:?}", archive.parts());
    for (path, mode, data) in unpacked(&archive) {
        let path = dir.path().join(path);
        if mode & 0o170_000 == 0o040_000 {
            fs::create_dir(path).unwrap();
        } else {
            fs::write(&path, data).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777)).unwrap();
        }
    }
    let run = std::process::Command::new("chroot")
        .arg(dir.path())
        .args(["/shell/sh", "-c", "echo it runs"])
        .output()
        .unwrap();
    if String::from_utf8_lossy(&run.stderr).contains("Operation not permitted") {
        eprintln!("skipped: only root may change its root directory");
        return;
    }
    assert_eq!(String::from_utf8_lossy(&run.stdout), "it runs\n", "{run:?}");
}
