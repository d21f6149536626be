//! FUSE requests through a ring, beside the system calls that they end in.
//!
//! The share is in memory if there is `/dev/shm`. What a request costs above its system call is the difference of
//! the two lines of a group.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that fails is a failed bench")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use purlin_devices::virtio::fs::direct::Direct;
use purlin_devices::virtio::fs::{FsConfig, Source};
use purlin_vmm_core::memory::{Bytes, GuestAddress};

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const PAGE: u64 = 4096;
/// Free guest memory.
const AT: u64 = 3 << 20;
const NEXT: u16 = 1;
const WRITABLE: u16 = 2;

fn directory() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let dir = base.join(format!("purlin-fs-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A request as Linux lays it out: header and arguments, then data or room page by page. Returns its bytes.
fn lay_out(guest: &mut Direct, opcode: u32, node: u64, args: &[u8], pages: u64) -> u16 {
    let data = if opcode == WRITE { pages * PAGE } else { 0 };
    let len = 40 + args.len() as u64 + data;
    let mut message = Vec::new();
    for (number, bytes) in [(len, 4), (opcode.into(), 4), (1, 8), (node, 8), (0, 8), (1, 8)] {
        message.extend_from_slice(&number.to_le_bytes()[..bytes]);
    }
    message.extend_from_slice(args);
    guest.ram().write_slice(&message, GuestAddress(AT)).unwrap();
    // Every second page, so that no two are one piece.
    let page = |i: u64| (2 << 20) + 2 * i * PAGE % (1 << 20);
    let reply = (AT + PAGE, 16, WRITABLE);
    let body = (AT + 2 * PAGE, 144, WRITABLE);
    let mut parts = vec![(AT, message.len() as u32, 0)];
    match opcode {
        READ => {
            parts.push(reply);
            parts.extend((0..pages).map(|i| (page(i), PAGE as u32, WRITABLE)));
        }
        WRITE => {
            parts.extend((0..pages).map(|i| (page(i), PAGE as u32, 0)));
            parts.extend([reply, body]);
        }
        _ => parts.extend([reply, body]),
    }
    let count = parts.len() as u16;
    for (i, (addr, len, flags)) in (0u16..).zip(parts) {
        let next = if i + 1 < count { NEXT } else { 0 };
        guest.ring().write_descriptor(i, addr, len, flags | next, i + 1);
    }
    count
}

/// One request that lies in descriptor 0 and on.
fn serve(guest: &mut Direct) -> u32 {
    guest.ring().publish(0);
    let written = guest.serve();
    guest.ring().used();
    written
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn requests(c: &mut Criterion) {
    let dir = directory();
    std::fs::write(dir.join("f"), vec![7; 1 << 20]).unwrap();
    let mut guest = Direct::new(FsConfig::new("bench", Source::Path(dir.clone()))).unwrap();
    let node = guest.call(LOOKUP, 1, b"f\0", 128).unwrap();
    let node = u64::from_le_bytes(node[..8].try_into().unwrap());
    let open = guest.call(OPEN, node, &words(&[2]), 16).unwrap();
    let fh = u64::from_le_bytes(open[..8].try_into().unwrap());
    let file = File::options().read(true).write(true).open(dir.join("f")).unwrap();
    let mut buffer = vec![1; 128 << 10];

    let mut group = c.benchmark_group("read 128 KiB");
    group.throughput(Throughput::Bytes(128 << 10));
    lay_out(&mut guest, READ, node, &words(&[fh, 0, 128 << 10, 0, 0]), 32);
    assert_eq!(serve(&mut guest), 16 + (128 << 10));
    group.bench_function("request", |b| b.iter(|| serve(&mut guest)));
    group.bench_function("pread", |b| b.iter(|| file.read_at(&mut buffer, 0).unwrap()));
    group.finish();

    let mut group = c.benchmark_group("write 128 KiB");
    group.throughput(Throughput::Bytes(128 << 10));
    lay_out(&mut guest, WRITE, node, &words(&[fh, 0, 128 << 10, 0, 0]), 32);
    assert_eq!(serve(&mut guest), 24);
    group.bench_function("request", |b| b.iter(|| serve(&mut guest)));
    group.bench_function("pwrite", |b| b.iter(|| file.write_at(&buffer, 0).unwrap()));
    group.finish();

    let mut group = c.benchmark_group("look at a file");
    lay_out(&mut guest, GETATTR, node, &[0; 16], 0);
    assert_eq!(serve(&mut guest), 16 + 104);
    group.bench_function("GETATTR", |b| b.iter(|| serve(&mut guest)));
    lay_out(&mut guest, LOOKUP, 1, b"f\0", 0);
    assert_eq!(serve(&mut guest), 16 + 128);
    group.bench_function("LOOKUP", |b| b.iter(|| serve(&mut guest)));
    group.bench_function("fstat", |b| b.iter(|| file.metadata().unwrap()));
    group.finish();
    std::fs::remove_dir_all(dir).unwrap();
}

criterion_group!(benches, requests);
criterion_main!(benches);
