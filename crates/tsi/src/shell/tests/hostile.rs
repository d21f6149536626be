//! Rings of a driver that keeps to nothing.

use std::io::Read;
use std::net::TcpListener;
use std::time::Instant;

use purlin_devices::testing::Buf;
use purlin_devices::virtio::VirtioDevice;
use purlin_vmm_core::memory::{Bytes, GuestAddress};

use super::guest::{GP, Guest, LIMIT, config};
use crate::wire::{HEADER_LEN, Header, control, kind, op};

fn rw(len: u32) -> [u8; HEADER_LEN] {
    let (kind, buf_alloc) = (kind::STREAM, 256 << 10);
    let header = Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: GP,
        dst_port: 620,
        len,
        kind,
        op: op::RW,
        buf_alloc,
        ..Header::default()
    };
    header.emit()
}

#[test]
fn exactly_as_many_bytes_as_the_header_says_however_they_lie() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = guest.open(&listener);
    // Longer buffers, header and data in one, and in many pieces.
    guest.tx.submit(&[Buf::Read(&rw(3)), Buf::Read(b"abcXXX")]);
    let one: Vec<u8> = [&rw(3)[..], b"defXXX"].concat();
    guest.tx.submit(&[Buf::Read(&one)]);
    let (a, b) = one.split_at(20);
    guest.tx.submit(&[Buf::Read(a), Buf::Read(b)]);
    let header = rw(4);
    let mut pieces: Vec<Buf<'_>> = header.chunks(11).map(Buf::Read).collect();
    pieces.extend([&b"g"[..], b"h", b"i", b"jX", b"X"].map(Buf::Read));
    guest.tx.submit(&pieces);
    guest.tx.submit(&[Buf::Read(&rw(0)), Buf::Read(b"XXX")]);
    guest.tx.submit(&[Buf::Read(&rw(1)), Buf::Read(b"k")]);
    guest.tx.kick();
    let mut got = [0; 14];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"abcdefdefghijk");
}

fn ignore(_: u16) {}

#[test]
fn fewer_bytes_or_unusable_ones_reset_that_connection_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bad: [&dyn Fn(&mut Guest); 4] = [
        &|guest| ignore(guest.tx.submit(&[Buf::Read(&rw(10)), Buf::Read(b"short")])),
        &|guest| ignore(guest.tx.submit(&[Buf::Read(&rw(10)), Buf::Write(10)])),
        &|guest| ignore(guest.tx.submit(&[Buf::Read(&rw(70_000)), Buf::Read(&[0; 70_000])])),
        // Data outside of RAM.
        &|guest| {
            let at = 0xd0_0000u64;
            guest.ram.write_slice(&rw(16), GuestAddress(at)).unwrap();
            guest.tx.write_descriptor(250, at, HEADER_LEN as u32, 1, 251);
            guest.tx.write_descriptor(251, 1 << 40, 16, 0, 0);
            guest.tx.publish(250);
        },
    ];
    for (number, bad) in bad.iter().enumerate() {
        let mut guest = Guest::new(config());
        let mut peer = guest.open(&listener);
        bad(&mut guest);
        guest.tx.kick();
        guest.expect(op::RST);
        assert!(peer.read(&mut [0; 1]).map_or(true, |n| n == 0), "{number}");
        assert!(!guest.interrupt.reset_needed());
        guest.ask(control::RELEASE, &[GP, 620].map(u32::to_le_bytes).concat());
        guest.open(&listener);
    }
}

#[test]
fn datagrams_of_fewer_bytes_vanish() {
    let mut guest = Guest::new(config());
    let header = Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: 4000,
        dst_port: control::ACCEPT,
        len: 8,
        kind: kind::DGRAM,
        op: op::RW,
        ..Header::default()
    };
    guest.tx.submit(&[Buf::Read(&header.emit()), Buf::Read(&[0; 5])]);
    guest.tx.submit(&[Buf::Read(&[0; 43])]);
    guest.tx.submit(&[Buf::Write(100)]);
    guest.tx.kick();
    guest.ask(control::ACCEPT, &[0; 8]);
    assert_eq!(guest.result(), -22);
    guest.tx.kick();
    assert_eq!(guest.collect(), 0);
}

/// Chains that loop, are as long as the ring, or lead nowhere, in either direction: they come back, or the driver is
/// asked to reset the device. Nothing hangs.
#[test]
fn chains_that_cannot_be() {
    for into_rx in [false, true] {
        for (flags, next) in [(1u16, 0u16), (1, 1), (1, 77), (4, 0), (1 | 2, 0)] {
            let mut guest = Guest::new(config());
            let ring = if into_rx { &mut guest.rx } else { &mut guest.tx };
            // Each descriptor leads to the next one, the last one back.
            for n in 200..256u16 {
                let last = n == 255;
                ring.write_descriptor(
                    n,
                    0x1000,
                    16,
                    if last { flags } else { 1 },
                    if last { next } else { n + 1 },
                );
            }
            ring.publish(200);
            ring.kick();
            guest.ask(control::ACCEPT, &[0; 8]);
            let deadline = Instant::now() + LIMIT;
            while !guest.interrupt.reset_needed() {
                let (_, _, used) = if into_rx { guest.rx.addresses() } else { guest.tx.addresses() };
                let used: u16 = guest.ram.read_obj(GuestAddress(used + 2)).unwrap();
                if used > 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "{into_rx} {flags} {next}");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            guest.device.quiesce(Instant::now() + LIMIT).unwrap();
        }
    }
}
