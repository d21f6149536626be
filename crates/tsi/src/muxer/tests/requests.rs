use super::*;
use crate::config::PortMap;

#[test]
fn every_request_that_waits_gets_one_answer() {
    let table: [(u32, &[u8], i64); 9] = [
        (control::CONNECT, &[], -22),
        (control::CONNECT, &[0; 7], -22),
        (control::CONNECT, &[0; 136], -111),
        (control::GETNAME, &[0; 11], -22),
        (control::GETNAME, &[0; 12], -22),
        (control::LISTEN, &[0; 15], -22),
        (control::LISTEN, &[0; 144], -1),
        (control::ACCEPT, &[0; 8], -22),
        (control::ACCEPT, &[0; 3], -22),
    ];
    for (to, bytes, want) in table {
        let mut b = Bench::new();
        b.ask(to, bytes);
        assert_eq!(b.reply(to), want, "{to} with {} bytes", bytes.len());
        assert!(b.actions().is_empty());
    }
    let silent: [(u32, &[u8]); 5] = [
        (control::CREATE, &[0; 3]),
        (control::CREATE, &[0; 8]),
        (control::SENDTO_ADDR, &[0; 136]),
        (control::SENDTO_DATA, &[0; 9]),
        (control::RELEASE, &[0; 8]),
    ];
    for (to, bytes) in silent {
        let mut b = Bench::new();
        b.ask(to, bytes);
        assert_eq!((b.packets(), b.actions()), (vec![], vec![]));
    }
}

#[test]
fn without_tsi_every_socket_is_refused() {
    let mut b = Bench::with(|c| c.tsi = TsiFlags::NONE);
    b.create(GP, 2, 1);
    b.connect("192.0.2.1:80");
    assert_eq!(b.reply(control::CONNECT), -111);
    b.listen(GP, 5, "0.0.0.0:80");
    assert_eq!(b.reply(control::LISTEN), -1);
}

#[test]
fn a_refused_connect_can_be_tried_again_elsewhere() {
    let mut b = Bench::new();
    b.create(GP, 2, 1);
    for (addr, error) in [("192.0.2.1:1", 111), ("192.0.2.2:1", 110), ("192.0.2.3:1", 113)] {
        b.connect(addr);
        let Action::Connect { socket, addr: to } = b.action() else { panic!() };
        assert_eq!(to.inet().unwrap().to_string(), addr);
        assert!(b.packets().is_empty());
        b.event(socket, SocketEvent::Refused(error));
        assert_eq!(b.reply(control::CONNECT), -i64::from(error));
    }
    b.connect("192.0.2.4:1");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Connected);
    assert_eq!(b.reply(control::CONNECT), 0);
}

#[test]
fn a_restarted_connect_gets_one_reply_and_a_new_address_a_new_attempt() {
    let mut b = Bench::new();
    b.create(GP, 2, 1);
    b.connect("192.0.2.1:1");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.connect("192.0.2.1:1");
    assert!(b.actions().is_empty());
    b.event(socket, SocketEvent::Connected);
    assert_eq!(b.reply(control::CONNECT), 0);
    // Restarted after the reply was sent: the guest still has it.
    b.connect("192.0.2.1:1");
    assert_eq!((b.packets(), b.actions()), (vec![], vec![]));
    // Another address: the old reply counts for it, and the REQUEST waits for the outcome.
    b.connect("192.0.2.2:1");
    let [Action::Close { socket: old, .. }, Action::Connect { socket: new, .. }] = b.actions()[..] else {
        panic!()
    };
    assert_eq!(old, socket);
    b.send((GP, 620), op::REQUEST, |_| {});
    assert!(b.packets().is_empty());
    b.event(new, SocketEvent::Connected);
    assert_eq!(b.packets(), [(op::RESPONSE, GP, 620, 0)]);
    // It is the one the guest asked for last, and there is no other.
    b.ask(control::GETNAME, &[GP, 620, 1].map(u32::to_le_bytes).concat());
    let name = b.muxer.poll_packet().unwrap().payload.unwrap();
    assert_eq!(name[..16], [0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 1, 192, 0, 2, 2]);
    assert_eq!((b.muxer.open_sockets(), b.actions()), (1, vec![]));
}

#[test]
fn a_killed_connect_leaves_nothing() {
    let mut b = Bench::new();
    b.create(GP, 2, 1);
    b.connect("192.0.2.1:1");
    let Action::Connect { socket, .. } = b.action() else { panic!() };
    b.release(GP, 620);
    assert_eq!(b.action(), Action::Close { socket, abort: true });
    b.event(socket, SocketEvent::Connected);
    assert!(b.packets().is_empty());
    assert_eq!(b.muxer.open_sockets(), 0);
}

#[test]
fn another_control_socket_has_no_say() {
    let mut b = Bench::new();
    b.open();
    let words = |list: &[u32]| list.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    b.ask_from(9, control::RELEASE, &words(&[GP, 620]));
    assert!(b.actions().is_empty());
    let connect = [&GP.to_le_bytes()[..], &sockaddr("192.0.2.9:9")].concat();
    b.ask_from(9, control::CONNECT, &connect);
    b.ask_from(9, control::ACCEPT, &words(&[GP, 0]));
    b.ask_from(9, control::GETNAME, &words(&[GP, 620, 1]));
    let results: Vec<i64> = b.packets().iter().map(|p| p.3).collect();
    assert_eq!(results, [-111, -22, -22]);
}

#[test]
fn names_of_peers() {
    let mut b = Bench::new();
    b.open();
    b.ask(control::GETNAME, &[GP, 620, 1].map(u32::to_le_bytes).concat());
    let payload = b.muxer.poll_packet().unwrap().payload.unwrap();
    assert_eq!(payload[..16], [0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 80, 192, 0, 2, 1]);
}

#[test]
fn listening() {
    let map = PortMap::only([(18000, 8000)]).unwrap();
    let table = [
        ("0.0.0.0:8000", 2, 1, None),
        ("0.0.0.0:80", 2, 1, Some(-1)),
        ("0.0.0.0:0", 2, 1, Some(-99)),
        ("[::]:8000", 2, 1, Some(-22)),
        ("0.0.0.0:8000", 2, 2, Some(-95)),
        ("/run/x", 1, 1, Some(-1)),
    ];
    for (addr, family, kind, want) in table {
        let mut b = Bench::with(|c| c.port_map = map.clone());
        b.create(GP, family, kind);
        b.listen(GP, 5, addr);
        match want {
            Some(want) => assert_eq!(b.reply(control::LISTEN), want, "{addr}"),
            None => {
                let Action::Listen { addr, backlog, .. } = b.action() else { panic!() };
                assert_eq!((addr.inet().unwrap().port(), backlog), (18000, 5));
            }
        }
    }
    // Errors of the host, as the guest is told them.
    for (error, want) in [(98, -98), (13, -1), (99, -99)] {
        let mut b = Bench::new();
        b.create(GP, 2, 1);
        b.listen(GP, 5, "0.0.0.0:80");
        let Action::Listen { socket, .. } = b.action() else { panic!() };
        b.event(socket, SocketEvent::Refused(error));
        assert_eq!(b.reply(control::LISTEN), want);
    }
}

/// A listener with its host socket.
pub fn listening_on(b: &mut Bench, port: u32, backlog: u32, addr: &str) -> SocketId {
    b.create(port, 2, 1);
    b.listen(port, backlog, addr);
    let Action::Listen { socket, addr, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Listening(addr));
    assert_eq!(b.reply(control::LISTEN), 0);
    socket
}

#[test]
fn connections_are_offered_before_accept_and_no_more_than_the_backlog() {
    let mut b = Bench::new();
    let listener = listening_on(&mut b, 6000, 2, "0.0.0.0:80");
    b.event(listener, SocketEvent::Readable);
    let mut offered = Vec::new();
    while let Some(Action::Accept { socket, .. }) = b.muxer.poll_action() {
        b.event(socket, SocketEvent::Accepted(None));
        offered.push(socket);
    }
    let requests = b.packets();
    assert_eq!(requests.iter().map(|p| (p.0, p.1)).collect::<Vec<_>>(), [(op::REQUEST, 6000); 2]);
    // Established, and still in the guest's queue: no room for a third until one is asked for.
    for request in &requests {
        b.send((6000, request.2), op::RESPONSE, |_| {});
    }
    assert!(b.actions().is_empty());
    b.ask(control::ACCEPT, &[6000, 0].map(u32::to_le_bytes).concat());
    assert_eq!(b.reply(control::ACCEPT), 0);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::NothingToAccept);
    b.ask(control::ACCEPT, &[6000, 0].map(u32::to_le_bytes).concat());
    assert_eq!(b.reply(control::ACCEPT), 0);
    b.ask(control::ACCEPT, &[6000, 0x800].map(u32::to_le_bytes).concat());
    assert_eq!(b.reply(control::ACCEPT), -11);
    // A blocking one waits for the next.
    b.ask(control::ACCEPT, &[6000, 0].map(u32::to_le_bytes).concat());
    assert!(b.packets().is_empty());
    b.event(listener, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    let request = b.packets()[0];
    b.send((6000, request.2), op::RESPONSE, |_| {});
    assert_eq!(b.reply(control::ACCEPT), 0);
}

#[test]
fn a_closed_listener_closes_at_once_with_what_it_offered() {
    let mut b = Bench::new();
    let listener = listening_on(&mut b, 6000, 5, "0.0.0.0:80");
    b.event(listener, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    b.actions();
    b.packets();
    b.release(6000, 620);
    let closed: Vec<Action> = b.actions();
    assert!(closed.contains(&Action::Close { socket: listener, abort: false }), "{closed:?}");
    assert!(closed.contains(&Action::Close { socket, abort: true }), "{closed:?}");
}

#[test]
fn no_descriptors_for_a_connection_means_a_pause() {
    let mut b = Bench::new();
    let listener = listening_on(&mut b, 6000, 5, "0.0.0.0:80");
    b.event(listener, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Refused(24));
    assert!(b.actions().is_empty());
    b.event(listener, SocketEvent::Readable);
    assert!(b.actions().is_empty());
    b.pass(Duration::from_millis(200));
    assert!(matches!(b.action(), Action::Accept { .. }));
}

#[test]
fn a_million_sockets_that_are_never_used_cost_little() {
    let mut b = Bench::new();
    for port in 0..1_000_000 {
        b.create(port, 2, 1);
    }
    assert!(b.muxer.records.len() <= 4_096 && b.muxer.unused.len() <= 4_097);
    assert!(b.actions().is_empty());
    // The last one still works.
    b.ask_addr(control::CONNECT, 999_999, "192.0.2.1:80");
    assert!(matches!(b.action(), Action::Connect { .. }));
}
