//! Verdicts, and what becomes of flows when they change.

use super::requests::listening_on;
use super::*;
use crate::config::PortMap;
use crate::io::{Preamble, Protocol, Verdict};

#[test]
fn the_guests_own_listeners_are_found_past_the_policy() {
    let mut b = Bench::with(|c| {
        c.ask_policy = true;
        c.port_map = PortMap::only([(18000, 8000)]).unwrap();
    });
    listening_on(&mut b, 6000, 5, "0.0.0.0:8000");
    b.create(GP, 2, 1);
    b.connect("127.0.0.1:8000");
    let Action::Connect { addr, .. } = b.action() else { panic!() };
    assert_eq!(addr.inet().unwrap().to_string(), "127.0.0.1:18000");
}

/// Answers the listen of an IPv6 wildcard beside an IPv4 listener: both families at once are refused.
fn listening_on_v6_beside_v4(b: &mut Bench, port: u32, addr: &str) -> SocketId {
    b.create(port, 10, 1);
    b.listen(port, 5, addr);
    let Action::Listen { socket, v6_only: false, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Refused(98));
    let Action::Listen { socket, addr, v6_only: true, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Listening(addr));
    assert_eq!(b.reply(control::LISTEN), 0);
    socket
}

/// Where a connect goes without a question, if it does.
fn unasked(b: &mut Bench, port: u32, addr: &str) -> Option<String> {
    b.create(port, if addr.starts_with('[') { 10 } else { 2 }, 1);
    b.ask_addr(control::CONNECT, port, addr);
    match b.action() {
        Action::Connect { addr, .. } => Some(addr.inet().unwrap().to_string()),
        Action::AskPolicy { .. } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_of_the_host_beside_a_listener_of_the_guest_is_not_the_guests() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    // The host has 127.0.0.1:8000. The guest's IPv4 listener makes its IPv6 one an IPv6-only one.
    listening_on(&mut b, 6000, 5, "127.0.0.2:8000");
    let v6 = listening_on_v6_beside_v4(&mut b, 6001, "[::]:8000");
    let table = [
        ("127.0.0.1:8000", None),
        ("[::ffff:127.0.0.1]:8000", None),
        ("0.0.0.0:8000", None),
        ("[::ffff:0.0.0.0]:8000", None),
        ("127.0.0.2:8000", Some("127.0.0.2:8000")),
        ("[::ffff:127.0.0.2]:8000", Some("127.0.0.2:8000")),
        ("[::1]:8000", Some("[::1]:8000")),
        ("[::]:8000", Some("[::1]:8000")),
        ("127.0.0.2:8001", None),
        ("192.0.2.1:8000", None),
    ];
    let check = |b: &mut Bench, first: u32| {
        for (n, (addr, want)) in (first..).zip(table) {
            assert_eq!(unasked(b, n, addr).as_deref(), want, "{addr}");
        }
    };
    check(&mut b, 7000);
    // One that has only a share in that socket, and then the whole of it.
    b.create(6002, 10, 1);
    b.listen(6002, 5, "[::]:8000");
    assert_eq!(b.reply(control::LISTEN), 0);
    assert!(b.actions().is_empty());
    check(&mut b, 7100);
    b.release(6001, 620);
    assert!(b.actions().is_empty());
    check(&mut b, 7200);
    // The same after a restore.
    let state = b.muxer.save();
    b.release(6002, 620);
    let closed = b.actions();
    assert!(closed.contains(&Action::Close { socket: v6, abort: false }), "{closed:?}");
    assert_eq!(unasked(&mut b, 7300, "[::1]:8000"), None);
    let mut b = Bench::with(|c| c.ask_policy = true);
    b.muxer.restore(&state).unwrap();
    b.packets();
    for action in b.actions() {
        let Action::Listen { socket, addr, .. } = action else { panic!("{action:?}") };
        b.event(socket, SocketEvent::Listening(addr));
    }
    check(&mut b, 7400);
}

#[test]
fn ipv6_only_listeners_share_a_socket_after_a_restore() {
    let mut b = Bench::new();
    listening_on(&mut b, 6000, 5, "127.0.0.2:8000");
    listening_on_v6_beside_v4(&mut b, 6001, "[::]:8000");
    b.create(6002, 10, 1);
    b.listen(6002, 5, "[::]:8000");
    let state = b.muxer.save();
    assert!(state.listeners.iter().all(|l| l.v6_only == l.requested.inet().unwrap().is_ipv6()));
    let mut b = Bench::new();
    b.muxer.restore(&state).unwrap();
    let opened: Vec<bool> =
        b.actions().iter().map(|a| matches!(a, Action::Listen { v6_only: true, .. })).collect();
    assert_eq!(opened, [false, true]);
}

#[test]
fn a_connect_to_a_listener_of_the_guest_ends_with_the_listener() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    let listener = listening_on(&mut b, 6000, 5, "0.0.0.0:8000");
    b.create(GP, 2, 1);
    b.connect("127.0.0.1:8000");
    // Its queue is full, so the host goes on trying.
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.release(6000, 620);
    let closed = [listener, socket].map(|socket| Action::Close { socket, abort: socket != listener });
    assert_eq!(b.actions(), closed);
    assert_eq!(b.reply(control::CONNECT), -111);
    b.connect("127.0.0.1:8000");
    assert!(matches!(b.action(), Action::AskPolicy { .. }), "the port is anybody's now");
}

#[test]
fn verdicts_on_streams() {
    let ask = |family: u16, addr: &str| {
        let mut b = Bench::with(|c| c.ask_policy = true);
        b.create(GP, family, 1);
        b.connect(addr);
        let Action::AskPolicy { id, flow } = b.action() else { panic!() };
        assert_eq!((flow.protocol, flow.destination.to_string().as_str()), (Protocol::Tcp, addr));
        (b, id)
    };
    let (mut b, id) = ask(2, "192.0.2.1:443");
    assert_eq!(b.muxer.handle_verdict(b.now, id, Verdict::Deny), None);
    assert!(b.actions().is_empty());
    assert_eq!(b.reply(control::CONNECT), -111);

    let target = "127.0.0.1:15001".parse().unwrap();
    let (mut b, id) = ask(2, "192.0.2.1:443");
    let header = Preamble::new(&[0, 0, 0, 7, 192, 0, 2, 1, 1, 0xbb, 0, 0]).unwrap();
    let through = b.muxer.handle_verdict(b.now, id, Verdict::Redirect { target, header });
    let Action::Connect { socket, addr } = b.action() else { panic!() };
    assert_eq!(through, Some(socket));
    assert_eq!(addr.inet(), Some(target));
    b.event(socket, SocketEvent::Connected);
    let Action::Preamble { bytes, .. } = b.action() else { panic!() };
    assert_eq!(bytes, header);
    assert_eq!(b.reply(control::CONNECT), 0);
    // The guest sees where it wanted to go.
    b.ask(control::GETNAME, &[GP, 620, 1].map(u32::to_le_bytes).concat());
    assert_eq!(b.muxer.poll_packet().unwrap().payload.unwrap()[12..16], [192, 0, 2, 1]);

    // The answer to a question that is not asked any more.
    let (mut b, id) = ask(10, "[2001:db8::1]:443");
    b.connect("[2001:db8::2]:443");
    let Action::AskPolicy { id: second, .. } = b.action() else { panic!() };
    assert_eq!(b.muxer.handle_verdict(b.now, id, Verdict::Allow), None);
    assert!(b.actions().is_empty());
    assert!(b.muxer.handle_verdict(b.now, second, Verdict::Allow).is_some());
}

#[test]
fn verdicts_on_datagrams() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    b.create(GP, 2, 2);
    let data = |b: &mut Bench| {
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: GP,
            dst_port: control::SENDTO_DATA,
            len: 5,
            kind: kind::DGRAM,
            op: op::RW,
            ..Header::default()
        };
        b.muxer.handle_packet(b.now, &header, &[])
    };
    let verdict = |b: &mut Bench, addr: &str, verdict| {
        b.ask_addr(control::SENDTO_ADDR, GP, addr);
        let Action::AskPolicy { id, .. } = b.action() else { panic!() };
        b.muxer.handle_verdict(b.now, id, verdict);
    };
    verdict(&mut b, "192.0.2.1:53", Verdict::Allow);
    let Action::OpenDatagram { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Opened);
    let to = Some(SockAddr::Inet("192.0.2.1:53".parse().unwrap()));
    assert_eq!(data(&mut b), Disposition::Datagram { socket, to, preamble: None });
    // A verdict that is known is not asked for again.
    b.ask_addr(control::SENDTO_ADDR, GP, "192.0.2.1:53");
    assert!(b.actions().is_empty());
    // After a denial nothing goes to the destination before it.
    verdict(&mut b, "192.0.2.2:53", Verdict::Deny);
    assert_eq!(data(&mut b), Disposition::Done);
    // A redirected destination: a socket of its own, the header once.
    let header = Preamble::new(b"192.0.2.3:53").unwrap();
    let target = "127.0.0.1:1".parse().unwrap();
    verdict(&mut b, "192.0.2.3:53", Verdict::Redirect { target, header });
    let Action::ConnectDatagram { socket: own, .. } = b.action() else { panic!() };
    assert_ne!(own, socket);
    b.event(own, SocketEvent::Connected);
    let first = Disposition::Datagram { socket: own, to: None, preamble: Some(header) };
    assert_eq!(data(&mut b), first);
    assert_eq!(data(&mut b), first, "it may not have got away");
    b.event(own, SocketEvent::PreambleSent);
    assert_eq!(data(&mut b), Disposition::Datagram { socket: own, to: None, preamble: None });
    // Strangers are not heard.
    let from = |text: &str| Some(SockAddr::Inet(text.parse().unwrap()));
    assert!(b.muxer.datagram_header(socket, from("192.0.2.1:99").as_ref(), 1).is_some());
    assert!(b.muxer.datagram_header(socket, from("192.0.2.77:53").as_ref(), 1).is_none());
}

#[test]
fn a_denied_destination_is_asked_about_every_time() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    b.create(GP, 2, 2);
    for denied in 1..=3 {
        b.ask_addr(control::SENDTO_ADDR, GP, "192.0.2.1:53");
        let Action::AskPolicy { id, .. } = b.action() else { panic!() };
        b.muxer.handle_verdict(b.now, id, Verdict::Deny);
        assert_eq!(b.muxer.stats().denied, denied);
    }
    b.ask_addr(control::SENDTO_ADDR, GP, "192.0.2.1:53");
    let Action::AskPolicy { id, .. } = b.action() else { panic!() };
    b.muxer.handle_verdict(b.now, id, Verdict::Allow);
    assert!(matches!(b.action(), Action::OpenDatagram { .. }));
}

/// What is open, as text.
fn open(b: &Bench) -> Vec<String> {
    let flows = b.muxer.open_flows();
    flows.iter().map(|f| format!("{:?} {} {:?}", f.flow.protocol, f.flow.destination, f.target)).collect()
}

#[test]
fn a_new_policy_ends_connects_connections_and_destinations() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    let target = "127.0.0.1:9".parse().unwrap();
    let header = Preamble::new(b"x").unwrap();
    let allow = |b: &mut Bench, verdict| {
        let Action::AskPolicy { id, .. } = b.action() else { panic!() };
        b.muxer.handle_verdict(b.now, id, verdict)
    };
    // One connection that is open, one that connects, one that the guest has not followed up.
    let mut sockets = Vec::new();
    for port in 1..=3 {
        b.create(port, 2, 1);
        b.ask_addr(control::CONNECT, port, "192.0.2.1:80");
        sockets.push(allow(&mut b, Verdict::Allow).unwrap());
        b.actions();
    }
    b.event(sockets[0], SocketEvent::Connected);
    b.event(sockets[2], SocketEvent::Connected);
    b.send((1, 620), op::REQUEST, |_| {});
    b.packets();
    // A datagram socket with a peer, a destination, and one that is redirected.
    b.create(9, 2, 2);
    b.ask_addr(control::CONNECT, 9, "192.0.2.2:53");
    allow(&mut b, Verdict::Allow);
    let Action::ConnectDatagram { socket: common, .. } = b.action() else { panic!() };
    b.event(common, SocketEvent::Connected);
    b.ask_addr(control::SENDTO_ADDR, 9, "192.0.2.3:53");
    allow(&mut b, Verdict::Redirect { target, header });
    let Action::ConnectDatagram { socket: own, .. } = b.action() else { panic!() };
    b.event(own, SocketEvent::Connected);
    b.ask_addr(control::SENDTO_ADDR, 9, "192.0.2.4:53");
    allow(&mut b, Verdict::Allow);
    b.packets();
    let want = [
        "Tcp 192.0.2.1:80 None",
        "Tcp 192.0.2.1:80 None",
        "Tcp 192.0.2.1:80 None",
        "Udp 192.0.2.2:53 None",
        "Udp 192.0.2.2:53 None",
        "Udp 192.0.2.4:53 None",
        "Udp 192.0.2.3:53 Some(127.0.0.1:9)",
    ];
    assert_eq!(open(&b), want);

    b.muxer.policy_changed();
    for flow in b.muxer.open_flows() {
        b.muxer.close_flow(flow.id);
        b.muxer.close_flow(flow.id);
    }
    assert_eq!(open(&b), [""; 0]);
    let closed = b.actions();
    assert_eq!(closed.len(), 5, "{closed:?}");
    for socket in sockets.iter().chain([&common, &own]) {
        assert!(closed.iter().any(|a| matches!(a, Action::Close { socket: s, .. } if s == socket)));
    }
    let told = [(op::RST, 1, 620, 0), (op::RW, CSOCKET, control::CONNECT, -111), (op::RST, 3, 620, 0)];
    assert_eq!(b.packets(), told);
    // What was known is asked again.
    b.ask_addr(control::SENDTO_ADDR, 9, "192.0.2.4:53");
    assert_eq!(allow(&mut b, Verdict::Deny), None);
    b.ask_addr(control::CONNECT, 1, "192.0.2.1:80");
    assert_eq!(allow(&mut b, Verdict::Deny), None);
    assert_eq!(b.muxer.open_sockets(), 0);
}

#[test]
fn a_new_policy_ends_connections_that_the_guest_has_closed_and_whose_last_bytes_wait() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    let target = "127.0.0.1:9".parse().unwrap();
    let header = Preamble::new(b"x").unwrap();
    let mut sockets = Vec::new();
    for (port, verdict) in [(1, Verdict::Allow), (2, Verdict::Redirect { target, header })] {
        b.create(port, 2, 1);
        b.ask_addr(control::CONNECT, port, "192.0.2.1:80");
        let Action::AskPolicy { id, .. } = b.action() else { panic!() };
        let socket = b.muxer.handle_verdict(b.now, id, verdict).unwrap();
        b.event(socket, SocketEvent::Connected);
        b.send((port, 620), op::REQUEST, |_| {});
        assert_eq!(b.send((port, 620), op::RW, |h| h.len = 9), Disposition::Stream(socket));
        b.release(port, 620);
        b.actions();
        sockets.push(socket);
    }
    b.packets();
    assert_eq!(open(&b), ["Tcp 192.0.2.1:80 None", "Tcp 192.0.2.1:80 Some(127.0.0.1:9)"]);
    let streams: Vec<_> = b.muxer.open_flows().iter().map(|flow| flow.stream.unwrap()).collect();
    assert_eq!(streams, sockets);
    // One of them may go on.
    b.muxer.policy_changed();
    let ended = b.muxer.open_flows()[0].id;
    b.muxer.close_flow(ended);
    b.muxer.close_flow(ended);
    assert_eq!(b.action(), Action::Close { socket: sockets[0], abort: true });
    assert_eq!((open(&b).len(), b.muxer.buffered()), (1, 9));
    b.event(sockets[1], SocketEvent::Written(9));
    assert_eq!(b.action(), Action::Close { socket: sockets[1], abort: false });
    assert_eq!((open(&b).len(), b.muxer.buffered(), b.muxer.open_sockets()), (0, 0, 0));
    assert!(b.packets().is_empty());
}

#[test]
fn what_never_leaves_the_machine_is_no_flow() {
    let mut b = Bench::with(|c| c.ask_policy = true);
    listening_on(&mut b, 6000, 5, "0.0.0.0:8000");
    b.create(GP, 2, 1);
    b.connect("127.0.0.1:8000");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    assert_eq!(open(&b), [""; 0]);
    b.create(7000, 1, 1);
    b.ask_addr(control::CONNECT, 7000, "/run/x");
    assert!(matches!(b.action(), Action::Connect { .. }));
    assert_eq!(open(&b), [""; 0]);
}
