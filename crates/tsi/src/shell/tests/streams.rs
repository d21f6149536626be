//! Streams of every kind with real sockets: ends, halves, stalls.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use purlin_devices::virtio::{Signal, VirtioDevice};

use super::guest::{GP, Guest, LIMIT, config, pattern, sockaddr};
use crate::config::{Dial, MuxerConfig, TsiFlags, UnixPort};
use crate::wire::{Header, UnixAddr, control, kind, op, shut};

/// What the host has of a connection.
trait Peer: Read + Write + Send {
    fn end(&self, how: Shutdown);
}

impl Peer for TcpStream {
    fn end(&self, how: Shutdown) {
        self.shutdown(how).unwrap();
    }
}

impl Peer for UnixStream {
    fn end(&self, how: Shutdown) {
        self.shutdown(how).unwrap();
    }
}

/// A connection of each kind: the guest, its host port, the host's end, and whether that is a unix socket.
fn every_kind(mut each: impl FnMut(&mut Guest, u32, Box<dyn Peer>, bool)) {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = guest.open(&listener);
    each(&mut guest, 620, Box::new(peer), false);

    let dir = tempfile::tempdir().unwrap();
    let name = |file: &str| UnixAddr::new(dir.path().join(file).as_os_str().as_bytes()).unwrap();
    let listener = UnixListener::bind(dir.path().join("theirs")).unwrap();
    let with_ports = || MuxerConfig {
        tsi: TsiFlags::HIJACK_UNIX,
        unix_ports: vec![
            UnixPort { port: 7, path: name("theirs"), dial: Dial::Guest },
            UnixPort { port: GP, path: name("ours"), dial: Dial::Host },
        ],
        ..MuxerConfig::default()
    };
    let mut guest = Guest::new(with_ports());
    guest.ask(control::CREATE, &[&GP.to_le_bytes()[..], &[1, 0, 1, 0]].concat());
    let mut area = [0; 128];
    let len = crate::wire::SockAddr::Unix(name("theirs")).emit(&mut area);
    guest.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &len.to_le_bytes(), &area].concat());
    assert_eq!(guest.result(), 0);
    guest.stream(620, op::REQUEST, 0, &[]);
    guest.expect(op::RESPONSE);
    each(&mut guest, 620, Box::new(listener.accept().unwrap().0), true);
    drop(guest);

    let mut guest = Guest::new(with_ports());
    guest.stream(7, op::REQUEST, 0, &[]);
    guest.expect(op::RESPONSE);
    each(&mut guest, 7, Box::new(listener.accept().unwrap().0), true);
    drop(guest);

    let mut guest = Guest::new(with_ports());
    let client = UnixStream::connect(dir.path().join("ours")).unwrap();
    let host = guest.expect(op::REQUEST).0.src_port;
    guest.stream(host, op::RESPONSE, 0, &[]);
    each(&mut guest, host, Box::new(client), true);
}

/// Takes stream packets until the end is told; gives credit only when there is none left. The flags of the end.
fn read_to_end(guest: &mut Guest, host: u32, want: usize) -> (Vec<u8>, u32) {
    let mut got = Vec::new();
    let mut told = 0;
    loop {
        let (header, payload) = guest.next();
        match header.op {
            op::RW => got.extend(payload),
            op::SHUTDOWN => return (got, header.flags),
            op::CREDIT_UPDATE => {}
            other => panic!("op {other} after {} of {want} bytes", got.len()),
        }
        if got.len() - told > (256 << 10) * 3 / 4 {
            told = got.len();
            guest.stream(host, op::CREDIT_UPDATE, told as u32, &[]);
        }
    }
}

#[test]
fn bytes_come_before_the_end_that_came_with_them() {
    every_kind(|guest, host, mut peer, unix| {
        peer.write_all(&pattern(50_000)).unwrap();
        drop(peer);
        let (got, flags) = read_to_end(guest, host, 50_000);
        assert!(got == pattern(50_000), "{} bytes", got.len());
        assert_eq!(flags, if unix { shut::BOTH } else { shut::SEND });
    });
}

/// A read stops short at an urgent byte (tcp(7), out of line), so that is not the end yet.
#[test]
fn bytes_behind_an_urgent_one_come_before_the_end_too() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for turn in 0..20u8 {
        let mut peer = guest.open(&listener);
        peer.write_all(&[turn; 100]).unwrap();
        rustix::net::send(&peer, b"!", rustix::net::SendFlags::OOB).unwrap();
        peer.write_all(&[turn; 50]).unwrap();
        drop(peer);
        let (got, flags) = read_to_end(&mut guest, 620, 150);
        assert_eq!((got, flags), (vec![turn; 150], shut::SEND));
        guest.shutdown(620, shut::BOTH);
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
        guest.settle();
    }
}

#[test]
fn four_megabytes_come_across_stalls_although_the_peer_is_long_gone() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    let writer = std::thread::spawn(move || peer.write_all(&pattern(4 << 20)).unwrap());
    let (got, _) = read_to_end(&mut guest, 620, 4 << 20);
    writer.join().unwrap();
    assert!(got == pattern(4 << 20));
}

#[test]
fn nothing_is_lost_or_spun_on_while_there_are_no_receive_buffers() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    guest.generous = false;
    for _ in 0..20 {
        guest.ask(control::ACCEPT, &[0; 8]);
        guest.result();
    }
    // More than the buffers hold that are left, less than the guest's window, and then the end.
    peer.write_all(&pattern(250_000)).unwrap();
    drop(peer);
    let deadline = Instant::now() + LIMIT;
    while guest.rx.free_descriptors() < 256 {
        guest.collect();
        assert!(Instant::now() < deadline, "{} buffers are not filled", 256 - guest.rx.free_descriptors());
    }
    let before = guest.turns();
    std::thread::sleep(Duration::from_millis(200));
    let idle = guest.turns() - before;
    assert!(idle < 20, "{idle} turns with nothing to do");
    assert_eq!(guest.collect(), 0);
    guest.generous = true;
    guest.offer(64);
    let (got, flags) = read_to_end(&mut guest, 620, 250_000);
    assert!(got == pattern(250_000));
    assert_eq!(flags, shut::SEND);
}

#[test]
fn either_side_may_close_its_half() {
    every_kind(|guest, host, mut peer, _| {
        peer.end(Shutdown::Write);
        assert_eq!(guest.expect(op::SHUTDOWN).0.flags, shut::SEND);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            got
        });
        let bytes = pattern(1 << 20);
        guest.upload(host, &bytes);
        guest.shutdown(host, shut::SEND);
        assert!(reader.join().unwrap() == bytes);
    });
    every_kind(|guest, host, mut peer, _| {
        guest.stream(host, op::RW, 0, b"last words");
        guest.shutdown(host, shut::SEND);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"last words");
        peer.write_all(b"an answer").unwrap();
        assert_eq!(guest.expect(op::RW).1, b"an answer");
    });
}

#[test]
fn a_reset_comes_after_the_bytes_before_it() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    peer.write_all(b"before").unwrap();
    assert_eq!(guest.expect(op::RW).1, b"before");
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    guest.expect(op::RST);
    guest.stream(620, op::RW, 6, b"x");
    guest.expect(op::RST);
}

#[test]
fn writing_to_a_peer_that_is_gone_ends_in_a_reset_at_once() {
    every_kind(|guest, host, peer, _| {
        drop(peer);
        guest.expect(op::SHUTDOWN);
        // The first packet makes the host's answer, the second finds it.
        for _ in 0..2 {
            guest.stream(host, op::RW, 0, b"hello?");
            std::thread::sleep(Duration::from_millis(20));
        }
        guest.expect(op::RST);
    });
}

#[test]
fn a_peer_that_never_reads_holds_nobody_else_up() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalled = guest.open(&listener);
    // As much as the window lets it, beyond what the socket takes.
    let mut sent = 0;
    loop {
        guest.stream(620, op::RW, 0, &[7; 32 << 10]);
        sent += 32 << 10;
        guest.ask(control::ACCEPT, &[0; 8]);
        let (header, _) = guest.next();
        match header.op {
            op::RW => {}
            op::CREDIT_UPDATE => {
                guest.expect(op::RW);
            }
            op::RST => break,
            other => panic!("{other}"),
        }
        assert!(sent < 64 << 20, "the window is never used up");
    }
    guest.expect(op::RW);
    drop(stalled);
    guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
    guest.open(&listener);
}

/// A connection whose peer takes nothing any more, of port [`GP`].
fn stalled(guest: &mut Guest, listener: &TcpListener) -> TcpStream {
    let peer = guest.open(listener);
    let (mut sent, mut taken) = (0u32, 0);
    loop {
        while sent + (32 << 10) <= taken + (256 << 10) {
            guest.stream(620, op::RW, 0, &[7; 32 << 10]);
            sent += 32 << 10;
        }
        let updates = [guest.settle(), guest.settle()].concat();
        match updates.last() {
            Some(update) => taken = update.fwd_cnt,
            None => return peer,
        }
        assert!(sent < 256 << 20, "the window is never used up");
    }
}

/// Neither another connection nor a reply waits for it, and it costs no wake-ups. That a round trip takes less than a
/// millisecond is for the machine's load to disturb; that none does would be the device's fault.
#[test]
fn beside_a_peer_that_never_reads_round_trips_are_short() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _stalled = stalled(&mut guest, &listener);
    let port = GP + 1;
    let packet = |op| Header {
        src_port: port,
        dst_port: 620,
        kind: kind::STREAM,
        op,
        buf_alloc: 256 << 10,
        ..Header::default()
    };
    guest.ask(control::CREATE, &[&port.to_le_bytes()[..], &[2, 0, 1, 0]].concat());
    let to = sockaddr(listener.local_addr().unwrap());
    guest.ask(control::CONNECT, &[&port.to_le_bytes()[..], &to].concat());
    assert_eq!(guest.result(), 0);
    guest.send(packet(op::REQUEST), &[]);
    guest.expect(op::RESPONSE);
    let (mut peer, _) = listener.accept().unwrap();
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while peer.read_exact(&mut byte).is_ok() {
            peer.write_all(&byte).unwrap();
        }
    });
    let deadline = Instant::now() + LIMIT;
    let before = guest.turns();
    let (mut count, mut shortest) = (0u32, LIMIT);
    while count < 100 || shortest >= Duration::from_millis(1) {
        assert!(Instant::now() < deadline, "the shortest of {count} took {shortest:?}");
        let start = Instant::now();
        guest.send(Header { fwd_cnt: count, ..packet(op::RW) }, b"x");
        guest.expect(op::RW);
        assert!(guest.settle().is_empty());
        shortest = shortest.min(start.elapsed());
        count += 1;
    }
    let turns = guest.turns() - before;
    assert!(turns <= u64::from(count) * 10, "{turns} turns for {count} round trips");
    guest.send(Header { flags: shut::BOTH, ..packet(op::SHUTDOWN) }, &[]);
    guest.expect(op::RST);
    echo.join().unwrap();
}

#[test]
fn a_pause_is_only_a_stall() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    let writer = std::thread::spawn(move || {
        peer.write_all(&pattern(1 << 20)).unwrap();
        peer
    });
    let mut got = Vec::new();
    for round in 0..5 {
        while got.len() < (round + 1) * 200_000 {
            got.extend(guest.expect(op::RW).1);
            guest.stream(620, op::CREDIT_UPDATE, got.len() as u32, &[]);
        }
        guest.device.quiesce(Instant::now() + LIMIT).unwrap();
        guest.collect();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(guest.collect(), 0, "nothing is written while it is at rest");
        guest.device.resume();
    }
    while got.len() < 1 << 20 {
        got.extend(guest.expect(op::RW).1);
        guest.stream(620, op::CREDIT_UPDATE, got.len() as u32, &[]);
    }
    assert!(got == pattern(1 << 20));
    let mut peer = writer.join().unwrap();
    guest.stream(620, op::RW, got.len() as u32, b"still here");
    let mut word = [0; 10];
    peer.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"still here");
}

#[test]
fn a_guest_that_has_closed_is_told_of_the_end_without_anything_else_happening() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _peer = guest.open(&listener);
    guest.collect();
    guest.interrupt.take();
    guest.stream(620, op::SHUTDOWN, 0, &[]);
    // By the interrupt of that ring alone, which is looked at only afterwards.
    let deadline = Instant::now() + LIMIT;
    while !guest.interrupt.take().contains(&Signal::Queue(0)) {
        assert!(Instant::now() < deadline, "no interrupt");
        guest.interrupt.wait(Duration::from_millis(20));
    }
    guest.expect(op::RST);
}
