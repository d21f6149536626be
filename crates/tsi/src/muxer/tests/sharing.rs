//! Listeners of one guest on one address.

use super::requests::listening_on;
use super::*;

/// A connection comes; the guest's port it is offered to.
fn connection(b: &mut Bench, listener: SocketId) -> u32 {
    b.event(listener, SocketEvent::Readable);
    let Action::Accept { socket, .. } = b.muxer.poll_action().unwrap() else { panic!() };
    b.event(socket, SocketEvent::Accepted(None));
    let Action::Accept { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::NothingToAccept);
    let [(op::REQUEST, to, from, _)] = b.packets()[..] else { panic!() };
    b.send((to, from), op::RESPONSE, |_| {});
    to
}

fn share(b: &mut Bench, port: u32) {
    b.create(port, 2, 1);
    b.listen(port, 9, "0.0.0.0:80");
    assert_eq!(b.reply(control::LISTEN), 0);
    assert!(b.actions().is_empty(), "the host has a socket already");
}

#[test]
fn they_get_connections_in_turn_and_outlive_each_other() {
    let mut b = Bench::new();
    let socket = listening_on(&mut b, 1, 9, "0.0.0.0:80");
    share(&mut b, 2);
    share(&mut b, 3);
    let mut got: Vec<u32> = (0..6).map(|_| connection(&mut b, socket)).collect();
    got.sort_unstable();
    assert_eq!(got, [1, 1, 2, 2, 3, 3]);
    // The one whose socket it was goes; another takes it over.
    b.release(1, 620);
    assert!(b.actions().is_empty());
    let mut got: Vec<u32> = (0..4).map(|_| connection(&mut b, socket)).collect();
    got.sort_unstable();
    assert_eq!(got, [2, 2, 3, 3]);
    b.release(2, 620);
    assert_eq!(connection(&mut b, socket), 3);
    b.release(3, 620);
    assert_eq!(b.action(), Action::Close { socket, abort: false });
}

#[test]
fn one_without_room_is_passed_over() {
    let mut b = Bench::new();
    let socket = listening_on(&mut b, 1, 1, "0.0.0.0:80");
    share(&mut b, 2);
    let got: Vec<u32> = (0..4).map(|_| connection(&mut b, socket)).collect();
    assert_eq!(got.iter().filter(|&&port| port == 1).count(), 1, "{got:?}");
}

#[test]
fn they_share_again_after_a_restore() {
    let mut b = Bench::new();
    listening_on(&mut b, 1, 9, "0.0.0.0:80");
    share(&mut b, 2);
    let state = b.muxer.save();
    let mut b = Bench::new();
    b.muxer.restore(&state).unwrap();
    assert_eq!(b.muxer.lost_listeners().count(), 0);
    let Action::Listen { socket, addr, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Listening(addr));
    let mut got: Vec<u32> = (0..2).map(|_| connection(&mut b, socket)).collect();
    got.sort_unstable();
    assert_eq!(got, [1, 2]);

    let mut b = Bench::new();
    b.muxer.restore(&state).unwrap();
    let Action::Listen { socket, .. } = b.action() else { panic!() };
    b.event(socket, SocketEvent::Refused(98));
    assert_eq!(b.muxer.lost_listeners().count(), 2);
}
