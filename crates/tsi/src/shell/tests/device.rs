//! What a device does in one life, and between two.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use purlin_devices::testing::Buf;
use purlin_devices::virtio::{ResetProgress, RestoreError, SaveError, VirtioDevice};

use super::guest::{GP, Guest, LIMIT, config, pattern, rings, sockaddr};
use crate::config::{Dial, MuxerConfig, UnixPort};
use crate::shell::{Vsock, VsockConfig, VsockError};
use crate::wire::{HEADER_LEN, UnixAddr, control, op};

#[test]
fn a_megabyte_down_and_its_end() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    let bytes = pattern(1 << 20);
    let sent = bytes.clone();
    // Written and closed at once.
    let writer = std::thread::spawn(move || peer.write_all(&sent).unwrap());
    let got = guest.receive_to_end(64 << 10);
    writer.join().unwrap();
    assert!(got == bytes, "{} bytes", got.len());
    guest.stream(620, op::SHUTDOWN, got.len() as u32, &[]);
    guest.expect(op::RST);
}

#[test]
fn a_megabyte_up_to_a_slow_peer_after_the_guest_has_closed() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    let bytes = pattern(1 << 20);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 400_000];
        peer.read_exact(&mut got).unwrap();
        wait.recv_timeout(LIMIT).unwrap();
        peer.read_to_end(&mut got).unwrap();
        got
    });
    let (mut sent, mut fwd) = (0, 0);
    while sent < bytes.len() {
        let room = (256 << 10) - (sent - fwd);
        let len = room.min(60_000).min(bytes.len() - sent);
        if len == 0 {
            fwd = guest.expect(op::CREDIT_UPDATE).0.fwd_cnt as usize;
            continue;
        }
        guest.stream(620, op::RW, 0, &bytes[sent..sent + len]);
        sent += len;
        if bytes.len() - sent < 200_000 {
            let _ = go.send(());
        }
    }
    guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
    guest.stream(620, op::SHUTDOWN, 0, &[]);
    while guest.next().0.op != op::RST {}
    assert!(reader.join().unwrap() == bytes);
}

#[test]
fn refusals_have_their_own_error() {
    let mut guest = Guest::new(config());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = "255.255.255.255:9".parse().unwrap();
    for (addr, error) in [(closed, 111), (nowhere, 101)] {
        let on_the_host = TcpStream::connect(addr).unwrap_err();
        assert_eq!(on_the_host.raw_os_error(), Some(error));
        assert_eq!(guest.connect(addr), -error, "{addr}");
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
    }
}

#[test]
fn many_receive_buffers_for_one_byte_are_one_packet_each_way() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    let mut byte = [0];
    for round in 0..200u32 {
        guest.stream(620, op::RW, round, &[round as u8]);
        peer.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round as u8]);
        peer.write_all(&byte).unwrap();
        let (_, payload) = guest.expect(op::RW);
        assert_eq!(payload, byte);
    }
}

#[test]
fn mapped_ports_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let name = |file: &str| {
        use std::os::unix::ffi::OsStrExt;
        UnixAddr::new(dir.path().join(file).as_os_str().as_bytes()).unwrap()
    };
    let listener = UnixListener::bind(dir.path().join("theirs")).unwrap();
    let mut config = config();
    config.unix_ports = vec![
        UnixPort { port: 7, path: name("theirs"), dial: Dial::Guest },
        UnixPort { port: GP, path: name("ours"), dial: Dial::Host },
        UnixPort { port: 9, path: name("missing"), dial: Dial::Guest },
    ];
    let mut guest = Guest::new(config);
    guest.stream(9, op::REQUEST, 0, &[]);
    guest.expect(op::RST);
    guest.stream(7, op::REQUEST, 0, &[]);
    guest.expect(op::RESPONSE);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"banner").unwrap();
    drop(peer);
    assert_eq!(guest.expect(op::RW).1, b"banner");
    assert_eq!(guest.expect(op::SHUTDOWN).0.flags, 3);

    let mut client = UnixStream::connect(dir.path().join("ours")).unwrap();
    let host = guest.expect(op::REQUEST).0.src_port;
    guest.stream(host, op::RESPONSE, 0, &[]);
    client.write_all(b"ping").unwrap();
    assert_eq!(guest.expect(op::RW).1, b"ping");
    guest.stream(host, op::RW, 4, b"pong");
    let mut got = [0; 4];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"pong");
    drop(guest);
    assert!(!dir.path().join("ours").exists());
}

#[test]
fn a_path_that_is_taken_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, "").unwrap();
    use std::os::unix::ffi::OsStrExt;
    let mut config = config();
    let entry = UnixAddr::new(path.as_os_str().as_bytes()).unwrap();
    config.unix_ports = vec![UnixPort { port: 7, path: entry, dial: Dial::Host }];
    let refused = Vsock::new(VsockConfig::new(config)).err();
    assert!(
        matches!(&refused, Some(VsockError::Listen { port: 7, path: p, .. }) if *p == path),
        "{refused:?}"
    );
    assert!(path.exists());
}

#[test]
fn reset_closes_everything_and_the_device_starts_again() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    assert_eq!(guest.device.reset(), ResetProgress::Done);
    assert!(peer.read(&mut [0; 1]).map_or(true, |n| n == 0));
    [guest.rx, guest.tx, guest.events] = rings(&guest.ram);
    guest.device.activate(guest.context()).unwrap();
    guest.offer(16);
    guest.open(&listener);
}

#[test]
fn a_restored_device_resets_connections_and_listens_again() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _peer = guest.open(&listener);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    guest.ask(control::CREATE, &[&6000u32.to_le_bytes()[..], &[2, 0, 1, 0]].concat());
    let listen = [&[6000u32, 6000, 5].map(u32::to_le_bytes).concat()[..], &sockaddr(free)].concat();
    guest.ask(control::LISTEN, &listen);
    assert_eq!(guest.result(), 0);
    assert!(matches!(guest.device.save(), Err(SaveError::NotQuiesced(_))));
    guest.device.quiesce(Instant::now() + LIMIT).unwrap();
    let section = guest.device.save().unwrap();
    assert_eq!(guest.device.reset(), ResetProgress::Done);
    guest.tx.used();
    guest.rx.used();

    let other = MuxerConfig { cid: 4, ..config() };
    let mut wrong = Vsock::new(VsockConfig::new(other)).unwrap();
    let refused = wrong.restore(&section, Some(guest.context()));
    assert!(matches!(refused, Err(RestoreError::Mismatch { field: "cid", .. })), "{refused:?}");

    guest.device = Vsock::new(VsockConfig::new(config())).unwrap();
    guest.device.restore(&section, Some(guest.context())).unwrap();
    guest.device.resume();
    let deadline = Instant::now() + LIMIT;
    let event = loop {
        if let Some(event) = guest.events.used().pop() {
            break event;
        }
        assert!(Instant::now() < deadline, "no event");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((event.len, &event.data[..]), (4, &[0, 0, 0, 0][..]));
    // Held back until the guest has acted on it.
    let client = TcpStream::connect(free).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(guest.rx.used().is_empty());
    guest.events.submit(&[Buf::Write(4)]);
    guest.events.kick();
    let request = guest.expect(op::REQUEST).0;
    assert_eq!(request.dst_port, 6000);
    drop(client);
    // The old connection is unknown.
    guest.stream(620, op::RW, 0, b"x");
    while guest.next().0.op != op::RST {}
}

#[test]
fn hostile_rings_ask_for_a_reset() {
    let mut guest = Guest::new(config());
    guest.tx.set_avail_idx(1000);
    guest.tx.kick();
    let deadline = Instant::now() + LIMIT;
    while !guest.interrupt.reset_needed() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(guest.device.reset(), ResetProgress::Done);
}

#[test]
fn odd_receive_buffers_go_back_empty_and_replies_wait_for_a_good_one() {
    let mut guest = Guest::new(config());
    guest.device.quiesce(Instant::now() + LIMIT).unwrap();
    assert_eq!(guest.device.reset(), ResetProgress::Done);
    [guest.rx, guest.tx, guest.events] = rings(&guest.ram);
    guest.device.activate(guest.context()).unwrap();
    for len in [1, 43, 44, 45, 132] {
        guest.rx.submit(&[Buf::Write(len)]);
    }
    guest.rx.submit(&[Buf::Read(&[0; 100])]);
    guest.rx.submit(&[Buf::Write(44), Buf::Write(10), Buf::Write(200)]);
    guest.rx.kick();
    guest.ask(control::ACCEPT, &[0; 8]);
    let deadline = Instant::now() + LIMIT;
    let mut used = Vec::new();
    while used.len() < 7 {
        used.extend(guest.rx.used());
        assert!(Instant::now() < deadline, "{used:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(used.iter().map(|u| u.len).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 180]);
    assert_eq!(used[6].data[HEADER_LEN..HEADER_LEN + 4], (-22i32).to_le_bytes());
}
