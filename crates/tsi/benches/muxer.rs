//! What the muxer costs: bytes through it and a socket beside the same bytes through a socket alone, and an event among
//! many idle connections.

// Macro-generated entry points cannot be documented.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{IoSliceMut, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Instant;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use purlin_tsi::wire::{Header, SockAddr, control, kind, op};
use purlin_tsi::{
    Action, Disposition, GrantKind, Muxer, MuxerConfig, ReadOutcome, SocketEvent, SocketId, TsiFlags,
};

const BYTES: usize = 64 << 20;
/// What Linux 6.12 sends at most in one packet, and what one of its receive buffers holds.
const PACKET: usize = 64 << 10;
const BUFFER: usize = 3732;
const WINDOW: u32 = 256 << 10;

/// A guest with `count` open connections, whose ports are 1 and up.
fn open(count: u32) -> (Muxer, Vec<SocketId>) {
    let mut config = MuxerConfig::default();
    config.tsi = TsiFlags::HIJACK_INET;
    let mut muxer = Muxer::new(config).unwrap();
    let now = Instant::now();
    let mut area = [0; 128];
    let len = SockAddr::Inet("192.0.2.1:80".parse().unwrap()).emit(&mut area);
    let mut sockets = Vec::new();
    for port in 1..=count {
        let ask =
            |to, bytes: &[u8]| Header { len: bytes.len() as u32, ..packet(4000, to, kind::DGRAM, op::RW) };
        let create = [&port.to_le_bytes()[..], &[2, 0, 1, 0]].concat();
        let _ = muxer.handle_packet(now, &ask(control::CREATE, &create), &create);
        let connect = [&port.to_le_bytes()[..], &len.to_le_bytes(), &area].concat();
        let _ = muxer.handle_packet(now, &ask(control::CONNECT, &connect), &connect);
        let Some(Action::Connect { socket, .. }) = muxer.poll_action() else { panic!() };
        muxer.handle_socket(now, socket, SocketEvent::Connected);
        let request = Header { buf_alloc: WINDOW, ..packet(port, 620, kind::STREAM, op::REQUEST) };
        let _ = muxer.handle_packet(now, &request, &[]);
        while muxer.poll_packet().is_some() {}
        sockets.push(socket);
    }
    (muxer, sockets)
}

fn packet(src_port: u32, dst_port: u32, kind: u16, op: u16) -> Header {
    Header { src_cid: 3, dst_cid: 2, src_port, dst_port, kind, op, ..Header::default() }
}

/// A pair whose other end takes everything.
fn sink() -> (UnixStream, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; PACKET];
        while theirs.read(&mut buffer).unwrap() > 0 {}
    });
    (ours, reader)
}

/// A pair whose other end sends [`BYTES`].
fn source() -> (UnixStream, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || {
        let buffer = vec![7; PACKET];
        for _ in 0..BYTES / PACKET {
            theirs.write_all(&buffer).unwrap();
        }
    });
    (ours, writer)
}

fn copy_up(mut stream: UnixStream, memory: &[u8]) {
    for _ in 0..BYTES / PACKET {
        stream.write_all(memory).unwrap();
    }
}

fn mux_up(mut stream: UnixStream, memory: &[u8], muxer: &mut Muxer) {
    let header = Header { len: PACKET as u32, buf_alloc: WINDOW, ..packet(1, 620, kind::STREAM, op::RW) };
    for _ in 0..BYTES / PACKET {
        let now = Instant::now();
        let Disposition::Stream(socket) = muxer.handle_packet(now, &header, &[]) else { panic!() };
        stream.write_all(memory).unwrap();
        muxer.handle_socket(now, socket, SocketEvent::Written(PACKET as u32));
        assert!(muxer.poll_action().is_none());
        while muxer.poll_packet().is_some() {}
    }
}

fn copy_down(mut stream: UnixStream, memory: &mut [u8]) {
    while stream.read(memory).unwrap() > 0 {}
}

/// Reads into what would be a guest's buffers; the guest tells of what it read every quarter of its window.
fn mux_down(mut stream: UnixStream, memory: &mut [u8], muxer: &mut Muxer, socket: SocketId) {
    muxer.handle_socket(Instant::now(), socket, SocketEvent::Readable);
    let (mut total, mut told) = (0u32, 0u32);
    loop {
        let now = Instant::now();
        let Some(grant) = muxer.poll_grant(BUFFER as u32) else { panic!("no credit") };
        let GrantKind::Stream { bytes, .. } = grant.what else { panic!() };
        let mut left = bytes as usize;
        let mut buffers: Vec<IoSliceMut<'_>> = Vec::with_capacity(64);
        for buffer in memory.chunks_mut(BUFFER) {
            let take = buffer.len().min(left);
            if take == 0 {
                break;
            }
            left -= take;
            buffers.push(IoSliceMut::new(&mut buffer[..take]));
        }
        let n = stream.read_vectored(&mut buffers).unwrap();
        let mut rest = n;
        while rest > 0 {
            let len = rest.min(BUFFER);
            std::hint::black_box(muxer.stream_header(socket, len as u32).unwrap().emit());
            rest -= len;
        }
        total = total.wrapping_add(n as u32);
        let outcome = if n == 0 { ReadOutcome::End } else { ReadOutcome::More };
        muxer.handle_read(now, socket, outcome);
        if n == 0 {
            return;
        }
        if total.wrapping_sub(told) >= WINDOW / 4 {
            told = total;
            let header = Header {
                buf_alloc: WINDOW,
                fwd_cnt: total,
                ..packet(1, 620, kind::STREAM, op::CREDIT_UPDATE)
            };
            let _ = muxer.handle_packet(now, &header, &[]);
        }
    }
}

fn bytes(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 MiB");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(20);
    let mut memory = vec![1; PACKET];
    group.bench_function("guest to host, socket alone", |b| {
        b.iter_batched(
            sink,
            |(stream, reader)| {
                copy_up(stream, &memory);
                reader.join().unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("guest to host, muxer", |b| {
        b.iter_batched(
            || (sink(), open(1).0),
            |((stream, reader), mut muxer)| {
                mux_up(stream, &memory, &mut muxer);
                reader.join().unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("host to guest, socket alone", |b| {
        b.iter_batched(
            source,
            |(stream, writer)| {
                copy_down(stream, &mut memory);
                writer.join().unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("host to guest, muxer", |b| {
        b.iter_batched(
            || (source(), open(1)),
            |((stream, writer), (mut muxer, sockets))| {
                mux_down(stream, &mut memory, &mut muxer, sockets[0]);
                writer.join().unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("a byte each way among idle connections");
    for count in [1, 100, 10_000] {
        let (mut muxer, sockets) = open(count);
        let mut turn = 0u32;
        let mut moved = vec![0u32; sockets.len()];
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let at = (turn % count) as usize;
                turn = turn.wrapping_add(7919);
                let now = Instant::now();
                let header = Header {
                    len: 1,
                    buf_alloc: WINDOW,
                    fwd_cnt: moved[at],
                    ..packet(at as u32 + 1, 620, kind::STREAM, op::RW)
                };
                let Disposition::Stream(socket) = muxer.handle_packet(now, &header, &[]) else { panic!() };
                muxer.handle_socket(now, socket, SocketEvent::Written(1));
                muxer.handle_socket(now, socket, SocketEvent::Readable);
                let grant = muxer.poll_grant(BUFFER as u32).unwrap();
                moved[at] = moved[at].wrapping_add(1);
                let answer = muxer.stream_header(grant.socket, 1).unwrap();
                muxer.handle_read(now, grant.socket, ReadOutcome::Drained);
                while muxer.poll_packet().is_some() {}
                answer.emit()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bytes, events);
criterion_main!(benches);
