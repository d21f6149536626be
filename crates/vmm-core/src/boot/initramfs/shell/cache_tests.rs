use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::memory::overlay::OverlaySource;

const KEY: fn() -> Key = || Key::new([7; 32]);

fn cache() -> (tempfile::TempDir, BaseCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = BaseCache::directory(dir.path());
    (dir, cache)
}

fn base() -> Vec<u8> {
    [&b"0707"[..], &[9; 5000]].concat()
}

fn published(cache: &BaseCache, key: &Key) -> CachedBase {
    match cache.publish(key, Compression::None, &base(), 100).unwrap() {
        Published::Done(base) => base,
        Published::Busy => panic!("nobody else writes here"),
    }
}

fn miss(cache: &BaseCache) -> String {
    cache.find(&KEY(), Compression::None, 100).unwrap_err().to_string()
}

fn lock(path: &Path, how: FlockOperation) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    flock(file.as_fd(), how).unwrap();
    file
}

#[test]
fn published_and_found() {
    let (dir, cache) = cache();
    assert!(matches!(cache.find(&KEY(), Compression::None, 100), Err(Miss::Absent)));
    let first = published(&cache, &KEY());
    let second = cache.find(&KEY(), Compression::None, 100).unwrap();
    for found in [&first, &second] {
        assert_eq!(found.base_len(), 5004);
        assert_eq!(found.file().metadata().unwrap().len(), 8192 + 32);
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "no staging object is left: {names:?}");
    assert_eq!(fs::metadata(cache.path(&KEY())).unwrap().mode() & 0o777, 0o600);
}

/// Each check, by an object that passes all before it.
#[test]
fn objects_are_checked_in_order() {
    let (_dir, cache) = cache();
    let path = cache.path(&KEY());
    drop(published(&cache, &KEY()));
    let good = fs::read(&path).unwrap();

    let exclusive = lock(&path, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(miss(&cache), "the object is locked");
    drop(exclusive);
    fs::write(&path, b"").unwrap();
    assert_eq!(miss(&cache), "the object is empty");
    fs::write(&path, &good[..20]).unwrap();
    assert!(miss(&cache).contains("20 bytes"));
    fs::write(&path, [&good[..8192], &[0; 4096], &good[8192..]].concat()).unwrap();
    assert_eq!(miss(&cache), "the object has 12320 bytes instead of 8224");
    let mut bad = good.clone();
    bad[0] = b'x';
    fs::write(&path, &bad).unwrap();
    assert!(miss(&cache).contains("starts with"));
    fs::write(&path, &good).unwrap();
    let other_size = cache.find(&KEY(), Compression::None, 101);
    assert!(matches!(other_size, Err(Miss::Footer)));
    assert!(cache.find(&KEY(), Compression::None, 100).is_ok());
    assert!(matches!(cache.find(&KEY(), Compression::Lz4, 100), Err(Miss::Magic(_))));
}

#[test]
fn objects_that_others_could_write_do_not_count() {
    let (dir, cache) = cache();
    let path = cache.path(&KEY());
    drop(published(&cache, &KEY()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    assert!(matches!(cache.find(&KEY(), Compression::None, 100), Err(Miss::Untrusted { mode: 0o622, .. })));
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(matches!(cache.find(&KEY(), Compression::None, 100), Err(Miss::Io(_))), "links are not followed");
    let mut staging = path.clone().into_os_string();
    staging.push(STAGING);
    fs::write(&staging, b"").unwrap();
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(
        cache.publish(&KEY(), Compression::None, &base(), 100),
        Err(CacheError::Untrusted { .. })
    ));
}

#[test]
fn a_writer_that_meets_another_skips() {
    let (_dir, cache) = cache();
    let mut staging = cache.path(&KEY()).into_os_string();
    staging.push(STAGING);
    let other = lock(Path::new(&staging), FlockOperation::NonBlockingLockExclusive);
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(cache.publish(&KEY(), Compression::None, &base(), 100), Ok(Published::Busy)));
    drop(other);
    // What a writer left that ended in the middle is taken over.
    fs::write(&staging, vec![1; 100_000]).unwrap();
    assert_eq!(published(&cache, &KEY()).base_len(), 5004);
}

/// Many writers of one key: every one of them ends with the whole object or with none.
#[test]
fn writers_at_once() {
    let (_dir, cache) = cache();
    let done: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..20)
                        .filter(|_| match cache.publish(&KEY(), Compression::None, &base(), 100).unwrap() {
                            Published::Done(base) => base.still_good().is_ok(),
                            Published::Busy => {
                                let found = cache.find(&KEY(), Compression::None, 100);
                                assert!(matches!(found, Ok(_) | Err(Miss::Absent)), "{found:?}");
                                false
                            }
                        })
                        .count()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(done > 0);
    assert!(cache.find(&KEY(), Compression::None, 100).is_ok());
}

#[test]
fn room_is_made_from_what_is_not_used() {
    let (_dir, cache) = cache();
    let cache = cache.limit(20_000);
    let keys = [1, 2, 3, 4].map(|n| Key::new([n; 32]));
    let old = |key: &Key, age: i64| {
        let past = Timespec { tv_sec: 1_700_000_000 - age, tv_nsec: 0 };
        let file = File::open(cache.path(key)).unwrap();
        futimens(&file, &Timestamps { last_access: past, last_modification: past }).unwrap();
    };
    let in_use = published(&cache, &keys[0]);
    old(&keys[0], 300);
    drop(published(&cache, &keys[1]));
    old(&keys[1], 200);
    drop(published(&cache, &keys[2]));
    old(&keys[2], 100);
    let there = || keys.map(|key| cache.path(&key).exists());
    assert_eq!(there(), [true, false, true, false], "the oldest is in use, the next makes room");
    drop(published(&cache, &keys[3]));
    assert_eq!(there(), [true, false, false, true]);
    drop(in_use);
    let left = cache.dir.join(format!("{}left{STAGING}", prefix()));
    fs::write(&left, b"half a base").unwrap();
    cache.trim(0);
    assert_eq!(there(), [false; 4]);
    assert!(!left.exists());
    let large = cache.publish(&keys[0], Compression::None, &vec![b'0'; 20_001], 1);
    assert!(matches!(large, Err(CacheError::TooLarge { bytes: 20_001, limit: 20_000 })));
}
