//! Memory that another processor of the guest changes while the device looks at it: what was decided holds for what
//! is done, because both see one copy. Each test goes on until it has seen both outcomes.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use purlin_egress::testing::client_hello;
use purlin_vmm_core::memory::{Bytes, GuestAddress, SharedRam};

use super::guest::{GP, Guest, LIMIT, config, pattern, sockaddr};
use super::policy::{allow, https, listen, rules};
use crate::wire::{HEADER_LEN, Header, control, kind, op};

/// Where the packet lies that changes: its header, and its payload.
const HEADER: u64 = 0xd0_0000;
const PAYLOAD: u64 = 0xd1_0000;
/// Tries that are made at least.
const ROUNDS: usize = 1000;

/// Another processor, which writes one and then the other version of some bytes, over and over.
struct Other {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Other {
    fn new(ram: &SharedRam, at: u64, versions: [Vec<u8>; 2]) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (ram, stop) = (ram.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for version in &versions {
                    ram.write_slice(version, GuestAddress(at)).unwrap();
                }
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Guest {
    fn place(&self, header: Header, payload: &[u8]) {
        let header = Header { src_cid: 3, dst_cid: 2, len: payload.len() as u32, ..header };
        self.ram.write_slice(&header.emit(), GuestAddress(HEADER)).unwrap();
        self.ram.write_slice(payload, GuestAddress(PAYLOAD)).unwrap();
        self.tx.write_descriptor(250, HEADER, HEADER_LEN as u32, 1, 251);
        self.tx.write_descriptor(251, PAYLOAD, payload.len() as u32, 0, 0);
    }

    /// Sends what was placed, as it is by then.
    fn send_placed(&mut self) {
        self.tx.publish(250);
        self.tx.kick();
    }
}

/// Tries until there were enough and both outcomes were seen.
fn until_both(mut round: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    let (mut tries, mut seen) = (0, [false; 2]);
    while tries < ROUNDS || seen != [true; 2] {
        seen[usize::from(round())] = true;
        tries += 1;
        assert!(Instant::now() < deadline, "{tries} tries, of two outcomes only {seen:?}");
    }
}

#[test]
fn a_length_is_read_once() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        got
    });
    let buf_alloc = 256 << 10;
    let (src_port, kind) = (GP, kind::STREAM);
    guest.place(
        Header { src_port, dst_port: 620, kind, op: op::RW, buf_alloc, ..Header::default() },
        &pattern(1000),
    );
    let lengths = [1000u32, 900].map(|len| len.to_le_bytes().to_vec());
    let other = Other::new(&guest.ram, HEADER + 24, lengths);
    let mut counted = 0;
    until_both(|| {
        guest.send_placed();
        guest.settle();
        guest.stream(620, op::CREDIT_REQUEST, 0, &[]);
        let now = guest.expect(op::CREDIT_UPDATE).0.fwd_cnt;
        let len = now - counted;
        assert!(len == 1000 || len == 900, "{len} bytes");
        counted = now;
        len == 900
    });
    drop(other);
    assert_eq!(guest.buffered(), 0, "as many were taken as were announced");
    guest.shutdown(620, 2);
    let got = reader.join().unwrap();
    assert_eq!(got.len(), counted as usize, "as many were sent as were counted");
    let mut rest = &got[..];
    while !rest.is_empty() {
        // Either length; the next packet begins with the pattern again.
        let len = if rest.len() >= 1000 && rest[900..1000] == pattern(1000)[900..] { 1000 } else { 900 };
        assert!(rest[..len] == pattern(1000)[..len]);
        rest = &rest[len..];
    }
}

#[test]
fn the_address_that_was_judged_is_the_one_that_is_connected_to() {
    let ((good, allowed), (bad, denied)) = (listen(), listen());
    for listener in [&good, &bad] {
        listener.set_nonblocking(true).unwrap();
    }
    let mut guest = Guest::under(&rules(&[allow(allowed)]));
    let request = |to| [&GP.to_le_bytes()[..], &sockaddr(to)].concat();
    let header = Header {
        src_port: 4000,
        dst_port: control::CONNECT,
        kind: kind::DGRAM,
        op: op::RW,
        ..Header::default()
    };
    guest.place(header, &request(allowed));
    let other = Other::new(&guest.ram, PAYLOAD, [request(allowed), request(denied)]);
    until_both(|| {
        guest.ask(control::CREATE, &[&GP.to_le_bytes()[..], &[2, 0, 1, 0]].concat());
        guest.send_placed();
        let result = guest.result();
        assert!(result == 0 || result == -111, "{result}");
        if result == 0 {
            good.accept().unwrap();
        }
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
        guest.settle();
        result == 0
    });
    drop(other);
    for listener in [good, bad] {
        assert!(listener.accept().is_err(), "a connection nobody was told of");
    }
}

#[test]
fn the_name_that_was_checked_is_the_one_that_is_sent() {
    let (mut guest, listener) = https();
    let (good, evil) = (client_hello("www.purlin.test"), client_hello("www.purlin.evil"));
    assert_eq!(good.len(), evil.len());
    let header = Header {
        src_port: GP,
        dst_port: 620,
        kind: kind::STREAM,
        op: op::RW,
        buf_alloc: 256 << 10,
        ..Header::default()
    };
    guest.place(header, &good);
    let other = Other::new(&guest.ram, PAYLOAD, [good.clone(), evil]);
    until_both(|| {
        let mut peer = guest.open(&listener);
        guest.send_placed();
        // What was sent is written, at the latest, behind the packet that follows it.
        let refused = [guest.settle(), guest.settle()].concat().iter().any(|packet| packet.op == op::RST);
        if !refused {
            guest.shutdown(620, 2);
        }
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
        guest.settle();
        let mut got = Vec::new();
        // A reset is how a refusal looks from here.
        let whole = peer.read_to_end(&mut got).is_ok();
        assert!(got.is_empty() || got == good, "another name got through");
        assert_eq!(!refused, whole && got == good);
        refused
    });
    drop(other);
}
