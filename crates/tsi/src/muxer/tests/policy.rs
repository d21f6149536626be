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
    assert_eq!(data(&mut b), Disposition::Datagram { socket: own, to: None, preamble: None });
    // Strangers are not heard.
    let from = |text: &str| Some(SockAddr::Inet(text.parse().unwrap()));
    assert!(b.muxer.datagram_header(socket, from("192.0.2.1:99").as_ref(), 1).is_some());
    assert!(b.muxer.datagram_header(socket, from("192.0.2.77:53").as_ref(), 1).is_none());
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
