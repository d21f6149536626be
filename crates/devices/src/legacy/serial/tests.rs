use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use purlin_vmm_core::bus::BusDevice;

use super::*;
use crate::shell::EventLoop;

#[derive(Default)]
struct Edges(AtomicU32);

impl IrqLine for Edges {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

const SOON: Duration = Duration::from_secs(10);

fn soon() -> Instant {
    Instant::now() + SOON
}

/// Until it holds, or the test fails.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = soon();
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Line {
    serial: Serial,
    edges: Arc<Edges>,
    _host: EventLoop,
}

impl Line {
    fn new(input: Option<OwnedFd>, output: Option<OwnedFd>) -> Self {
        let host = EventLoop::spawn("test").unwrap();
        let edges = Arc::new(Edges::default());
        let serial = Serial::new(input, output, edges.clone(), host.handle()).unwrap();
        Line { serial, edges, _host: host }
    }

    fn read(&self, register: u64) -> u8 {
        let mut byte = [0xaa];
        self.serial.registers().lock().unwrap().read(register, &mut byte);
        byte[0]
    }

    fn write(&self, register: u64, byte: u8) {
        self.serial.registers().lock().unwrap().write(register, &[byte]);
    }

    fn has_room(&self) -> bool {
        self.read(5) & 0x20 != 0
    }

    fn received(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        eventually("input arrives", || {
            while self.read(5) & 1 != 0 {
                bytes.push(self.read(0));
            }
            bytes.len() >= count
        });
        bytes
    }
}

#[test]
fn bytes_go_both_ways() {
    let (input, mut to_guest) = io::pipe().unwrap();
    let (mut from_guest, output) = io::pipe().unwrap();
    let line = Line::new(Some(input.into()), Some(output.into()));
    for byte in b"hello" {
        line.write(0, *byte);
    }
    let mut bytes = [0; 5];
    from_guest.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    // More than the receiver holds.
    let sent: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    to_guest.write_all(&sent).unwrap();
    assert_eq!(line.received(1000), sent);
    drop(to_guest);
    assert_eq!(line.serial.flush(soon()), 0);
}

#[test]
fn received_bytes_make_an_interrupt_if_it_is_enabled() {
    let (input, mut to_guest) = io::pipe().unwrap();
    let line = Line::new(Some(input.into()), None);
    to_guest.write_all(b"a").unwrap();
    eventually("it is there", || line.read(5) & 1 != 0);
    assert_eq!(line.edges.0.load(Ordering::Relaxed), 0);
    // Received data, and later only that.
    line.write(1, 1);
    assert_eq!(line.edges.0.load(Ordering::Relaxed), 1);
    assert_eq!((line.read(2) & 0xf, line.read(0)), (4, b'a'));
    to_guest.write_all(b"b").unwrap();
    eventually("the second edge", || line.edges.0.load(Ordering::Relaxed) == 2);
}

#[test]
fn a_reader_that_is_slow_makes_the_transmitter_busy_and_loses_nothing() {
    let (mut from_guest, output) = io::pipe().unwrap();
    let line = Line::new(None, Some(output.into()));
    line.write(1, 2);
    let mut sent = Vec::new();
    let fill = |sent: &mut Vec<u8>| {
        eventually("the transmitter is busy", || {
            while line.has_room() {
                let byte = (sent.len() / 3) as u8;
                line.write(0, byte);
                sent.push(byte);
            }
            std::thread::sleep(Duration::from_millis(20));
            !line.has_room()
        });
    };
    fill(&mut sent);
    assert!(sent.len() > 1 << 16);
    assert!(line.serial.flush(Instant::now()) > 0);
    // Reading makes room, and the interrupt of an empty transmitter, the last one having been acknowledged.
    line.read(2);
    let edges = line.edges.0.load(Ordering::Relaxed);
    let mut bytes = vec![0; sent.len()];
    from_guest.read_exact(&mut bytes).unwrap();
    assert!(bytes == sent);
    eventually("an interrupt", || line.has_room() && line.edges.0.load(Ordering::Relaxed) > edges);
    assert_eq!(line.serial.flush(soon()), 0);
}

#[test]
fn a_driver_that_does_not_look_is_bounded() {
    let (_from_guest, output) = io::pipe().unwrap();
    let mut line = Line::new(None, Some(output.into()));
    line.serial.quiesce(soon()).unwrap();
    for _ in 0..200_000 {
        line.write(0, b'x');
    }
    let left = line.serial.flush(Instant::now());
    assert!((64 << 10..100_000).contains(&left), "{left}");
}

#[test]
fn ends_that_go_away() {
    let (input, to_guest) = io::pipe().unwrap();
    let (from_guest, output) = io::pipe().unwrap();
    let line = Line::new(Some(input.into()), Some(output.into()));
    drop(to_guest);
    drop(from_guest);
    for _ in 0..200_000 {
        line.write(0, b'x');
        line.read(0);
    }
    eventually("nobody reads it", || line.serial.flush(soon()) == 0);
    // Without any ends from the start, on files, and for a device that is always ready.
    for end in
        [None, Some(tempfile::tempfile().unwrap().into()), Some(File::open("/dev/zero").unwrap().into())]
    {
        let line = Line::new(end, None);
        line.write(0, b'x');
        eventually("it is dropped", || line.serial.flush(soon()) == 0);
    }
}

/// The loop watches open files, not numbers: one that was closed here is still there.
#[test]
fn an_input_that_others_hold_too_can_end() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    let (input, _held) = (ours.try_clone().unwrap(), ours.try_clone().unwrap());
    let mut line = Line::new(Some(input.into()), Some(ours.into()));
    peer.write_all(b"in").unwrap();
    assert_eq!(line.received(2), b"in");
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    for byte in *b"out" {
        line.serial.quiesce(soon()).unwrap();
        line.serial.resume();
        line.write(0, byte);
        let mut got = [0];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(got, [byte]);
    }
}

#[test]
fn quiesced_nothing_moves_and_what_was_saved_goes_on_elsewhere() {
    let (input, mut to_guest) = io::pipe().unwrap();
    let (mut from_guest, output) = io::pipe().unwrap();
    let mut line = Line::new(Some(input.into()), Some(output.into()));
    line.write(3, 0x80);
    line.write(0, 12);
    line.write(3, 3);
    line.write(7, 0x5a);
    line.write(1, 3);
    to_guest.write_all(&[b'r'; 200]).unwrap();
    eventually("it is there", || line.read(5) & 1 != 0);
    std::thread::sleep(Duration::from_millis(20));
    line.serial.quiesce(soon()).unwrap();
    line.write(0, b's');
    std::thread::sleep(Duration::from_millis(20));
    let section = line.serial.save(2);
    assert_eq!(section.id.instance, 2);

    let (input, mut to_other) = io::pipe().unwrap();
    let (mut from_other, output) = io::pipe().unwrap();
    let mut other = Line::new(Some(input.into()), Some(output.into()));
    assert!(matches!(other.serial.restore(&section), Err(RestoreError::NotFresh)));
    other.serial.quiesce(soon()).unwrap();
    other.serial.restore(&section).unwrap();
    assert!(other.edges.0.load(Ordering::Relaxed) > 0);
    other.serial.resume();
    let mut byte = [0];
    from_other.read_exact(&mut byte).unwrap();
    assert_eq!((byte, other.read(7), other.read(3), other.read(1)), ([b's'], 0x5a, 3, 3));
    to_other.write_all(b"end").unwrap();
    // What the first line had read, and no more: a full receiver, and as much that it did not take.
    let bytes = other.received(131);
    let (old, new) = bytes.split_at(bytes.len() - 3);
    assert!(old.iter().all(|b| *b == b'r') && new == b"end" && old.len() == 128, "{}", bytes.len());

    // The first goes on as well.
    line.serial.resume();
    from_guest.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"s");
    assert_eq!(line.received(200), [b'r'; 200]);
}

#[test]
fn sections_that_are_malformed() {
    let mut line = Line::new(None, None);
    line.serial.quiesce(soon()).unwrap();
    line.write(0, b'x');
    let section = line.serial.save(0);
    let bytes = section.payload.clone();
    for len in 0..bytes.len() {
        let cut = Section::new(section.id, bytes[..len].to_vec());
        assert!(line.serial.restore(&cut).is_err(), "{len}");
    }
    let longer = Section::new(section.id, [bytes.as_slice(), &[0]].concat());
    assert!(line.serial.restore(&longer).is_err());
    let mut w = Writer::new();
    (0..9).for_each(|_| w.u8(0xff));
    w.bytes(&[0; 65]);
    w.bytes(&[]);
    w.bytes(&[]);
    assert!(line.serial.restore(&Section::new(section.id, w.into_bytes())).is_err());
    assert!(line.serial.restore(&section).is_ok());
}

proptest! {
    /// Whatever is written and read, at any offset and width, nothing panics, and what is kept is bounded.
    #[test]
    fn hostile_drivers(accesses in prop::collection::vec((any::<bool>(), 0u64..300, 0usize..9, any::<u8>()), 0..500)) {
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap());
        let mut uart = Uart::new(Arc::new(Edges::default()), wake);
        for (write, offset, width, byte) in accesses {
            let mut data = vec![byte; width];
            if write {
                uart.write(offset, &data);
            } else {
                uart.read(offset, &mut data);
            }
            uart.receive(&[byte; 3]);
        }
        let mut w = Writer::new();
        uart.save(&mut w);
        prop_assert!(w.into_bytes().len() < 1000);
    }
}
