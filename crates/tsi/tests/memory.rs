//! What an idle connection costs in memory, counted by the allocator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is a failed test")]
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use purlin_tsi::wire::{Header, SockAddr, control, kind, op};
use purlin_tsi::{Action, Muxer, MuxerConfig, SocketEvent, TsiFlags};

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator; only numbers are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn packet(src_port: u32, dst_port: u32, kind: u16, op: u16, len: usize) -> Header {
    let (buf_alloc, len) = (256 << 10, len as u32);
    Header { src_cid: 3, dst_cid: 2, src_port, dst_port, len, kind, op, buf_alloc, ..Header::default() }
}

#[test]
fn an_idle_connection_takes_less_than_a_kilobyte_of_the_muxer() {
    const COUNT: u32 = 10_000;
    let mut config = MuxerConfig::default();
    config.tsi = TsiFlags::HIJACK_INET;
    let mut muxer = Muxer::new(config).unwrap();
    let now = Instant::now();
    let mut area = [0; 128];
    let addr_len = SockAddr::Inet("192.0.2.1:80".parse().unwrap()).emit(&mut area);
    let before = HELD.load(Ordering::Relaxed);
    for port in 1..=COUNT {
        let create = [&port.to_le_bytes()[..], &[2, 0, 1, 0]].concat();
        let _ = muxer.handle_packet(now, &packet(4000, control::CREATE, kind::DGRAM, op::RW, 8), &create);
        let connect = [&port.to_le_bytes()[..], &addr_len.to_le_bytes(), &area].concat();
        let _ = muxer.handle_packet(now, &packet(4000, control::CONNECT, kind::DGRAM, op::RW, 136), &connect);
        let Some(Action::Connect { socket, .. }) = muxer.poll_action() else { panic!("no connect") };
        muxer.handle_socket(now, socket, SocketEvent::Connected);
        let _ = muxer.handle_packet(now, &packet(port, 620, kind::STREAM, op::REQUEST, 0), &[]);
        while muxer.poll_packet().is_some() {}
    }
    assert_eq!(muxer.open_sockets(), COUNT as usize);
    let each = (HELD.load(Ordering::Relaxed) - before) / COUNT as usize;
    println!("{each} bytes for each of {COUNT} idle connections");
    assert!(each <= 1024, "{each} bytes each");
}
