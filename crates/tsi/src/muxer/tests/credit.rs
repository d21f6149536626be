//! Windows over many bytes, packets and connections.

use super::guest::Guest;
use super::*;
use crate::io::{GrantKind, ReadOutcome};

/// A stream to a guest with this receive buffer.
fn open_with(b: &mut Bench, port: u32, window: u32) -> SocketId {
    b.create(port, 2, 1);
    b.ask_addr(control::CONNECT, port, "192.0.2.1:80");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    b.packets();
    b.send((port, 620), op::REQUEST, |h| h.buf_alloc = window);
    socket
}

#[test]
fn a_large_buffer_in_the_guest_does_not_starve_it_of_updates() {
    let mut b = Bench::new();
    let window = 64 << 20;
    let socket = open_with(&mut b, GP, window);
    let mut guest = Guest { window, ..Guest::default() };
    let (mut left, mut updates) = (1u32 << 30, 0);
    while left > 0 {
        while let Some(packet) = b.muxer.poll_packet() {
            guest.take(&packet.header);
            updates += 1;
        }
        let len = guest.window_left().min(left).min(65536);
        assert!(len > 0, "{left} bytes are left and the guest may send none");
        assert_eq!(
            b.send((GP, 620), op::RW, |h| (h.len, h.buf_alloc) = (len, window)),
            Disposition::Stream(socket)
        );
        guest.sent = guest.sent.wrapping_add(len);
        left -= len;
        b.event(socket, SocketEvent::Written(len));
    }
    assert!(updates < 10_000, "{updates} updates for 16,384 packets");
}

/// 4 MiB, a byte per millisecond: 70 minutes of the guest's time, most of which the connection is out of credit
/// and its peer long gone.
#[test]
fn a_guest_that_reads_a_byte_per_millisecond_gets_all_of_it_and_then_the_end() {
    let mut b = Bench::new();
    let window = 256 << 10;
    let socket = open_with(&mut b, GP, window);
    b.packets();
    let start = b.now;
    let mut guest = Guest { window, ..Guest::default() };
    let (mut left, mut stalls, mut ended) = (4u32 << 20, 0, false);
    b.event(socket, SocketEvent::HungUp);
    loop {
        while let Some(grant) = b.muxer.poll_grant(3732) {
            let GrantKind::Stream { bytes, packets } = grant.what else { panic!() };
            let mut room = bytes;
            for _ in 0..packets {
                let len = left.min(room).min(3732);
                if len > 0 {
                    guest.take(&b.muxer.stream_header(grant.socket, len).unwrap());
                }
                (left, room) = (left - len, room - len);
            }
            let outcome = if left == 0 { ReadOutcome::End } else { ReadOutcome::More };
            b.muxer.handle_read(b.now, grant.socket, outcome);
        }
        while let Some(packet) = b.muxer.poll_packet() {
            guest.take(&packet.header);
            if packet.header.op == op::SHUTDOWN {
                assert!(left == 0 && !ended, "the end comes once, behind all bytes");
                ended = true;
            }
        }
        assert!(b.actions().is_empty(), "nobody gives up");
        stalls += u32::from(left > 0);
        if guest.queued.is_empty() {
            break;
        }
        // A kernel counts a packet as read when its last byte is.
        let len = guest.queued.remove(0);
        b.pass(Duration::from_millis(len.into()));
        guest.read += len;
        let known_free = window - (guest.got - guest.announced);
        if known_free < 64 << 10 || guest.queued.is_empty() {
            let (fwd, alloc) = guest.announce();
            b.send((GP, 620), op::CREDIT_UPDATE, |h| (h.fwd_cnt, h.buf_alloc) = (fwd, alloc));
        }
    }
    assert!(ended && guest.read == 4 << 20, "{} bytes, end: {ended}", guest.read);
    assert_eq!(b.now - start, Duration::from_millis(4 << 20));
    assert!(stalls > 100, "{stalls} stalls: this is about running out of credit");
}

#[test]
fn many_small_writes_stay_below_the_guests_limit_on_packets() {
    let mut b = Bench::new();
    let window = 256 << 10;
    let socket = open_with(&mut b, GP, window);
    b.packets();
    let mut guest = Guest { window, ..Guest::default() };
    let mut left = 100_000_000u32;
    b.event(socket, SocketEvent::Readable);
    while left > 0 {
        let Some(grant) = b.muxer.poll_grant(3732) else {
            // The guest reads some of what it has; its model checks both limits with every packet.
            assert!(!guest.queued.is_empty(), "stuck with {left} bytes to go");
            for len in guest.queued.drain(..) {
                guest.read = guest.read.wrapping_add(len);
            }
            let (fwd, alloc) = guest.announce();
            b.send((GP, 620), op::CREDIT_UPDATE, |h| (h.fwd_cnt, h.buf_alloc) = (fwd, alloc));
            continue;
        };
        let GrantKind::Stream { bytes, .. } = grant.what else { panic!() };
        let len = 200.min(left).min(bytes);
        guest.take(&b.muxer.stream_header(grant.socket, len).unwrap());
        left -= len;
        b.muxer.handle_read(b.now, grant.socket, ReadOutcome::More);
    }
    assert_eq!(guest.got, 100_000_000);
}

#[test]
fn ten_thousand_stalled_connections_stay_below_the_cap() {
    let cap = 64 << 20;
    let mut b = Bench::with(|c| c.limits.buffered = cap);
    let mut reset = 0;
    for port in 1..=10_000 {
        let socket = open_with(&mut b, port, 256 << 10);
        b.packets();
        while b.send((port, 620), op::RW, |h| h.len = 16 << 10) == Disposition::Stream(socket) {
            assert!(b.muxer.buffered() <= cap);
        }
        reset += b.packets().iter().filter(|p| p.0 == op::RST).count();
        b.actions();
    }
    assert_eq!(reset, 10_000, "each ends with the packet that is too much, alone");
}

#[test]
fn an_event_costs_the_same_among_ten_thousand() {
    let mut b = Bench::new();
    let sockets: Vec<_> = (1..=10_000).map(|port| open_with(&mut b, port, 256 << 10)).collect();
    b.packets();
    assert!(
        !b.muxer.wants_buffers() && b.muxer.poll_timeout().is_none(),
        "there is nothing to do while idle"
    );
    for &socket in [&sockets[0], &sockets[9_999], &sockets[5_000]] {
        b.event(socket, SocketEvent::Readable);
        let grant = b.muxer.poll_grant(3732).unwrap();
        assert_eq!(grant.socket, socket);
        b.muxer.handle_read(b.now, socket, ReadOutcome::Drained);
        assert!(b.muxer.poll_grant(3732).is_none() && b.actions().is_empty());
    }
}

/// A burst is its packets, one by one: the same headers, and the same that is left for the next read.
#[test]
fn a_burst_counts_as_its_packets_do() {
    let run = |in_one: bool| {
        let mut b = Bench::new();
        let socket = open_with(&mut b, GP, 64 << 10);
        b.packets();
        b.event(socket, SocketEvent::Readable);
        let grant = b.muxer.poll_grant(3732).unwrap();
        let lens = [3732, 3732, 3732, 17];
        let headers: Vec<_> = if in_one {
            let mut burst = b.muxer.stream_burst(grant.socket).unwrap();
            lens.iter().map(|&len| *burst.packet(len)).collect()
        } else {
            lens.iter().map(|&len| b.muxer.stream_header(grant.socket, len).unwrap().emit()).collect()
        };
        b.muxer.handle_read(b.now, grant.socket, ReadOutcome::More);
        (headers, b.muxer.save())
    };
    let (burst, one_by_one) = (run(true), run(false));
    assert_eq!(burst, one_by_one);
    let lens: Vec<_> = burst.0.iter().map(|bytes| Header::parse(bytes).len).collect();
    assert_eq!(lens, [3732, 3732, 3732, 17]);
}
