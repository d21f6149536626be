use proptest::prelude::*;

use super::guest::Guest;
use super::*;
use crate::io::{GrantKind, ReadOutcome};
use crate::wire::shut;

fn rw(b: &mut Bench, len: u32) -> Disposition {
    b.send((GP, 620), op::RW, |h| h.len = len)
}

fn read(b: &mut Bench, len: u32, outcome: ReadOutcome) {
    let grant = b.muxer.poll_grant(3732).expect("a grant");
    assert!(matches!(grant.what, GrantKind::Stream { bytes, .. } if bytes >= len));
    if len > 0 {
        let header = b.muxer.stream_header(grant.socket, len).unwrap();
        assert_eq!((header.op, header.dst_port, header.len), (op::RW, GP, len));
    }
    b.muxer.handle_read(b.now, grant.socket, outcome);
}

#[test]
fn nothing_is_read_before_the_response_is_out() {
    let mut b = Bench::new();
    b.create(GP, 2, 1);
    b.connect("192.0.2.1:80");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    b.event(socket, SocketEvent::Readable);
    assert!(b.muxer.poll_grant(3732).is_none());
    b.packets();
    b.send((GP, 620), op::REQUEST, |_| {});
    assert!(b.muxer.poll_grant(3732).is_none(), "the response waits");
    assert_eq!(b.packets(), [(op::RESPONSE, GP, 620, 0)]);
    assert!(b.muxer.poll_grant(3732).is_some());
}

#[test]
fn the_end_comes_after_the_bytes_and_half_stays_open() {
    let mut b = Bench::new();
    let socket = b.open();
    b.event(socket, SocketEvent::HungUp);
    read(&mut b, 3000, ReadOutcome::More);
    read(&mut b, 0, ReadOutcome::End);
    assert_eq!(b.packets(), [(op::SHUTDOWN, GP, 620, i64::from(shut::SEND))]);
    assert_eq!(rw(&mut b, 100), Disposition::Stream(socket));
}

#[test]
fn shutdowns_add_up_and_end_with_one_reset() {
    let mut b = Bench::new();
    let socket = b.open();
    for flags in [0, shut::RECEIVE, shut::RECEIVE] {
        b.send((GP, 620), op::SHUTDOWN, |h| h.flags = flags);
    }
    assert!(b.packets().is_empty());
    b.send((GP, 620), op::SHUTDOWN, |h| h.flags = shut::SEND);
    assert_eq!(b.packets(), [(op::RST, GP, 620, 0)]);
    assert_eq!(b.actions(), [Action::Close { socket, abort: false }]);
    // Released first: the shutdown that follows finds nothing, and gets its reset.
    let mut b = Bench::new();
    b.open();
    b.release(GP, 620);
    b.send((GP, 620), op::SHUTDOWN, |h| h.flags = shut::BOTH);
    assert_eq!(b.packets(), [(op::RST, GP, 620, 0)]);
}

#[test]
fn the_end_of_data_waits_for_the_data() {
    let mut b = Bench::new();
    let socket = b.open();
    assert_eq!(rw(&mut b, 1000), Disposition::Stream(socket));
    b.send((GP, 620), op::SHUTDOWN, |h| h.flags = shut::SEND);
    b.event(socket, SocketEvent::Written(400));
    assert!(b.actions().is_empty());
    b.event(socket, SocketEvent::Written(600));
    assert_eq!(b.actions(), [Action::ShutdownWrite { socket }]);
}

#[test]
fn last_bytes_go_out_after_the_guest_has_closed() {
    let mut b = Bench::new();
    let socket = b.open();
    assert_eq!(rw(&mut b, 1000), Disposition::Stream(socket));
    b.release(GP, 620);
    b.send((GP, 620), op::SHUTDOWN, |h| h.flags = shut::BOTH);
    b.send((GP, 620), op::RST, |_| {});
    assert_eq!(b.packets(), [(op::RST, GP, 620, 0)]);
    assert!(b.actions().is_empty());
    b.event(socket, SocketEvent::Written(999));
    assert!(b.actions().is_empty());
    b.event(socket, SocketEvent::Written(1));
    assert_eq!(b.actions(), [Action::Close { socket, abort: false }]);
    assert_eq!((b.muxer.buffered(), b.muxer.open_sockets()), (0, 0));
    // But not for ever.
    let mut b = Bench::new();
    let socket = b.open();
    let _ = rw(&mut b, 1000);
    b.release(GP, 620);
    b.pass(Duration::from_secs(61));
    assert_eq!(b.actions(), [Action::Close { socket, abort: true }]);
    assert_eq!(b.muxer.buffered(), 0);
}

#[test]
fn a_broken_host_is_told_at_once_and_the_port_can_be_used_again() {
    let mut b = Bench::new();
    let socket = b.open();
    let _ = rw(&mut b, 10);
    b.event(socket, SocketEvent::WriteFailed);
    assert_eq!(b.packets(), [(op::RST, GP, 620, 0)]);
    assert_eq!(b.actions(), [Action::Close { socket, abort: true }]);
    assert_eq!(rw(&mut b, 10), Disposition::Done);
    assert_eq!(b.packets(), [(op::RST, GP, 620, 0)]);
    b.connect("192.0.2.1:80");
    assert!(matches!(b.action(), Action::Connect { .. }));
}

#[test]
fn what_breaks_the_protocol_resets_that_connection() {
    let breaches: [&dyn Fn(&mut Bench); 6] = [
        &|b| {
            for _ in 0..5 {
                let _ = b.send((GP, 620), op::RW, |h| h.len = 65536);
            }
        },
        &|b| drop(b.send((GP, 620), op::CREDIT_UPDATE, |h| h.fwd_cnt = 1)),
        &|b| drop(b.send((GP, 620), op::REQUEST, |_| {})),
        &|b| drop(b.send((GP, 620), op::RW, |h| h.len = 65537)),
        &|b| {
            let _ = b.send((GP, 620), op::SHUTDOWN, |h| h.flags = shut::SEND);
            drop(b.send((GP, 620), op::RW, |h| h.len = 1));
        },
        &|b| {
            let header = Header {
                src_cid: 3,
                dst_cid: 2,
                src_port: GP,
                dst_port: 620,
                kind: kind::STREAM,
                op: op::RW,
                ..Header::default()
            };
            b.muxer.handle_malformed(b.now, &header);
        },
    ];
    for (number, breach) in breaches.iter().enumerate() {
        let mut b = Bench::new();
        let socket = b.open();
        breach(&mut b);
        assert!(b.actions().contains(&Action::Close { socket, abort: true }), "{number}");
        assert!(b.packets().contains(&(op::RST, GP, 620, 0)), "{number}");
        assert_eq!(b.muxer.buffered(), 0, "{number}");
    }
}

#[test]
fn strays_are_reset_but_never_a_reset() {
    for op in 0..12 {
        let mut b = Bench::new();
        b.send((77, 88), op, |_| {});
        let want = if op == op::RST { vec![] } else { vec![(op::RST, 77, 88, 0)] };
        assert_eq!(b.packets(), want, "op {op}");
        b.send((77, 88), op, |h| h.kind = kind::SEQPACKET);
        assert_eq!(b.packets().len(), want.len());
        b.send((77, 88), op, |h| h.src_cid = 4);
        b.send((77, 88), op, |h| h.kind = 9);
        assert!(b.packets().is_empty());
    }
}

#[test]
fn a_request_for_credit_is_answered() {
    let mut b = Bench::new();
    b.open();
    b.send((GP, 620), op::CREDIT_REQUEST, |_| {});
    b.send((GP, 620), op::CREDIT_REQUEST, |_| {});
    assert_eq!(b.packets(), [(op::CREDIT_UPDATE, GP, 620, 0)]);
}

#[test]
fn one_greedy_connection_gets_a_turn_among_others() {
    let mut b = Bench::new();
    let mut sockets = Vec::new();
    for port in 1..=3u32 {
        b.create(port, 2, 1);
        b.ask_addr(control::CONNECT, port, "192.0.2.1:80");
        let Action::Connect { socket, .. } = b.action() else { panic!() };
        b.event(socket, SocketEvent::Connected);
        b.send((port, 620), op::REQUEST, |_| {});
        sockets.push(socket);
    }
    b.packets();
    for &socket in &sockets {
        b.event(socket, SocketEvent::Readable);
    }
    let mut turns = Vec::new();
    for _ in 0..9 {
        let grant = b.muxer.poll_grant(3732).unwrap();
        turns.push(grant.socket);
        let GrantKind::Stream { packets, .. } = grant.what else { panic!() };
        assert!(packets <= 64);
        b.muxer.stream_header(grant.socket, 100).unwrap();
        b.muxer.handle_read(b.now, grant.socket, ReadOutcome::More);
    }
    assert_eq!(turns, [&sockets[..], &sockets, &sockets].concat());
}

#[test]
fn too_many_waiting_messages_choke_the_guest_and_none_is_lost() {
    let mut b = Bench::with(|c| c.limits.messages = 10);
    let mut asked = 0;
    while !b.muxer.is_choked() {
        b.ask(control::ACCEPT, &[1, 0].map(u32::to_le_bytes).concat());
        asked += 1;
    }
    assert_eq!((asked, b.packets().len()), (10, 10));
    assert!(!b.muxer.is_choked());
}

#[test]
fn all_connections_together_have_a_cap() {
    let mut b = Bench::with(|c| c.limits.buffered = 300_000);
    let mut refused = 0;
    for port in 1..=20u32 {
        b.create(port, 2, 1);
        b.ask_addr(control::CONNECT, port, "192.0.2.1:80");
        let Action::Connect { socket, .. } = b.action() else { panic!() };
        b.event(socket, SocketEvent::Connected);
        b.send((port, 620), op::REQUEST, |_| {});
        if b.send((port, 620), op::RW, |h| h.len = 16 << 10) == Disposition::Done {
            refused += 1;
        }
        b.actions();
        assert!(b.muxer.buffered() <= 300_000);
    }
    assert_eq!(refused, 20 - 300_000 / (16 << 10));
}

proptest! {
    /// A guest as Linux is one, and a host that takes and gives in pieces, joined: every byte arrives, in both
    /// directions, whatever the buffers.
    #[test]
    fn both_directions_deliver_everything(
        window in prop_oneof![Just(128u32), Just(4096), Just(256 << 10), Just(64 << 20)],
        to_guest in 0u32..600_000,
        to_host in 0u32..600_000,
        seed: u64,
    ) {
        let mut b = Bench::new();
        b.create(GP, 2, 1);
        b.connect("192.0.2.1:80");
        let Action::Connect { socket, .. } = b.action() else { panic!() };
        b.event(socket, SocketEvent::Connected);
        b.packets();
        b.send((GP, 620), op::REQUEST, |h| h.buf_alloc = window);
        let mut guest = Guest { window, rng: seed, ..Guest::default() };
        let (mut host_left, mut kept, mut received) = (to_guest, 0u32, 0u32);
        let mut guest_left = to_host;
        let mut ended = false;
        b.event(socket, SocketEvent::Readable);
        for _ in 0..400_000 {
            while let Some(packet) = b.muxer.poll_packet() {
                guest.take(&packet.header);
                ended |= packet.header.op == op::SHUTDOWN;
            }
            // The host's bytes go to the guest.
            if let Some(grant) = b.muxer.poll_grant(3732) {
                let GrantKind::Stream { bytes, packets } = grant.what else { panic!() };
                let mut n = guest.below(bytes.min(host_left)).max(1).min(host_left).min(bytes);
                for _ in 0..packets {
                    let len = n.min(3732);
                    if len == 0 { break; }
                    guest.take(&b.muxer.stream_header(grant.socket, len).unwrap());
                    n -= len;
                    host_left -= len;
                }
                let outcome = if host_left == 0 { ReadOutcome::End } else { ReadOutcome::More };
                // The end is seen by a read of its own.
                let outcome = if outcome == ReadOutcome::End && bytes > 0 && !guest.flip() { ReadOutcome::More } else { outcome };
                b.muxer.handle_read(b.now, grant.socket, outcome);
            }
            // The guest reads, and sends what its window lets it.
            if guest.read() {
                let (fwd, alloc) = guest.announce();
                b.send((GP, 620), op::CREDIT_UPDATE, |h| { h.fwd_cnt = fwd; h.buf_alloc = alloc; });
            }
            let len = guest.window_left().min(guest_left).min(65536);
            if len > 0 && guest.flip() {
                let (fwd, alloc) = guest.announce();
                let d = b.send((GP, 620), op::RW, |h| { h.len = len; h.fwd_cnt = fwd; h.buf_alloc = alloc; });
                prop_assert_eq!(d, Disposition::Stream(socket));
                guest.sent = guest.sent.wrapping_add(len);
                guest_left -= len;
                kept += len;
            }
            // The host takes some.
            if kept > 0 && guest.flip() {
                let n = guest.below(kept).max(1);
                b.event(socket, SocketEvent::Written(n));
                kept -= n;
                received += n;
            }
            prop_assert!(b.actions().is_empty());
            if ended && received == to_host && guest.got == to_guest {
                return Ok(());
            }
        }
        prop_assert!(false, "stuck: {received} of {to_host}, {} of {to_guest}", guest.got);
    }
}
