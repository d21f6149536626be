//! Guests that do not keep to anything.

use super::requests::listening_on;
use super::*;
use crate::config::{Dial, UnixPort};
use crate::io::ReadOutcome;
use crate::wire::{UnixAddr, shut};

#[test]
fn requests_of_every_length_get_one_answer_or_none() {
    let with_answer = [control::CONNECT, control::GETNAME, control::LISTEN, control::ACCEPT];
    for to in control::CREATE..=control::RELEASE {
        for len in 0..=200 {
            for fill in [0, 1, 2, 10, 0xff] {
                let mut b = Bench::new();
                b.ask(to, &vec![fill; len]);
                let answers = usize::from(with_answer.contains(&to));
                assert_eq!(b.packets().len(), answers, "{len} bytes of {fill} to {to}");
                assert!(b.actions().is_empty());
            }
        }
    }
}

/// One of everything that has ports: (guest's port, host's port) of each, and the sockets behind them.
fn everything() -> (Bench, Vec<(u32, u32)>, Vec<SocketId>) {
    let mut b = Bench::with(|c| {
        let entry = |port, name: &[u8], dial| UnixPort { port, path: UnixAddr::new(name).unwrap(), dial };
        c.unix_ports = vec![entry(7, b"/seven", Dial::Guest), entry(8, b"/eight", Dial::Host)];
    });
    let Action::Listen { socket: acceptor, addr, .. } = b.action() else { panic!() };
    b.event(acceptor, SocketEvent::Listening(addr));
    let mut sockets = vec![acceptor, b.open()];
    sockets.push(listening_on(&mut b, 6000, 5, "0.0.0.0:80"));
    b.event(sockets[2], SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    b.actions();
    let (_, _, child, _) = b.packets()[0];
    b.send((6000, child), op::RESPONSE, |_| {});
    sockets.push(socket);
    b.send((9000, 7), op::REQUEST, |_| {});
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    sockets.push(socket);
    b.create(7000, 2, 2);
    b.ask_addr(control::SENDTO_ADDR, 7000, "192.0.2.1:53");
    let Action::OpenDatagram { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Opened);
    sockets.push(socket);
    b.packets();
    (b, vec![(8, 0), (GP, 620), (6000, 620), (6000, child), (9000, 7), (7000, 620)], sockets)
}

#[test]
fn another_process_touches_nothing_whatever_ports_it_names() {
    let (mut b, ports, sockets) = everything();
    let open = b.muxer.open_sockets();
    // The accepted one belongs to whoever names it first, which must have been its owner.
    b.ask(control::GETNAME, &[6000, ports[3].1, 1].map(u32::to_le_bytes).concat());
    b.packets();
    for (guest, host) in ports.iter().copied().chain([(8, 620), (7, 7), (0, 620)]) {
        for family in [1, 2, 10] {
            for kind in [1, 2] {
                let bytes = [&guest.to_le_bytes()[..], &[family, 0, kind, 0]].concat();
                b.ask_from(9, control::CREATE, &bytes);
            }
        }
        let addressed = [&guest.to_le_bytes()[..], &sockaddr("192.0.2.9:9")].concat();
        b.ask_from(9, control::CONNECT, &addressed);
        b.ask_from(9, control::SENDTO_ADDR, &addressed);
        let listen = [guest, guest, 5].map(u32::to_le_bytes).concat();
        b.ask_from(9, control::LISTEN, &[&listen[..], &sockaddr("0.0.0.0:9")].concat());
        b.ask_from(9, control::ACCEPT, &[guest, 0].map(u32::to_le_bytes).concat());
        b.ask_from(9, control::GETNAME, &[guest, host, 1].map(u32::to_le_bytes).concat());
        b.ask_from(9, control::RELEASE, &[guest, host].map(u32::to_le_bytes).concat());
    }
    let touched = b.actions().into_iter().any(|action| match action {
        Action::Close { socket, .. } => sockets.contains(&socket),
        Action::ConnectDatagram { socket, .. } => sockets.contains(&socket),
        _ => false,
    });
    assert!(!touched && b.muxer.open_sockets() >= open);
}

#[test]
fn a_second_announcement_does_not_touch_a_socket_in_use() {
    for kind in [1, 2] {
        let (mut b, ..) = everything();
        let open = b.muxer.open_sockets();
        for port in [GP, 6000, 7000] {
            b.create(port, 2, kind);
        }
        b.create(9999, 77, 1);
        b.create(9999, 2, 3);
        assert!(b.actions().is_empty());
        assert_eq!(b.muxer.open_sockets(), open);
        b.ask_addr(control::CONNECT, 9999, "192.0.2.1:80");
        assert_eq!(b.reply(control::CONNECT), -111, "nothing was announced");
    }
}

#[test]
fn every_packet_in_every_state_is_answered_by_the_book() {
    for kind in 0..=4 {
        for op in 0..=9 {
            for flags in [0, shut::RECEIVE, shut::SEND, shut::BOTH, u32::MAX] {
                for len in [0, 1, 65_536, 65_537] {
                    let (mut b, ports, sockets) = everything();
                    for &(guest, host) in &ports {
                        b.send((guest, host), op, |h| (h.kind, h.flags, h.len) = (kind, flags, len));
                    }
                    for packet in b.packets() {
                        let known = [op::RST, op::CREDIT_UPDATE, op::RESPONSE].contains(&packet.0);
                        assert!(known, "{packet:?} to kind {kind} op {op} flags {flags} len {len}");
                    }
                    let closed = |action: &Action, socket| matches!(action, Action::Close { socket: s, .. } if *s == socket);
                    let actions = b.actions();
                    // No packet of a stream closes a listener.
                    assert!(!actions.iter().any(|a| closed(a, sockets[0]) || closed(a, sockets[2])));
                }
            }
        }
    }
}

#[test]
fn a_client_that_is_gone_before_accept_is_accepted_all_the_same() {
    let mut b = Bench::new();
    let listener = listening_on(&mut b, 6000, 5, "0.0.0.0:80");
    b.event(listener, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    let from = SockAddr::Inet("198.51.100.7:4321".parse().unwrap());
    b.event(socket, SocketEvent::Accepted(Some(from)));
    b.actions();
    let (_, _, child, _) = b.packets()[0];
    b.send((6000, child), op::RESPONSE, |_| {});
    b.event(socket, SocketEvent::HungUp);
    let grant = b.muxer.poll_grant(3732).unwrap();
    b.muxer.handle_read(b.now, grant.socket, ReadOutcome::Failed);
    assert_eq!(b.packets(), [(op::RST, 6000, child, 0)]);
    // It sits in the guest's queue; accept(2) and the name that goes with it succeed.
    b.ask(control::ACCEPT, &[6000, 0x800].map(u32::to_le_bytes).concat());
    assert_eq!(b.reply(control::ACCEPT), 0);
    b.ask(control::GETNAME, &[6000, child, 2].map(u32::to_le_bytes).concat());
    let payload = b.muxer.poll_packet().unwrap().payload.unwrap();
    assert_eq!(payload[..16], [0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0x10, 0xe1, 198, 51, 100, 7]);
    b.release(6000, child);
    b.ask(control::ACCEPT, &[6000, 0x800].map(u32::to_le_bytes).concat());
    assert_eq!(b.reply(control::ACCEPT), -11);
}

#[test]
fn a_released_offer_makes_room_for_the_next() {
    let mut b = Bench::new();
    let listener = listening_on(&mut b, 6000, 2, "0.0.0.0:80");
    b.event(listener, SocketEvent::Readable);
    for _ in 0..10 {
        let next = b.actions().into_iter().find(|a| matches!(a, Action::Accept { .. }));
        let Some(Action::Accept { socket, .. }) = next else { panic!("no room") };
        b.event(socket, SocketEvent::Accepted(None));
        let [(op::REQUEST, 6000, host, _)] = b.packets()[..] else { panic!() };
        b.release(6000, host);
    }
}
