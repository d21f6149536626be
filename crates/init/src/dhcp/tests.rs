use alloc::vec::Vec;

use proptest::prelude::*;

use super::packet::{Identity, Kind, Message, build, option, parse};
use super::*;
use crate::net::{Address, Settings};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const XID: u32 = 0x0102_0304;
const IDENTITY: Identity = Identity { xid: XID, mac: MAC };
const OWN: Address = [10, 0, 2, 15];
const SERVER: Address = [10, 0, 2, 2];

/// An answer of a server, as the fields that matter and options.
fn answer(xid: u32, address: Address, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = Vec::from([2, 1, 6, 0]);
    packet.extend(xid.to_be_bytes());
    packet.resize(16, 0);
    packet.extend(address);
    packet.resize(28, 0);
    packet.extend(MAC);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    for (code, value) in options {
        packet.extend([*code, u8::try_from(value.len()).unwrap()]);
        packet.extend(*value);
    }
    packet.push(255);
    packet
}

const FULL: [(u8, &[u8]); 8] = [
    (option::SERVER, &SERVER),
    (option::MASK, &[255, 255, 255, 0]),
    (option::ROUTER, &[10, 0, 2, 1, 10, 0, 2, 9]),
    (option::DNS, &[10, 0, 2, 3, 1, 1, 1, 1]),
    (option::MTU, &[5, 0xdc]),
    (option::LEASE, &[0, 0, 0x0e, 0x10]),
    (12, b"host"),
    (option::RENEWAL, &[0, 0, 0, 200]),
];

fn full(kind: u8, xid: u32) -> Vec<u8> {
    answer(xid, OWN, &[&[(option::KIND, &[kind][..])][..], &FULL].concat())
}

fn settings() -> Settings {
    Settings {
        address: OWN,
        prefix: 24,
        router: Some([10, 0, 2, 1]),
        mtu: Some(1500),
        dns: Vec::from([[10, 0, 2, 3], [1, 1, 1, 1]]),
    }
}

#[test]
fn golden_discover_and_request() {
    let packet = build(IDENTITY, 3, Message::Discover);
    assert_eq!(packet.len(), 300);
    assert_eq!(packet[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 3, 0x80, 0]);
    assert_eq!(packet[12..28], [0; 16]);
    assert_eq!(packet[28..34], MAC);
    assert_eq!(packet[34..236], [0; 202]);
    let options = [99, 130, 83, 99, 53, 1, 1, 80, 0, 55, 7, 1, 3, 6, 26, 51, 58, 59, 255];
    assert_eq!(packet[236..255], options);
    assert_eq!(packet[255..], [0; 45]);

    let packet = build(IDENTITY, 0, Message::Select { address: OWN, server: SERVER });
    assert_eq!(packet[10..16], [0x80, 0, 0, 0, 0, 0]);
    assert_eq!(packet[240..255], [53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);

    let packet = build(IDENTITY, 0, Message::Extend { address: OWN, unicast: true });
    assert_eq!(packet[10..16], [0, 0, 10, 0, 2, 15]);
    assert_eq!(packet[240..245], [53, 1, 3, 55, 7]);
}

#[test]
fn an_answer_with_everything() {
    let reply = parse(&full(5, XID), IDENTITY).unwrap();
    assert_eq!((reply.kind, reply.address, reply.server), (Kind::Ack, OWN, Some(SERVER)));
    assert_eq!((reply.prefix, reply.router, reply.mtu), (Some(24), Some([10, 0, 2, 1]), Some(1500)));
    assert_eq!(reply.dns, [[10, 0, 2, 3], [1, 1, 1, 1]]);
    assert_eq!((reply.lease, reply.renewal, reply.rebinding), (Some(3600), Some(200), None));
}

#[test]
fn what_is_not_an_answer_to_this_client() {
    assert!(parse(&full(2, XID), IDENTITY).is_some());
    assert_eq!(parse(&full(2, XID + 1), IDENTITY), None, "another exchange");
    assert_eq!(parse(&full(2, XID), Identity { mac: [9; 6], ..IDENTITY }), None, "another client");
    for (at, value, what) in [
        (0, 1, "a request"),
        (1, 6, "no ethernet"),
        (2, 8, "a long hardware address"),
        (236, 98, "no cookie"),
        (242, 1, "a DISCOVER"),
        (242, 9, "an unknown kind"),
        (241, 2, "a kind of two bytes"),
        (16, 0, "0.x is no host"),
        (16, 224, "multicast is no host"),
    ] {
        let mut packet = full(2, XID);
        packet[at] = value;
        assert_eq!(parse(&packet, IDENTITY), None, "{what}");
    }
    let whole = full(2, XID);
    for length in 0..243 {
        assert_eq!(parse(&whole[..length], IDENTITY), None, "{length}");
    }
}

#[test]
fn options_overflow_and_come_in_pieces() {
    let mut packet = answer(XID, OWN, &[(option::KIND, &[5]), (52, &[3]), (option::DNS, &[1, 1])]);
    packet[108..114].copy_from_slice(&[0, option::DNS, 2, 1, 1, 255]);
    packet[44..51].copy_from_slice(&[option::ROUTER, 4, 10, 0, 2, 9, 255]);
    let reply = parse(&packet, IDENTITY).unwrap();
    assert_eq!((reply.dns, reply.router), (Vec::from([[1, 1, 1, 1]]), Some([10, 0, 2, 9])));
    packet[108..114].copy_from_slice(&[0, option::DNS, 200, 1, 1, 255]);
    assert_eq!(parse(&packet, IDENTITY), None, "an option that does not fit into its field");
}

#[test]
fn values_that_make_no_sense_are_left_out() {
    let reply = |options: &[(u8, &[u8])]| {
        parse(&answer(XID, OWN, &[&[(option::KIND, &[5][..])], options].concat()), IDENTITY).unwrap()
    };
    assert_eq!(reply(&[(option::MASK, &[255, 0, 255, 0])]).prefix, Some(8));
    assert_eq!(reply(&[(option::MASK, &[255, 0])]).prefix, None);
    assert_eq!(reply(&[(option::MTU, &[0, 0, 5])]).mtu, None);
    assert_eq!(reply(&[(option::ROUTER, &[10, 0, 2])]).router, None);
    assert_eq!(reply(&[(option::ROUTER, &[0, 0, 0, 0])]).router, None);
    assert_eq!(reply(&[(option::DNS, &[127, 0, 0, 1, 8, 8, 8, 8])]).dns, [[8, 8, 8, 8]]);
}

/// What a client sends, in short: kind, `ciaddr`, and the number of the exchange.
#[track_caller]
fn sent(order: Option<Order>) -> (Destination, u8, Address, u32) {
    let Some(Order::Send(to, packet)) = order else { panic!("{order:?}") };
    let xid = u32::from_be_bytes(packet[4..8].try_into().unwrap());
    (to, packet[242], packet[12..16].try_into().unwrap(), xid)
}

fn client() -> Client {
    Client::new(MAC, XID, 1000)
}

/// A client that has an address since 1000.
fn bound() -> Client {
    let mut client = client();
    client.tick(1000);
    client.receive(1000, &full(2, XID), SERVER);
    assert!(matches!(client.receive(1000, &full(5, XID), SERVER), Some(Order::Use(_))));
    client
}

#[test]
fn offer_request_ack() {
    let mut client = client();
    assert_eq!(sent(client.tick(1000)), (Destination::Broadcast, 1, [0; 4], XID));
    assert_eq!(client.tick(1050), None);
    let order = client.receive(1050, &full(2, XID), [10, 0, 2, 99]);
    let Some(Order::Send(Destination::Broadcast, packet)) = order else { panic!("{order:?}") };
    assert_eq!(packet[240..255], [53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);
    assert_eq!(client.lease(), None);
    let Some(Order::Use(lease)) = client.receive(1060, &full(5, XID), SERVER) else { panic!("no lease") };
    assert_eq!((&lease.settings, client.lease()), (&settings(), Some(&lease)));
    assert_eq!(client.deadline(), Some(1060 + 200_000), "as option 58 says");
}

#[test]
fn an_offer_without_a_server_is_of_its_sender() {
    let mut client = client();
    client.tick(1000);
    let offer = answer(XID, OWN, &[(option::KIND, &[2])]);
    let Some(Order::Send(_, packet)) = client.receive(1000, &offer, [10, 0, 2, 7]) else { panic!() };
    assert_eq!(packet[249..255], [54, 4, 10, 0, 2, 7]);
}

#[test]
fn a_request_tells_the_time_that_its_discover_told() {
    let mut client = client();
    client.tick(1000);
    let secs = |order| match order {
        Some(Order::Send(_, packet)) => u16::from_be_bytes([packet[8], packet[9]]),
        other => panic!("{other:?}"),
    };
    assert_eq!(secs(client.tick(8200)), 7);
    assert_eq!(secs(client.receive(9500, &full(2, XID), SERVER)), 7);
    assert_eq!(secs(client.tick(client.deadline().unwrap())), 7);
}

#[test]
fn an_ack_at_once_is_taken() {
    let mut client = client();
    client.tick(1000);
    let ack = answer(XID, OWN, &[(option::KIND, &[5]), (option::RAPID_COMMIT, &[])]);
    let Some(Order::Use(lease)) = client.receive(1000, &ack, SERVER) else { panic!("no lease") };
    let expected = Settings { prefix: 8, router: None, mtu: Some(65520), dns: Vec::new(), ..settings() };
    assert_eq!((lease.settings, client.deadline()), (expected, None), "no mask: class A; no time: for ever");
}

#[test]
fn the_mtu_is_kept_in_bounds() {
    for (option, mtu) in [([0, 68], 1280), ([5, 0], 1280), ([0x23, 0x28], 9000), ([255, 255], 65520)] {
        let mut client = client();
        client.tick(1000);
        let ack = answer(XID, OWN, &[(option::KIND, &[5]), (option::MTU, &option)]);
        let Some(Order::Use(lease)) = client.receive(1000, &ack, SERVER) else { panic!("no lease") };
        assert_eq!(lease.settings.mtu, Some(mtu));
    }
}

#[test]
fn unanswered_questions_are_repeated_ever_slower() {
    let mut client = client();
    let (mut now, mut waits) = (1000, Vec::new());
    for _ in 0..200 {
        assert_eq!(sent(client.tick(now)).1, 1);
        assert_eq!(client.tick(client.deadline().unwrap() - 1), None);
        waits.push(client.deadline().unwrap() - now);
        now = client.deadline().unwrap();
    }
    let least = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200];
    for (wait, least) in waits.iter().zip(least.into_iter().chain(core::iter::repeat(64000))) {
        assert!((least..least + least / 4).contains(wait), "{waits:?}");
    }
    assert!(waits.iter().take(5).sum::<u64>() < PATIENCE_MS);
}

#[test]
fn an_offer_that_is_not_kept_is_given_up() {
    let mut client = client();
    client.tick(1000);
    assert_eq!(sent(client.receive(1000, &full(2, XID), SERVER)).1, 3);
    for _ in 0..3 {
        assert_eq!(sent(client.tick(client.deadline().unwrap())).1, 3);
    }
    let (_, kind, _, xid) = sent(client.tick(client.deadline().unwrap()));
    assert_eq!(kind, 1);
    assert_ne!(xid, XID, "a new exchange");
    assert_eq!(client.receive(9000, &full(5, XID), SERVER), None, "the old one is over");
}

#[test]
fn a_refusal_starts_over_if_it_is_of_the_right_server() {
    let mut client = client();
    client.tick(1000);
    client.receive(1000, &full(2, XID), SERVER);
    let nak = |server: &'static [u8]| answer(XID, [0; 4], &[(option::KIND, &[6]), (option::SERVER, server)]);
    assert_eq!(client.receive(1000, &nak(&[10, 0, 2, 8]), SERVER), None);
    assert_eq!(client.receive(1000, &nak(&SERVER), SERVER), None);
    assert_eq!((client.deadline(), client.tick(1099)), (Some(1100), None), "not at once");
    assert_eq!(sent(client.tick(1100)).1, 1);
}

#[test]
fn answers_out_of_turn_change_nothing() {
    let mut client = client();
    client.tick(1000);
    let nak = answer(XID, [0; 4], &[(option::KIND, &[6])]);
    assert_eq!(client.receive(1000, &nak, SERVER), None);
    client.receive(1000, &full(2, XID), SERVER);
    let other = answer(XID, [10, 0, 2, 77], &[(option::KIND, &[5])]);
    assert_eq!(client.receive(1000, &other, SERVER), None, "another address than the one asked for");
    let mut client = bound();
    for kind in [2, 5, 6] {
        assert_eq!(client.receive(1000, &full(kind, XID), SERVER), None);
    }
}

#[test]
fn a_lease_is_renewed_then_rebound_then_over() {
    let mut client = bound();
    let renew = client.deadline().unwrap();
    assert_eq!(renew, 201_000);
    let (to, kind, ciaddr, _) = sent(client.tick(renew));
    assert_eq!((to, kind, ciaddr), (Destination::Server(SERVER), 3, OWN));
    let mut now = client.deadline().unwrap();
    let rebind = 1000 + 3_600_000 / 8 * 7;
    while now < rebind {
        assert_eq!(sent(client.tick(now)).0, Destination::Server(SERVER));
        let next = client.deadline().unwrap();
        assert!(next - now >= 60_000 || next == rebind);
        now = next;
    }
    assert_eq!(now, rebind);
    while now < 1000 + 3_600_000 {
        assert_eq!(sent(client.tick(now)).0, Destination::Broadcast);
        now = client.deadline().unwrap();
    }
    let Some(Order::Drop(lease)) = client.tick(now) else { panic!("not over") };
    assert_eq!((lease.settings, client.lease()), (settings(), None));
    assert_eq!(sent(client.tick(now)).1, 1, "and another one is asked for at once");
}

#[test]
fn a_renewal_that_changes_nothing_is_silent() {
    let mut client = bound();
    let (_, _, _, xid) = sent(client.tick(201_000));
    assert_eq!(client.receive(201_001, &full(5, xid), SERVER), None);
    assert_eq!(client.deadline(), Some(201_001 + 200_000));
    let (_, _, _, xid) = sent(client.tick(401_001));
    let changed = answer(xid, OWN, &[(option::KIND, &[5])]);
    assert!(matches!(client.receive(401_002, &changed, SERVER), Some(Order::Use(_))));

    let mut client = bound();
    let (_, _, _, xid) = sent(client.tick(201_000));
    assert!(matches!(client.receive(201_001, &full(6, xid), SERVER), Some(Order::Drop(_))));
}

#[test]
fn times_of_a_lease() {
    // lease, option 58, option 59: renewal, rebinding, end
    type Row = (u32, Option<u32>, Option<u32>, [u64; 3]);
    let table: [Row; 6] = [
        (80, None, None, [40, 70, 80]),
        (80, Some(10), Some(20), [10, 20, 80]),
        (80, Some(30), Some(20), [15, 20, 80]),
        (80, Some(0), Some(90), [40, 70, 80]),
        (0, None, None, [5, 8, 10]),
        (1, Some(5), Some(6), [5, 6, 10]),
    ];
    for (lease, renewal, rebinding, expected) in table {
        let bytes = |value: Option<u32>| value.map(u32::to_be_bytes);
        let (lease, renewal, rebinding) = (lease.to_be_bytes(), bytes(renewal), bytes(rebinding));
        let mut options: Vec<(u8, &[u8])> = Vec::from([(option::KIND, &[5][..]), (option::LEASE, &lease)]);
        options.extend(renewal.as_ref().map(|value| (option::RENEWAL, &value[..])));
        options.extend(rebinding.as_ref().map(|value| (option::REBINDING, &value[..])));
        let mut client = Client::new(MAC, XID, 0);
        client.tick(0);
        client.receive(0, &answer(XID, OWN, &options), SERVER);
        // Too short for more than one question per state.
        let seen = [(); 3].map(|()| {
            let deadline = client.deadline().unwrap();
            client.tick(deadline);
            deadline / 1000
        });
        assert_eq!(seen, expected, "{options:?}");
    }
    let mut client = client();
    client.tick(1000);
    let for_ever = answer(XID, OWN, &[(option::KIND, &[5]), (option::LEASE, &[255; 4])]);
    client.receive(1000, &for_ever, SERVER);
    assert_eq!((client.deadline(), client.tick(u64::MAX)), (None, None));
}

proptest! {
    #[test]
    fn scripts_of_anything(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        crate::fuzz::dhcp(&bytes);
    }
}
