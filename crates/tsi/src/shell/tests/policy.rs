//! The device under an egress policy.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use purlin_egress::testing::{Data, client_hello, client_hello_with, dns_answer};
use purlin_egress::{Policy, RedirectHeader};

use super::guest::{GP, Guest, LIMIT, pattern, sockaddr};
use crate::wire::{Header, control, kind, op};

const UDP: u32 = 7000;

pub fn allow(addr: SocketAddr) -> String {
    format!(
        r#"{{"prefix_len":32,"base":"{}","port_range":[{p},{p}],"verdict":"allow"}}"#,
        addr.ip(),
        p = addr.port()
    )
}

fn redirect(base: &str, len: u8, target: SocketAddr) -> String {
    format!(r#"{{"prefix_len":{len},"base":"{base}","verdict":"redirect","redirect_target":"{target}"}}"#)
}

pub fn rules(list: &[String]) -> String {
    format!(r#"{{"rules":[{}]}}"#, list.join(","))
}

pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

impl Guest {
    fn create_udp(&mut self, family: u8) {
        self.ask(control::CREATE, &[&UDP.to_le_bytes()[..], &[family, 0, 2, 0]].concat());
    }

    fn send_to(&mut self, addr: SocketAddr, payload: &[u8]) {
        self.ask(control::SENDTO_ADDR, &[&UDP.to_le_bytes()[..], &sockaddr(addr)].concat());
        self.datagram(control::SENDTO_DATA, payload);
    }

    fn datagram(&mut self, to: u32, payload: &[u8]) {
        let header =
            Header { src_port: UDP, dst_port: to, kind: kind::DGRAM, op: op::RW, ..Header::default() };
        self.send(header, payload);
    }

    fn request(&mut self) {
        self.stream(620, op::REQUEST, 0, &[]);
        self.expect(op::RESPONSE);
    }

    /// The last decisions, once there are so many.
    fn decisions(&mut self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let log = self.device.egress().log(0, usize::MAX);
            if log.len() >= count {
                return log.iter().map(|entry| format!("{}: {}", entry.flow, entry.decision)).collect();
            }
            assert!(Instant::now() < deadline, "{log:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_no_rule_allows_makes_no_connection_and_says_why() {
    let (listener, addr) = listen();
    let (other, open) = listen();
    let mut guest = Guest::under(&rules(&[allow(open)]));
    assert_eq!(guest.connect(addr), -111);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nothing reached the host");
    // The socket can be used again.
    guest.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &sockaddr(open)].concat());
    assert_eq!(guest.result(), 0);
    other.accept().unwrap();
    assert_eq!(
        guest.decisions(2),
        [format!("tcp {addr}: deny (no rule)"), format!("tcp {open}: allow (rule 0)")]
    );
    let counters = guest.device.egress().counters();
    assert_eq!((counters.allowed, counters.denied, counters.denied_by_default), (1, 1, 1));
    assert_eq!(guest.device.egress().rule_hits(), [1]);
}

#[test]
fn a_redirected_connection_begins_with_the_header_even_if_the_guest_says_nothing() {
    for (v6, destination) in [(false, "192.0.2.7:443"), (true, "[2001:db8::7]:443")] {
        let destination: SocketAddr = destination.parse().unwrap();
        let (listener, target) = listen();
        let policy = format!(
            r#"{{"rules":[{},{}],"redirect_header":{{"magic":1,"magic_v6":2}}}}"#,
            redirect("0.0.0.0", 0, target),
            redirect("::", 0, target)
        );
        let mut guest = Guest::under(&policy);
        let family = if v6 { 10 } else { 2 };
        guest.ask(control::CREATE, &[&GP.to_le_bytes()[..], &[family, 0, 1, 0]].concat());
        guest.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &sockaddr(destination)].concat());
        assert_eq!(guest.result(), 0);
        let header = RedirectHeader { magic: 1, magic_v6: Some(2) };
        let want = header.bytes(destination).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut got = vec![0; want.as_bytes().len()];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(header.parse(&got), Some(destination));
        // Once, and the guest's bytes behind it are untouched.
        guest.request();
        guest.stream(620, op::RW, 0, b"GET /");
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"GET /");
    }
}

#[test]
fn a_redirected_datagram_flow_begins_with_a_header_of_its_own() {
    let (target, addr) = udp();
    let mut guest = Guest::under(&rules(&[redirect("192.0.2.0", 24, addr)]));
    guest.create_udp(2);
    let mut buf = [0; 100];
    let mut next = || {
        let (n, from) = target.recv_from(&mut buf).unwrap();
        (buf[..n].to_vec(), from)
    };
    let header = |text: &str| {
        let bytes = RedirectHeader::default().bytes(text.parse().unwrap()).unwrap();
        bytes.as_bytes().to_vec()
    };
    // Two destinations in turn: two flows, each with one source port and one header.
    for round in 0..2 {
        for (n, to) in ["192.0.2.1:53", "192.0.2.2:53"].into_iter().enumerate() {
            guest.send_to(to.parse().unwrap(), &[round, n as u8]);
        }
    }
    let (first, a) = next();
    assert_eq!((first, next()), (header("192.0.2.1:53"), (vec![0, 0], a)));
    let (second, b) = next();
    assert_eq!((second, next()), (header("192.0.2.2:53"), (vec![0, 1], b)));
    assert_ne!(a, b);
    assert_eq!((next(), next()), ((vec![1, 0], a), (vec![1, 1], b)));
    // Answers go to the guest. A connected socket's first datagram has a header, too.
    target.send_to(b"answer", b).unwrap();
    assert_eq!(guest.expect(op::RW).1, b"answer");
    guest.ask(
        control::CONNECT,
        &[&UDP.to_le_bytes()[..], &sockaddr("192.0.2.3:53".parse().unwrap())].concat(),
    );
    assert_eq!(guest.result(), 0);
    guest.datagram(UDP, b"one");
    guest.datagram(UDP, b"two");
    assert_eq!([next().0, next().0, next().0], [header("192.0.2.3:53"), b"one".to_vec(), b"two".to_vec()]);
}

#[test]
fn the_header_of_a_redirected_datagram_flow_outlives_a_datagram_over_the_limit() {
    let (target, addr) = udp();
    let limit = r#""limits":{"bytes":{"per_second":1,"burst":1000}}"#;
    let rule = redirect("192.0.2.0", 24, addr);
    let mut guest = Guest::under(&format!(r#"{{"rules":[{rule}],{limit}}}"#));
    guest.create_udp(2);
    let to = "192.0.2.1:53".parse().unwrap();
    guest.send_to(to, &[0; 2000]);
    guest.send_to(to, b"one");
    guest.send_to(to, b"two");
    let header = RedirectHeader::default().bytes(to).unwrap();
    for want in [header.as_bytes(), b"one", b"two"] {
        let mut buf = [0; 3000];
        let n = target.recv(&mut buf).unwrap();
        assert_eq!(&buf[..n], want);
    }
}

#[test]
fn after_a_denied_destination_nothing_goes_to_the_allowed_one() {
    let (first, open) = udp();
    let (second, closed) = udp();
    let mut guest = Guest::under(&rules(&[allow(open)]));
    guest.create_udp(2);
    guest.send_to(open, b"1");
    guest.send_to(closed, b"secret");
    guest.send_to(open, b"2");
    let mut buf = [0; 10];
    for want in [b"1", b"2"] {
        let n = first.recv(&mut buf).unwrap();
        assert_eq!(&buf[..n], want);
    }
    second.set_nonblocking(true).unwrap();
    assert!(second.recv(&mut buf).is_err());
    // A connect is refused, and the peer stays as it was.
    guest.ask(control::CONNECT, &[&UDP.to_le_bytes()[..], &sockaddr(open)].concat());
    assert_eq!(guest.result(), 0);
    guest.ask(control::CONNECT, &[&UDP.to_le_bytes()[..], &sockaddr(closed)].concat());
    assert_eq!(guest.result(), -111);
    guest.datagram(UDP, b"3");
    let n = first.recv(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"3");
}

#[test]
fn a_new_policy_cuts_what_it_does_not_allow_and_leaves_the_rest() {
    let (listener, addr) = listen();
    let (socket, dgram) = udp();
    let mut guest = Guest::under(&rules(&[allow(addr), allow(dgram)]));
    let mut peer = guest.open(&listener);
    guest.create_udp(2);
    guest.ask(control::CONNECT, &[&UDP.to_le_bytes()[..], &sockaddr(dgram)].concat());
    assert_eq!(guest.result(), 0);
    let egress = guest.device.egress();
    // Other rules, the same outcome: nothing is cut.
    egress.replace(Policy::from_json(rules(&[allow(dgram), allow(addr)]).as_bytes()).unwrap());
    guest.stream(620, op::RW, 0, b"still");
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    guest.datagram(UDP, b"here");
    let mut buf = [0; 10];
    let (n, from) = socket.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"here");

    egress.replace(Policy::from_json(br#"{"rules":[]}"#).unwrap());
    guest.expect(op::RST);
    assert!(peer.read(&mut [0; 1]).map_or(true, |n| n == 0));
    guest.datagram(UDP, b"gone");
    assert_eq!(guest.connect(addr), -111);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut buf).is_err());
    // Not in the other direction either.
    let _ = socket.send_to(b"hello?", from);
    guest.ask(control::ACCEPT, &[0; 8]);
    assert_eq!(guest.result(), -22, "the reply is the next packet");
    // The connection, the connected peer, and the destination it had been as such.
    assert_eq!(guest.device.egress().counters().closed_by_replacement, 3);
}

/// A policy that knows `purlin.test` by name and the resolver, which is no one else's.
fn by_name(resolver: SocketAddr) -> String {
    format!(
        r#"{{"rules":[{{"host":"*.purlin.test","verdict":"allow"}},{}],
             "dns":{{"resolvers":["{resolver}"],"local_answers":true}}}}"#,
        allow(resolver)
    )
}

#[test]
fn names_are_pinned_by_answers_over_udp_that_the_guest_got() {
    let (resolver, at) = udp();
    let (listener, addr) = listen();
    let mut guest = Guest::under(&by_name(at));
    assert_eq!(guest.connect(addr), -111, "not before it was looked up");
    guest.create_udp(2);
    guest.send_to(at, b"who is it?");
    let mut buf = [0; 100];
    let (_, from) = resolver.recv_from(&mut buf).unwrap();
    let answer = answer(addr.ip());
    resolver.send_to(&answer, from).unwrap();
    assert_eq!(guest.expect(op::RW).1, answer);
    let _peer = guest.open(&listener);
    let counters = guest.device.egress().counters();
    assert_eq!((counters.dns_read, counters.dns_untrusted), (1, 0));
}

#[test]
fn a_name_that_is_looked_up_later_lets_datagrams_out_that_were_denied_before() {
    let (resolver, at) = udp();
    let (peer, addr) = udp();
    let mut guest = Guest::under(&by_name(at));
    guest.create_udp(2);
    guest.send_to(addr, b"one");
    guest.send_to(addr, b"two");
    guest.send_to(at, b"who is it?");
    let (_, from) = resolver.recv_from(&mut [0; 100]).unwrap();
    resolver.send_to(&answer(addr.ip()), from).unwrap();
    guest.expect(op::RW);
    guest.send_to(addr, b"three");
    let mut buf = [0; 10];
    let n = peer.recv(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"three");
    assert_eq!(guest.decisions(4).iter().filter(|d| d.contains("deny")).count(), 2);
}

#[test]
fn names_are_pinned_by_answers_over_tcp() {
    let (resolver, at) = listen();
    let (listener, addr) = listen();
    let mut guest = Guest::under(&by_name(at));
    let mut peer = guest.open(&resolver);
    let answer = answer(addr.ip());
    let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
    let (a, b) = framed.split_at(20);
    let mut got = Vec::new();
    for part in [a, b] {
        peer.write_all(part).unwrap();
        got.extend(guest.expect(op::RW).1);
    }
    assert_eq!(got, framed);
    guest.stream(620, op::SHUTDOWN, framed.len() as u32, &[]);
    guest.expect(op::RST);
    guest.open(&listener);
}

#[test]
fn a_long_answer_of_a_resolver_over_tcp_comes_whole_with_its_end() {
    let (resolver, at) = listen();
    let mut guest = Guest::under(&by_name(at));
    // More than one read looks at, in one turn.
    guest.offer(180);
    let mut peer = guest.open(&resolver);
    let bytes = pattern(1 << 20);
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).unwrap());
    let got = guest.receive_to_end(128 << 10);
    writer.join().unwrap();
    assert!(got == bytes, "{} bytes", got.len());
}

fn answer(address: IpAddr) -> Vec<u8> {
    dns_answer("www.purlin.test", &[("www.purlin.test", 60, Data::Address(address))])
}

/// An address of loopback that is this test's, also if the tests run several times at once.
fn own_address() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let host = process::id() << 4 | COUNT.fetch_add(1, Ordering::Relaxed) & 0xf;
    Ipv4Addr::from(0x7f00_0000 | host & 0x00ff_ffff).into()
}

/// A guest that has looked `www.purlin.test` up, and what listens on port 443 there.
pub fn https() -> (Guest, TcpListener) {
    let address = own_address();
    let (resolver, at) = udp();
    let listener = TcpListener::bind((address, 443)).expect("needs port 443: run as root");
    let mut guest = Guest::under(&by_name(at));
    guest.create_udp(2);
    guest.send_to(at, b"?");
    let (_, from) = resolver.recv_from(&mut [0; 10]).unwrap();
    resolver.send_to(&answer(address), from).unwrap();
    guest.expect(op::RW);
    (guest, listener)
}

#[test]
fn on_port_443_the_client_hello_must_name_the_host() {
    let (mut guest, listener) = https();
    let mut peer = guest.open(&listener);
    let hello = client_hello("www.purlin.test");
    let (a, b) = hello.split_at(40);
    guest.stream(620, op::RW, 0, a);
    peer.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(peer.read(&mut [0; 1]).is_err(), "nothing goes out before the name is known");
    // The other direction is open.
    peer.write_all(b"hm").unwrap();
    assert_eq!(guest.expect(op::RW).1, b"hm");
    guest.stream(620, op::RW, 2, b);
    peer.set_nonblocking(false).unwrap();
    let mut got = vec![0; hello.len()];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(got, hello);
    guest.stream(620, op::RW, 2, b"and on");
    peer.read_exact(&mut got[..6]).unwrap();
    assert_eq!(&got[..6], b"and on");
}

#[test]
fn another_name_is_cut_off_without_a_byte() {
    for hello in [client_hello("evil.example"), client_hello_with(&[]), b"SSH-2.0-x\r\n".to_vec()] {
        let (mut guest, listener) = https();
        let mut peer = guest.open(&listener);
        guest.stream(620, op::RW, 0, &hello);
        guest.expect(op::RST);
        assert!(peer.read(&mut [0; 1]).map_or(true, |n| n == 0));
        assert_eq!(guest.device.egress().counters().names_failed, 1);
    }
}

#[test]
fn a_limit_on_bytes_delays_them_and_loses_none() {
    let (listener, addr) = listen();
    let limit = r#""limits":{"bytes":{"per_second":400000,"burst":20000}}"#;
    let policy = format!(r#"{{"rules":[{}],{limit}}}"#, allow(addr));
    let mut guest = Guest::under(&policy);
    let mut peer = guest.open(&listener);
    let began = Instant::now();
    let bytes = pattern(100_000);
    guest.stream(620, op::RW, 0, &bytes[..60_000]);
    guest.stream(620, op::RW, 0, &bytes[60_000..]);
    let mut got = vec![0; bytes.len()];
    peer.read_exact(&mut got).unwrap();
    assert!(got == bytes);
    peer.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let (header, payload) = guest.next();
        if header.op == op::RW {
            got.extend(payload);
        }
    }
    assert!(got == bytes);
    // 200,000 bytes at 400,000 a second, the first 20,000 at once.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(guest.device.egress().counters().bytes_granted, 200_000);
}

#[test]
fn a_new_policy_without_a_limit_lets_what_waits_go() {
    let (listener, addr) = listen();
    // Which would take hours.
    let limit = r#""limits":{"bytes":{"per_second":1,"burst":1000}}"#;
    let mut guest = Guest::under(&format!(r#"{{"rules":[{}],{limit}}}"#, allow(addr)));
    let mut peer = guest.open(&listener);
    let bytes = pattern(50_000);
    guest.stream(620, op::RW, 0, &bytes);
    let mut got = vec![0; bytes.len()];
    peer.read_exact(&mut got[..1000]).unwrap();
    peer.write_all(b"and the other way").unwrap();
    guest.device.egress().replace(Policy::from_json(rules(&[allow(addr)]).as_bytes()).unwrap());
    peer.read_exact(&mut got[1000..]).unwrap();
    assert!(got == bytes);
    loop {
        let (header, payload) = guest.next();
        if header.op == op::RW {
            break assert_eq!(payload, b"and the other way");
        }
    }
}

#[test]
fn connections_over_the_rate_are_refused() {
    let (_listener, addr) = listen();
    let limit = r#""limits":{"connections":{"per_second":1,"burst":2}}"#;
    let mut guest = Guest::under(&format!(r#"{{"rules":[{}],{limit}}}"#, allow(addr)));
    let mut results = Vec::new();
    for _ in 0..3 {
        results.push(guest.connect(addr));
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
    }
    assert_eq!(results, [0, 0, -111]);
    assert_eq!(guest.device.egress().counters().denied_by_rate, 1);
}
