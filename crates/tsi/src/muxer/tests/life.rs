use super::requests::listening_on;
use super::*;
use crate::config::{Dial, UnixPort};
use crate::io::{ReadOutcome, Verdict};
use crate::wire::{UnixAddr, shut};

/// Of a byte, from and to this port, as a guest's socket sends it to its destination.
fn datagram(port: u32) -> Header {
    Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: port,
        dst_port: port,
        len: 1,
        kind: kind::DGRAM,
        op: op::RW,
        ..Header::default()
    }
}

fn ports(config: &mut MuxerConfig) {
    let entry = |port, name: &[u8], dial| UnixPort { port, path: UnixAddr::new(name).unwrap(), dial };
    config.unix_ports = vec![entry(7, b"/seven", Dial::Guest), entry(8, b"/eight", Dial::Host)];
}

#[test]
fn the_guest_dials_a_mapped_port() {
    let mut b = Bench::with(ports);
    b.actions();
    b.send((GP, 7), op::REQUEST, |_| {});
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    assert_eq!(b.packets(), [(op::RESPONSE, GP, 7, 0)]);
    // The host end closes while the guest still sends: half stays open.
    b.event(socket, SocketEvent::Readable);
    let grant = b.muxer.poll_grant(100).unwrap();
    b.muxer.handle_read(b.now, grant.socket, ReadOutcome::End);
    assert_eq!(b.packets(), [(op::SHUTDOWN, GP, 7, i64::from(shut::SEND))]);
    assert_eq!(b.send((GP, 7), op::RW, |h| h.len = 9), Disposition::Stream(socket));
}

#[test]
fn a_mapped_port_without_a_listener_is_reset_and_a_full_one_tried_again() {
    let mut b = Bench::with(ports);
    b.actions();
    b.send((GP, 7), op::REQUEST, |_| {});
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Refused(2));
    assert_eq!(b.packets(), [(op::RST, GP, 7, 0)]);
    b.send((GP, 7), op::REQUEST, |_| {});
    for _ in 0..3 {
        let Action::Connect { socket, .. } = b.action() else { panic!() };
        b.event(socket, SocketEvent::Refused(11));
        b.pass(Duration::from_millis(30));
    }
    assert!(b.packets().is_empty());
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.now += Duration::from_secs(2);
    b.event(socket, SocketEvent::Refused(11));
    assert_eq!(b.packets(), [(op::RST, GP, 7, 0)]);
}

#[test]
fn a_host_client_waits_for_a_guest_that_boots() {
    let mut b = Bench::with(ports);
    let Action::Listen { socket: listener, .. } = b.action() else { panic!() };
    b.event(listener, SocketEvent::Listening(SockAddr::Unix(UnixAddr::new(b"/eight").unwrap())));
    b.event(listener, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    let Action::Accept { socket: none, .. } = b.action() else { panic!() };
    b.event(none, SocketEvent::NothingToAccept);
    let (_, to, from, _) = b.packets()[0];
    assert_eq!(to, 8);
    for _ in 0..20 {
        b.send((8, from), op::RST, |_| {});
        b.pass(Duration::from_millis(150));
        assert_eq!(b.packets(), [(op::REQUEST, 8, from, 0)]);
    }
    b.send((8, from), op::RESPONSE, |_| {});
    b.event(socket, SocketEvent::Readable);
    assert!(b.muxer.poll_grant(100).is_some());
    // Not after the grace.
    b.event(listener, SocketEvent::Readable);
    let Some(Action::Accept { socket, .. }) = b.actions().into_iter().next() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    let (_, _, from, _) = b.packets()[0];
    b.pass(Duration::from_secs(5));
    b.now += Duration::from_secs(31);
    b.send((8, from), op::RST, |_| {});
    assert!(b.actions().contains(&Action::Close { socket, abort: true }));
}

#[test]
fn no_packet_names_the_listener_of_a_mapped_port() {
    let mut b = Bench::with(ports);
    let Action::Listen { socket: listener, .. } = b.action() else { panic!() };
    for host in [0, 7, 8, 620] {
        for op in 0..9 {
            b.send((8, host), op, |_| {});
        }
        b.release(8, host);
        b.ask(control::GETNAME, &[8, host, 0].map(u32::to_le_bytes).concat());
    }
    assert!(!b.actions().iter().any(|a| matches!(a, Action::Close { socket, .. } if *socket == listener)));
}

#[test]
fn a_restored_muxer_owes_replies_and_keeps_listeners() {
    let mut b = Bench::new();
    b.open();
    b.create(6000, 2, 1);
    b.listen(6000, 9, "0.0.0.0:80");
    let Action::Listen { socket, addr, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Listening(addr));
    b.ask(control::ACCEPT, &[6000, 0].map(u32::to_le_bytes).concat());
    b.create(6001, 2, 1);
    b.ask_addr(control::CONNECT, 6001, "192.0.2.1:1");
    b.create(6002, 2, 2);
    b.ask_addr(control::CONNECT, 6002, "192.0.2.1:53");
    for action in b.actions() {
        if let Action::ConnectDatagram { socket, .. } = action {
            b.event(socket, SocketEvent::Connected);
        }
    }
    b.packets();
    let state = b.muxer.save();
    assert_eq!((state.streams.len(), state.listeners.len(), state.dgrams.len()), (2, 1, 1));

    let mut b = Bench::new();
    b.muxer.restore(&state).unwrap();
    assert_eq!(b.muxer.restore(&state), Err(StateError::NotFresh));
    assert_eq!(b.reply(control::CONNECT), -104);
    let Action::Listen { socket, addr, backlog, .. } = b.action() else { panic!() };
    assert_eq!(backlog, 9);
    b.event(socket, SocketEvent::Listening(addr));
    assert!(b.packets().is_empty(), "the guest's listen(2) is long done");
    // The thread that waited in accept(2) still does.
    b.event(socket, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    b.actions();
    let (_, to, from, _) = b.packets()[0];
    b.send((to, from), op::RESPONSE, |_| {});
    assert_eq!(b.reply(control::ACCEPT), 0);
    // The old connection is dead, its socket can connect again.
    assert_eq!(b.send((GP, 620), op::RW, |h| h.len = 3), Disposition::Done);
    assert_eq!(b.packets(), [(op::RST, GP, 620, 0)]);
    b.connect("192.0.2.1:80");
    assert!(matches!(b.action(), Action::Connect { .. }));
    // The datagram socket connects again with its first datagram.
    let header = datagram(6002);
    assert_eq!(b.muxer.handle_packet(b.now, &header, &[]), Disposition::Done);
    let Action::ConnectDatagram { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    assert!(matches!(b.muxer.handle_packet(b.now, &header, &[]), Disposition::Datagram { .. }));
    let mut twice = state.clone();
    twice.dgrams.push(twice.dgrams[0].clone());
    assert!(matches!(Bench::new().muxer.restore(&twice), Err(StateError::Twice { guest: 6002, .. })));
}

#[test]
fn answers_that_the_guest_has_not_taken_are_given_after_a_restore() {
    let mut b = Bench::new();
    listening_on(&mut b, 6000, 5, "0.0.0.0:80");
    b.create(GP, 2, 1);
    b.connect("192.0.2.1:1");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Refused(111));
    b.ask(control::GETNAME, &[6000, 620, 0].map(u32::to_le_bytes).concat());
    b.ask(control::ACCEPT, &[6000, 0x800].map(u32::to_le_bytes).concat());
    b.create(6001, 2, 1);
    b.ask_addr(control::CONNECT, 6001, "192.0.2.1:2");
    // A packet of a stream is none of them.
    b.send((9, 9), op::RW, |h| h.len = 1);
    let state = b.muxer.save();

    let mut b = Bench::new();
    b.muxer.restore(&state).unwrap();
    let again = b.muxer.save();
    assert_eq!(again.replies.len(), 4);
    let mut name = [0; 136];
    let want =
        [(control::CONNECT, -111), (control::GETNAME, 0), (control::ACCEPT, -11), (control::CONNECT, -104)];
    for (port, result) in want {
        let packet = b.muxer.poll_packet().unwrap();
        let Header { src_port, dst_port, kind, op, .. } = packet.header;
        assert_eq!((src_port, dst_port, kind, op), (port, CSOCKET, kind::DGRAM, op::RW));
        let bytes = packet.payload.unwrap();
        assert_eq!(i32::from_le_bytes(*bytes.first_chunk().unwrap()), result);
        if port == control::GETNAME {
            name = *bytes;
        }
    }
    assert_eq!(name[4..12], [16, 0, 0, 0, 2, 0, 0, 80]);
    assert!(b.muxer.poll_packet().is_none());
    // More than can wait are refused.
    let mut b = Bench::with(|c| (c.limits.messages, c.limits.records) = (2, 3));
    let mut many = MuxerState { replies: state.replies, ..MuxerState::default() };
    many.replies.extend_from_within(..);
    let limit = StateError::TooManyReplies { found: 6, limit: 5 };
    assert_eq!(b.muxer.restore(&many), Err(limit));
}

#[test]
fn a_restored_datagram_socket_connects_again_only_if_the_policy_lets_it() {
    let mut b = Bench::new();
    b.create(6002, 2, 2);
    b.ask_addr(control::CONNECT, 6002, "192.0.2.1:53");
    let Action::ConnectDatagram { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    b.packets();
    let state = b.muxer.save();

    let mut b = Bench::with(|c| c.ask_policy = true);
    b.muxer.restore(&state).unwrap();
    let header = datagram(6002);
    for denied in 1..=2 {
        assert_eq!(b.muxer.handle_packet(b.now, &header, &[]), Disposition::Done);
        let Action::AskPolicy { id, flow } = b.action() else { panic!() };
        assert_eq!(flow.destination.to_string(), "192.0.2.1:53");
        b.muxer.handle_verdict(b.now, id, Verdict::Deny);
        assert!(b.actions().is_empty(), "nothing is made that could send");
        assert_eq!((b.muxer.stats().denied, b.muxer.open_sockets()), (denied, 0));
    }
    // The guest still knows its peer, and gets through as soon as it may.
    b.ask(control::GETNAME, &[6002, 620, 1].map(u32::to_le_bytes).concat());
    assert_eq!(b.muxer.poll_packet().unwrap().payload.unwrap()[12..16], [192, 0, 2, 1]);
    assert_eq!(b.muxer.handle_packet(b.now, &header, &[]), Disposition::Done);
    let Action::AskPolicy { id, .. } = b.action() else { panic!() };
    b.muxer.handle_verdict(b.now, id, Verdict::Allow);
    let Action::ConnectDatagram { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    let sent = Disposition::Datagram { socket, to: None, preamble: None };
    assert_eq!(b.muxer.handle_packet(b.now, &header, &[]), sent);
}

#[test]
fn a_socket_that_is_used_again_and_again_is_listed_once() {
    let mut b = Bench::with(|c| c.limits.unused = 4);
    b.create(GP, 2, 1);
    for _ in 0..100 {
        b.connect("192.0.2.1:1");
        let Action::Connect { socket, .. } = b.action() else { panic!() };
        b.event(socket, SocketEvent::Refused(111));
        assert_eq!(b.reply(control::CONNECT), -111);
    }
    for _ in 0..100 {
        b.connect("192.0.2.1:1");
        let Some(Action::Connect { socket, .. }) = b.actions().pop() else { panic!() };
        b.event(socket, SocketEvent::Connected);
        assert_eq!(b.reply(control::CONNECT), 0);
        b.send((GP, 620), op::REQUEST, |_| {});
        b.send((GP, 620), op::RST, |_| {});
        b.packets();
    }
    assert_eq!((b.muxer.unused.len(), b.muxer.dead.len(), b.muxer.records.len()), (1, 1, 1));
    // It is found when a place is needed, whatever happened to it since.
    b.muxer.config.limits.records = 2;
    b.create(6000, 2, 1);
    b.create(6001, 2, 1);
    b.create(6002, 2, 1);
    let ports: Vec<u32> = b.muxer.records.iter().map(|(_, record)| record.key.guest).collect();
    assert_eq!(b.muxer.records.len(), 2, "{ports:?}");
    assert!(ports.contains(&6002));
}

#[test]
fn the_deadline_of_last_bytes_goes_with_them() {
    let mut b = Bench::new();
    for round in 1..=3 {
        let socket = b.open();
        assert_eq!(b.send((GP, 620), op::RW, |h| h.len = 9), Disposition::Stream(socket));
        b.release(GP, 620);
        assert!(b.muxer.poll_timeout().is_some());
        b.event(socket, SocketEvent::Written(9));
        assert_eq!(b.action(), Action::Close { socket, abort: false });
        assert_eq!(b.muxer.poll_timeout(), None, "after {round}");
    }
}

#[test]
fn only_the_end_of_a_close_may_go_unnoticed() {
    let mut b = Bench::with(ports);
    b.actions();
    b.send((GP, 7), op::REQUEST, |_| {});
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    assert!(!b.muxer.poll_packet().unwrap().lazy);
    b.send((GP, 7), op::SHUTDOWN, |h| h.flags = shut::BOTH);
    let end = b.muxer.poll_packet().unwrap();
    assert_eq!((end.header.op, end.lazy), (op::RST, true));
    // The record is gone: a shutdown after that is still a close, a request is not.
    b.send((GP, 7), op::SHUTDOWN, |h| h.flags = shut::BOTH);
    assert!(b.muxer.poll_packet().unwrap().lazy);
    b.send((GP, 99), op::REQUEST, |_| {});
    assert!(!b.muxer.poll_packet().unwrap().lazy);
}
