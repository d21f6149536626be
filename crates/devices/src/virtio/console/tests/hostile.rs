//! Drivers that lie.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use super::*;
use crate::testing::Buf;
use crate::virtio::VirtioDevice;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);

fn socket_port(name: &str) -> (PortConfig, std::os::unix::net::UnixStream) {
    let (theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(guest::PATIENCE)).unwrap();
    let second = ours.try_clone().unwrap();
    let port = PortConfig::data(name).input(PortInput::Fd(ours.into())).output(PortOutput::Fd(second.into()));
    (port, theirs)
}

#[test]
fn senseless_control_messages_are_counted_and_ignored() {
    let mut guest = Guest::boot(vec![PortConfig::console(), PortConfig::data("a")]);
    let long = [0xff; 5000];
    let table: &[&[u8]] = &[
        &[],
        &[1],
        &[0; 7],
        &[9, 0, 0, 0, 3, 0, 1, 0],
        &[2, 0, 0, 0, 6, 0, 1, 0],
        &[0xff, 0xff, 0xff, 0xff, 6, 0, 1, 0],
        &[0, 0, 0, 0, 1, 0, 1, 0],
        &[0, 0, 0, 0, 7, 0, 1, 0],
        &[0, 0, 0, 0, 0xff, 0xff, 1, 0],
        &long,
    ];
    guest.settle();
    guest.said.clear();
    for (i, bytes) in table.iter().enumerate() {
        guest.tell_raw(bytes);
        assert_eq!(guest.handle.protocol_errors(), i as u64 + 1, "{bytes:?}");
    }
    guest.settle();
    assert!(guest.said.is_empty());
    assert!(!guest.interrupt.reset_needed());
    // And it still works.
    guest.tell(1, 3, 1);
    guest.wait_heard(1, 7, 1);
}

#[test]
fn a_flood_of_messages_is_bounded() {
    let mut guest = Guest::boot(vec![PortConfig::console(), PortConfig::data("a")]);
    for i in 0..3000u32 {
        guest.tell(i % 2, if i % 3 == 0 { 3 } else { 6 }, (i % 5 != 0) as u16);
    }
    guest.settle();
    guest.tell(u32::MAX, 0, 1);
    guest.settle();
    assert_eq!(guest.said.iter().rev().take(2).filter(|s| s.event == 1).count(), 2);
}

/// Raw descriptors of a chain starting at 0, whether the device answers the buffer, and whether port 1
/// still works afterwards.
#[test]
fn malformed_chains_come_back_empty() {
    let end = 1u64 << 40;
    let table: &[(&str, &[Descriptor])] = &[
        ("outside RAM", &[(end, 16, 0, 0)]),
        ("reaches past RAM", &[(0x6f_ffff, u32::MAX, 0, 0)]),
        ("address overflow", &[(u64::MAX - 3, 16, 0, 0)]),
        ("writable where readable is expected", &[(0x1000, 16, WRITE, 0)]),
        ("zero length", &[(0x1000, 0, 0, 0)]),
        ("loop", &[(0x1000, 1, NEXT, 1), (0x1000, 1, NEXT, 0)]),
        ("next outside the table", &[(0x1000, 1, NEXT, 999)]),
        ("loop of outside addresses", &[(end, 1, NEXT, 0)]),
    ];
    for (name, chain) in table {
        let (port, mut theirs) = socket_port("victim");
        let mut guest = Guest::boot(vec![PortConfig::console(), port]);
        guest.open(1);
        let ring = &mut guest.rings[tx_queue(1)];
        for (i, (addr, len, flags, next)) in (0u16..).zip(*chain) {
            ring.driver.write_descriptor(i, *addr, *len, *flags, *next);
        }
        ring.driver.publish(0);
        ring.driver.kick();
        let ring = &mut guest.rings[tx_queue(1)];
        let used = eventually(name, || ring.driver.used().pop());
        assert_eq!((used.head, used.len), (0, 0), "{name}");
        assert!(!guest.interrupt.reset_needed(), "{name}");
        ring.submit(&[Buf::Read(b"fine")]);
        ring.driver.kick();
        let mut got = [0; 4];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"fine", "{name}");
    }
}

#[test]
fn receive_buffers_that_cannot_be_written_lose_no_input() {
    let table: &[(&str, Descriptor)] = &[
        ("outside RAM", (1 << 40, 16, WRITE, 0)),
        ("readable", (0x1000, 16, 0, 0)),
        ("empty", (0x1000, 0, WRITE, 0)),
        ("loop", (0x1000, 8, WRITE | NEXT, 0)),
    ];
    for (name, (addr, len, flags, next)) in table {
        let (port, mut theirs) = socket_port("victim");
        let mut guest = Guest::new(vec![PortConfig::console(), port]);
        guest.probe();
        guest.tell(u32::MAX, 0, 1);
        guest.tell(1, 3, 1);
        guest.open(1);
        theirs.write_all(b"precious").unwrap();
        let ring = &mut guest.rings[rx_queue(1)];
        ring.driver.write_descriptor(0, *addr, *len, *flags, *next);
        ring.driver.publish(0);
        ring.driver.kick();
        let used = eventually(name, || ring.driver.used().pop());
        assert_eq!((used.head, used.len), (0, 0), "{name}");
        ring.submit(&[Buf::Write(64)]);
        ring.driver.kick();
        assert_eq!(guest.read(1, 8), b"precious", "{name}");
    }
}

#[test]
fn a_broken_ring_stops_the_device_until_it_is_reset() {
    for queue in [CONTROL_RX, CONTROL_TX, 0, 1, 4, 5] {
        for head_or_index in [true, false] {
            let (port, mut theirs) = socket_port("victim");
            let zero = File::open("/dev/zero").unwrap();
            let console = PortConfig::console().input(PortInput::Fd(zero.into()));
            let mut guest = Guest::boot(vec![console, port]);
            guest.open(1);
            theirs.write_all(&[1; 100_000]).unwrap();
            let ring = &mut guest.rings[queue];
            // With a full ring, one more than its size is a lie as well.
            if head_or_index {
                ring.driver.publish(QUEUE_SIZE + 7);
            } else {
                ring.driver.set_avail_idx(0x4000);
            }
            ring.driver.kick();
            guest.handle.resize(0, WindowSize { cols: 1, rows: 1 });
            eventually("NEEDS_RESET", || guest.interrupt.reset_needed().then_some(()));
            assert_eq!(guest.handle.protocol_errors(), 1, "queue {queue}");
            guest.quiesce();
            guest.device.resume();
            guest.interrupt = Default::default();
            guest.reset();
            guest.probe();
            guest.greet();
            guest.open(1);
            guest.write(1, b"back", 4);
            let mut got = [0; 4];
            theirs.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"back", "queue {queue}");
        }
    }
}

#[test]
fn a_buffer_longer_than_any_turn_is_written_in_pieces() {
    let (port, mut theirs) = socket_port("long");
    let mut guest = Guest::boot(vec![PortConfig::console(), port]);
    // Three descriptors of 700,000 bytes each over the same memory.
    let ring = &mut guest.rings[tx_queue(1)];
    for i in 0..3 {
        ring.driver.write_descriptor(i, 0x10_0000, 700_000, if i < 2 { NEXT } else { 0 }, i + 1);
    }
    ring.driver.publish(0);
    ring.driver.kick();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 2_100_000];
        theirs.read_exact(&mut got).unwrap();
        (got, theirs)
    });
    let (got, mut theirs) = reader.join().unwrap();
    assert!(got[..700_000] == got[700_000..1_400_000] && got[..700_000] == got[1_400_000..]);
    theirs.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(theirs.read(&mut [0]).is_err());
}
