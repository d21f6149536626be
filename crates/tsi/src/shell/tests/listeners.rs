//! Listeners of the guest with real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use super::guest::{GP, Guest, config, sockaddr};
use crate::config::{MuxerConfig, PortMap, TsiFlags};
use crate::wire::{Header, SockAddr, UnixAddr, control, kind, op};

/// A port nobody else has, it is to be hoped.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Guest {
    fn listen(&mut self, port: u32, backlog: u32, addr: SocketAddr) -> i32 {
        let family = if addr.is_ipv4() { 2 } else { 10 };
        self.ask(control::CREATE, &[&port.to_le_bytes()[..], &[family, 0, 1, 0]].concat());
        let fields = [port, port, backlog].map(u32::to_le_bytes).concat();
        self.ask(control::LISTEN, &[&fields[..], &sockaddr(addr)].concat());
        self.result()
    }

    fn close(&mut self, port: u32, host: u32) {
        self.ask(control::RELEASE, &[port, host].map(u32::to_le_bytes).concat());
    }

    fn accept(&mut self, port: u32, flags: u32) {
        self.ask(control::ACCEPT, &[port, flags].map(u32::to_le_bytes).concat());
    }

    fn respond(&mut self, port: u32, host: u32) {
        let (kind, buf_alloc) = (kind::STREAM, 256 << 10);
        let header =
            Header { src_port: port, dst_port: host, kind, op: op::RESPONSE, buf_alloc, ..Header::default() };
        self.send(header, &[]);
    }
}

#[test]
fn a_listener_that_is_closed_and_opened_again_gets_every_connection() {
    let mut guest = Guest::new(config());
    let addr = free_port();
    for port in 6000..6020 {
        assert_eq!(guest.listen(port, 5, addr), 0, "the port is free at once");
        // Somebody waits in accept(2), as a process that is then killed may.
        guest.accept(port, 0);
        let client = TcpStream::connect(addr).unwrap();
        let (header, _) = guest.expect(op::REQUEST);
        assert_eq!(header.dst_port, port);
        guest.respond(port, header.src_port);
        assert_eq!(guest.result(), 0);
        guest.close(port, header.src_port);
        guest.close(port, 620);
        drop(client);
    }
}

#[test]
fn a_thousand_clients_at_once_of_a_short_queue_are_all_served() {
    let mut guest = Guest::new(config());
    let addr = free_port();
    assert_eq!(guest.listen(6000, 5, addr), 0);
    let clients = std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for n in 0..1000u32 {
            let mut client = TcpStream::connect(addr).unwrap();
            client.write_all(&n.to_le_bytes()).unwrap();
            open.push(client);
        }
        for (n, mut client) in (0..1000u32).zip(open) {
            let mut got = [0; 4];
            client.read_exact(&mut got).unwrap();
            assert_eq!(u32::from_le_bytes(got), n);
        }
    });
    let (mut waiting, mut served, mut asked) = (0, 0, false);
    while served < 1000 {
        let (header, payload) = guest.next();
        match (header.kind, header.op) {
            (kind::STREAM, op::REQUEST) => {
                waiting += 1;
                assert!(waiting <= 5, "more than the guest's queue takes");
                guest.respond(6000, header.src_port);
            }
            (kind::DGRAM, op::RW) => {
                assert_eq!(payload[..4], [0; 4]);
                waiting -= 1;
                asked = false;
            }
            (kind::STREAM, op::RW) => {
                let (kind, buf_alloc) = (kind::STREAM, 256 << 10);
                let (src_port, dst_port) = (6000, header.src_port);
                let back = Header {
                    src_port,
                    dst_port,
                    kind,
                    op: op::RW,
                    buf_alloc,
                    fwd_cnt: 4,
                    ..Header::default()
                };
                guest.send(back, &payload);
                served += 1;
            }
            // It has its answer.
            (kind::STREAM, op::SHUTDOWN) => {}
            other => panic!("{other:?}"),
        }
        if !asked {
            guest.accept(6000, 0);
            asked = true;
        }
    }
    clients.join().unwrap();
}

#[test]
fn a_second_machine_does_not_get_the_port_of_the_first() {
    let (mut first, mut second) = (Guest::new(config()), Guest::new(config()));
    let addr = free_port();
    assert_eq!(first.listen(6000, 5, addr), 0);
    assert_eq!(second.listen(6000, 5, addr), -98, "its kernel then keeps a listener of its own");
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(TcpStream::connect(addr).unwrap());
        let header = first.expect(op::REQUEST).0;
        first.respond(6000, header.src_port);
        first.accept(6000, 0x800);
        assert_eq!(first.result(), 0);
    }
    assert_eq!(second.collect(), 0);
}

#[test]
fn the_port_map_is_all_there_is_and_the_guest_reaches_itself() {
    let (outside, inside) = (free_port(), free_port());
    let map = PortMap::only([(outside.port(), inside.port())]).unwrap();
    let mut guest = Guest::new(MuxerConfig { port_map: map, ..config() });
    assert_eq!(guest.listen(6001, 5, free_port()), -1, "not in the map");
    assert_eq!(guest.listen(6000, 5, inside), 0);
    assert!(TcpStream::connect(inside).is_err());
    let mut client = TcpStream::connect(outside).unwrap();
    client.write_all(b"in").unwrap();
    let header = guest.expect(op::REQUEST).0;
    guest.respond(6000, header.src_port);
    assert_eq!(guest.expect(op::RW).1, b"in");
    assert_eq!(guest.connect(inside), 0, "the guest's own name for it");
    assert_eq!(guest.expect(op::REQUEST).0.dst_port, 6000);
}

#[test]
fn ipv6_beside_ipv4_on_one_port() {
    let mut guest = Guest::new(config());
    let port = free_port().port();
    let (v4, v6) = (SocketAddr::from(([0; 4], port)), SocketAddr::from(([0u16; 8], port)));
    assert_eq!(guest.listen(6000, 5, v4), 0);
    assert_eq!(guest.listen(6001, 5, v6), 0);
    let _a = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(guest.expect(op::REQUEST).0.dst_port, 6000);
    let _b = TcpStream::connect(("::1", port)).unwrap();
    assert_eq!(guest.expect(op::REQUEST).0.dst_port, 6001);
}

#[test]
fn unix_listeners_only_where_they_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut root = dir.path().as_os_str().as_bytes().to_vec();
    root.push(b'/');
    let mut guest = Guest::new(MuxerConfig {
        tsi: TsiFlags::HIJACK_UNIX,
        unix_listen_roots: vec![root],
        ..MuxerConfig::default()
    });
    let elsewhere = tempfile::tempdir().unwrap();
    for (port, path, want) in [(GP, elsewhere.path().join("x"), -1), (GP + 1, dir.path().join("x"), 0)] {
        guest.ask(control::CREATE, &[&port.to_le_bytes()[..], &[1, 0, 1, 0]].concat());
        let mut area = [0; 128];
        let name = UnixAddr::new(path.as_os_str().as_bytes()).unwrap();
        let len = SockAddr::Unix(name).emit(&mut area);
        let fields = [port, port, 5, len].map(u32::to_le_bytes).concat();
        guest.ask(control::LISTEN, &[&fields[..], &area].concat());
        assert_eq!(guest.result(), want, "{path:?}");
        assert_eq!(path.exists(), want == 0);
    }
    let _client = UnixStream::connect(dir.path().join("x")).unwrap();
    assert_eq!(guest.expect(op::REQUEST).0.dst_port, GP + 1);
    guest.close(GP + 1, 620);
    guest.accept(1, 0);
    assert_eq!(guest.expect(op::RST).0.dst_port, GP + 1, "the offer is taken back");
    assert_eq!(guest.result(), -22);
    assert!(!dir.path().join("x").exists());
}
