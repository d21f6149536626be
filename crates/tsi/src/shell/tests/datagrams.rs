//! UDP and unix datagrams with real sockets.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::guest::{GP, Guest, LIMIT, config, pattern, sockaddr};
use crate::config::{MuxerConfig, TsiFlags};
use crate::wire::{Header, SockAddr, UnixAddr, control, kind, op};

fn udp(at: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

impl Guest {
    fn create_datagram(&mut self, family: u8) {
        self.ask(control::CREATE, &[&GP.to_le_bytes()[..], &[family, 0, 2, 0]].concat());
    }

    fn datagram_to(&mut self, addr: SocketAddr, payload: &[u8]) {
        self.ask(control::SENDTO_ADDR, &[&GP.to_le_bytes()[..], &sockaddr(addr)].concat());
        self.datagram_on(control::SENDTO_DATA, payload);
    }

    fn datagram_on(&mut self, to: u32, payload: &[u8]) {
        let header =
            Header { src_port: GP, dst_port: to, kind: kind::DGRAM, op: op::RW, ..Header::default() };
        self.send(header, payload);
    }

    fn connect_datagram(&mut self, addr: SocketAddr) -> i32 {
        self.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &sockaddr(addr)].concat());
        self.result()
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = vec![0; 65536];
    let (n, from) = socket.recv_from(&mut buf).unwrap();
    (buf[..n].to_vec(), from)
}

#[test]
fn interleaved_destinations_get_their_own_in_both_families() {
    for (family, at) in [(2, "127.0.0.1:0"), (10, "[::1]:0")] {
        let mut guest = Guest::new(config());
        guest.create_datagram(family);
        let ((a, to_a), (b, to_b)) = (udp(at), udp(at));
        for n in 0..5u8 {
            guest.datagram_to(to_a, &[b'a', n]);
            guest.datagram_to(to_b, &[b'b', n]);
        }
        for n in 0..5u8 {
            assert_eq!((receive(&a).0, receive(&b).0), (vec![b'a', n], vec![b'b', n]));
        }
        let (_, from) = {
            guest.datagram_to(to_a, b"last");
            receive(&a)
        };
        a.send_to(b"answer", from).unwrap();
        let (header, payload) = guest.expect(op::RW);
        assert_eq!((header.kind, header.dst_port, &payload[..]), (kind::DGRAM, GP, &b"answer"[..]));
    }
}

#[test]
fn empty_and_very_long_datagrams() {
    let mut guest = Guest::new(config());
    guest.create_datagram(2);
    let (peer, to) = udp("127.0.0.1:0");
    guest.datagram_to(to, b"");
    let (empty, from) = receive(&peer);
    assert!(empty.is_empty());
    peer.send_to(b"", from).unwrap();
    assert_eq!(guest.expect(op::RW).0.len, 0);
    guest.datagram_to(to, &pattern(60_000));
    assert!(receive(&peer).0 == pattern(60_000));
    // One that no receive buffer takes is dropped, and the next one comes.
    peer.send_to(&pattern(5_000), from).unwrap();
    peer.send_to(b"short", from).unwrap();
    assert_eq!(guest.expect(op::RW).1, b"short");
    assert_eq!(guest.stats().datagrams_dropped, 1);
}

#[test]
fn a_closed_port_is_no_reason_to_spin_and_later_sends_work() {
    let mut guest = Guest::new(config());
    guest.create_datagram(2);
    let (peer, to) = udp("127.0.0.1:0");
    drop(peer);
    assert_eq!(guest.connect_datagram(to), 0);
    guest.datagram_on(GP, b"nobody");
    std::thread::sleep(Duration::from_millis(50));
    let before = guest.turns();
    std::thread::sleep(Duration::from_millis(200));
    let idle = guest.turns() - before;
    assert!(idle < 20, "{idle} turns with nothing to do");
    let (peer, _) = udp(&to.to_string());
    // The first may still be told of the refusal.
    guest.datagram_on(GP, b"somebody");
    guest.datagram_on(GP, b"somebody");
    assert_eq!(receive(&peer).0, b"somebody");
}

#[test]
fn a_connected_socket_has_a_peer_with_a_name_of_the_right_length() {
    for (family, at, len) in [(2, "127.0.0.1:0", 16u32), (10, "[::1]:0", 28)] {
        let mut guest = Guest::new(config());
        guest.create_datagram(family);
        let (peer, to) = udp(at);
        assert_eq!(guest.connect_datagram(to), 0);
        guest.datagram_on(GP, b"x");
        receive(&peer);
        guest.ask(control::GETNAME, &[GP, 620, 1].map(u32::to_le_bytes).concat());
        let (_, payload) = guest.expect(op::RW);
        assert_eq!(payload[..8], [0u32, len].map(u32::to_le_bytes).concat());
        assert_eq!(SockAddr::parse(&payload[8..8 + len as usize]), Ok(SockAddr::Inet(to)));
    }
}

#[test]
fn strangers_are_not_heard() {
    let mut guest = Guest::new(config());
    guest.create_datagram(2);
    let (friend, to) = udp("127.0.0.1:0");
    let (stranger, _) = udp("127.0.0.2:0");
    guest.datagram_to(to, b"hello");
    let (_, from) = receive(&friend);
    let from = SocketAddr::from(([127, 0, 0, 1], from.port()));
    stranger.send_to(b"psst", from).unwrap();
    // From another port of the same host: as TFTP and STUN do it.
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hi", from).unwrap();
    assert_eq!(guest.expect(op::RW).1, b"hi");
    assert_eq!(guest.stats().datagrams_dropped, 1);
}

#[test]
fn unix_datagrams_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    let peer = UnixDatagram::bind(&path).unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let mut guest = Guest::new(MuxerConfig { tsi: TsiFlags::HIJACK_UNIX, ..MuxerConfig::default() });
    guest.create_datagram(1);
    let mut area = [0; 128];
    let name = UnixAddr::new(path.as_os_str().as_bytes()).unwrap();
    let len = SockAddr::Unix(name).emit(&mut area);
    guest.ask(control::SENDTO_ADDR, &[&GP.to_le_bytes()[..], &len.to_le_bytes(), &area].concat());
    guest.datagram_on(control::SENDTO_DATA, b"ping");
    let mut buf = [0; 10];
    let (n, from) = peer.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"ping");
    peer.send_to_addr(b"pong", &from).unwrap();
    assert_eq!(guest.expect(op::RW).1, b"pong");
}

#[test]
fn accept_on_a_datagram_socket_is_answered() {
    let mut guest = Guest::new(config());
    guest.create_datagram(2);
    guest.ask(control::ACCEPT, &[GP, 0].map(u32::to_le_bytes).concat());
    assert_eq!(guest.result(), -95);
}
