//! Quiesce, save, restore, resume, reset.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;
use crate::virtio::{ActivateError, DeviceType, RestoreError, SaveError, Signal, VirtioDevice, section_kind};

fn ends() -> (UnixStream, PortInput, PortOutput) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(guest::PATIENCE)).unwrap();
    let second = ours.try_clone().unwrap();
    (theirs, PortInput::Fd(ours.into()), PortOutput::Fd(second.into()))
}

fn machine() -> (Vec<PortConfig>, UnixStream, Log) {
    let (theirs, input, output) = ends();
    let (console, log) = console_on_log();
    (vec![console, PortConfig::data("data").input(input).output(output)], theirs, log)
}

/// Moves the saved state into a new device with new host ends.
fn restore_into(guest: &mut Guest, ports: Vec<PortConfig>) {
    let section = guest.device.save().unwrap();
    let config = ConsoleConfig { ports, resize_order: ResizeOrder::ColumnsFirst };
    let mut device = Console::new(config, guest.event_loop.handle()).unwrap();
    device.ack_features(guest.features);
    device.restore(&section, Some(guest.context())).unwrap();
    assert_eq!(device.save().unwrap().id.kind, section_kind::DEVICE_BASE + 3);
    guest.device = device;
    guest.handle = guest.device.handle();
}

#[test]
fn a_stream_is_saved_in_the_middle_and_nothing_is_lost() {
    let (ports, mut theirs, log) = machine();
    let mut guest = Guest::boot(ports);
    guest.open(1);
    let bytes = pattern(900_000);
    assert_eq!(guest.offer(1, &bytes, 30_000), bytes.len());
    guest.write(0, b"half a li", 4);
    guest.drained(0);
    // The socket is full, and a buffer partly out.
    let mut got = Vec::new();
    eventually("a full socket", || {
        let before = guest.handle.stats(1).unwrap().bytes_out;
        std::thread::sleep(Duration::from_millis(10));
        (before > 0 && before == guest.handle.stats(1).unwrap().bytes_out).then_some(())
    });
    guest.quiesce();
    assert!(log.lines().is_empty());
    let out = guest.handle.stats(1).unwrap().bytes_out as usize;
    got.resize(out, 0);
    theirs.read_exact(&mut got).unwrap();

    let (mut ports, mut theirs, log) = machine();
    ports[0].size = Some(WindowSize { cols: 77, rows: 7 });
    restore_into(&mut guest, ports);
    guest.interrupt.take();
    guest.said.clear();
    guest.device.resume();
    let reader = std::thread::spawn(move || {
        let mut rest = vec![0; 900_000 - out];
        theirs.read_exact(&mut rest).unwrap();
        (rest, theirs)
    });
    guest.drained(1);
    let (rest, mut theirs) = reader.join().unwrap();
    got.extend(rest);
    assert!(got == bytes);

    guest.write(0, b"ne\n", 10);
    eventually("the line", || (log.lines() == ["half a line"]).then_some(()));
    // The port is still open in the guest, and its window has the new size.
    theirs.write_all(b"hello again").unwrap();
    assert_eq!(guest.read(1, 11), b"hello again");
    guest.wait_heard(0, 5, 0);
    assert_eq!(guest.said[0].payload, [77, 0, 7, 0]);
    let signals = guest.interrupt.take();
    for queue in 0..6 {
        assert!(signals.contains(&Signal::Queue(queue)), "queue {queue} in {signals:?}");
    }
}

#[test]
fn input_not_taken_before_a_save_is_taken_after_it() {
    let (ports, mut theirs, _log) = machine();
    let mut guest = Guest::boot(ports);
    guest.open(1);
    let bytes = pattern(200_000);
    theirs.write_all(&bytes[..150_000]).unwrap();
    let taken = guest.read(1, 1000);
    guest.quiesce();
    guest.device.abort();
    theirs.write_all(&bytes[150_000..]).unwrap();
    let rest = guest.read(1, 199_000);
    assert!([taken, rest].concat() == bytes);
}

#[test]
fn the_end_of_input_is_taken_back_by_a_new_input() {
    let (ports, theirs, _log) = machine();
    let mut guest = Guest::boot(ports);
    guest.open(1);
    drop(theirs);
    guest.wait_heard(1, 6, 0);
    guest.quiesce();
    let (ports, mut theirs, _log) = machine();
    restore_into(&mut guest, ports);
    guest.said.clear();
    guest.device.resume();
    guest.wait_heard(1, 6, 1);
    theirs.write_all(b"new").unwrap();
    assert_eq!(guest.read(1, 3), b"new");
}

#[test]
fn quiesce_and_resume_again_and_again_while_bytes_flow() {
    let (ports, mut theirs, _log) = machine();
    let mut guest = Guest::boot(ports);
    guest.open(1);
    let bytes = pattern(400_000);
    let (mut back, copy) = (theirs.try_clone().unwrap(), bytes.clone());
    let sender = std::thread::spawn(move || back.write_all(&copy).unwrap());
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 400_000];
        theirs.read_exact(&mut got).unwrap();
        got
    });
    let mut rest = &bytes[..];
    while !rest.is_empty() || guest.poll_input(1) < bytes.len() {
        let n = guest.offer(1, rest, 3000);
        rest = &rest[n..];
        guest.quiesce();
        assert_eq!(guest.device.quiesce(Instant::now()), Ok(()), "idempotent");
        let used: Vec<_> = guest.rings.iter().map(|r| r.driver.addresses().2).collect();
        let idx = |guest: &Guest| -> Vec<u16> {
            use purlin_vmm_core::memory::{Bytes, GuestAddress};
            used.iter().map(|a| guest.ram.read_obj(GuestAddress(a + 2)).unwrap()).collect()
        };
        let before = idx(&guest);
        std::thread::sleep(Duration::from_micros(300));
        assert_eq!(idx(&guest), before, "a quiesced device wrote");
        guest.device.resume();
    }
    sender.join().unwrap();
    guest.drained(1);
    assert!(reader.join().unwrap() == bytes);
    assert!(guest.got[1].make_contiguous() == bytes);
}

#[test]
fn a_driver_can_be_loaded_again() {
    let (ports, mut theirs, _log) = machine();
    let mut guest = Guest::boot(ports);
    for round in 0..3u8 {
        guest.open(1);
        theirs.write_all(&[round; 4]).unwrap();
        assert_eq!(guest.read(1, 4), [round; 4]);
        guest.write(1, &[round; 9], 2);
        let mut got = [0xff; 9];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got, [round; 9]);
        guest.reset();
        guest.probe();
        guest.greet();
    }
}

#[test]
fn calls_out_of_place_do_no_harm() {
    let (ports, _theirs, _log) = machine();
    let mut guest = Guest::new(ports);
    guest.device.resume();
    guest.device.abort();
    guest.quiesce();
    guest.reset();
    let idle = guest.device.save().unwrap();
    assert_eq!(guest.device.flush(Instant::now()).unwrap(), 0);
    guest.probe();
    assert_eq!(guest.device.save(), Err(SaveError::NotQuiesced(DeviceType::Console)));
    assert!(matches!(guest.device.activate(guest.context()), Err(ActivateError::AlreadyActive)));
    assert!(matches!(guest.device.restore(&idle, None), Err(RestoreError::NotFresh)));
    guest.greet();
    guest.reset();
    let mut short = guest.context();
    short.queues.pop();
    let refused = guest.device.activate(short);
    assert!(matches!(refused, Err(ActivateError::QueueCount { expected: 6, found: 5 })));
    guest.device.restore(&idle, None).unwrap();
    guest.probe();
    guest.greet();
}

#[test]
fn state_of_another_console_is_refused() {
    let (ports, _theirs, _log) = machine();
    let mut guest = Guest::boot(ports);
    guest.quiesce();
    let good = guest.device.save().unwrap();
    let fresh = |ports| {
        let config = ConsoleConfig { ports, resize_order: ResizeOrder::ColumnsFirst };
        let mut device = Console::new(config, guest.event_loop.handle()).unwrap();
        device.ack_features(guest.features);
        device
    };
    let table: Vec<(&str, Vec<PortConfig>)> = vec![
        ("ports", vec![PortConfig::console()]),
        ("port name", vec![PortConfig::console(), PortConfig::data("other")]),
        ("port role is console", vec![PortConfig::data(""), PortConfig::data("data")]),
    ];
    for (want, ports) in table {
        match fresh(ports).restore(&good, Some(guest.context())) {
            Err(RestoreError::Mismatch { field, .. }) => assert_eq!(field, want),
            other => panic!("{want}: {other:?}"),
        }
    }
    let same = || vec![PortConfig::console(), PortConfig::data("data")];
    assert!(matches!(
        fresh(same()).restore(&good, None),
        Err(RestoreError::Mismatch { field: "active", .. })
    ));
    let mut single = fresh(same());
    single.ack_features(0);
    assert!(matches!(
        single.restore(&good, Some(guest.context())),
        Err(RestoreError::Mismatch { field: "multiport", .. })
    ));
    // Cut or changed anywhere, it is an error or a state, never a panic; and the device stays usable.
    for at in 0..good.payload.len() {
        let mut cut = good.clone();
        cut.payload.truncate(at);
        let mut device = fresh(same());
        assert!(device.restore(&cut, Some(guest.context())).is_err(), "cut at {at}");
        device.restore(&good, Some(guest.context())).unwrap();
        let mut flipped = good.clone();
        flipped.payload[at] ^= 0xff;
        let _ = fresh(same()).restore(&flipped, Some(guest.context()));
    }
}

#[test]
fn a_device_that_needs_a_reset_is_saved_as_one_that_does_not_run() {
    let (ports, _theirs, _log) = machine();
    let mut guest = Guest::boot(ports);
    guest.rings[1].driver.set_avail_idx(999);
    guest.rings[1].driver.kick();
    eventually("NEEDS_RESET", || guest.interrupt.reset_needed().then_some(()));
    guest.quiesce();
    let section = guest.device.save().unwrap();
    let (ports, _theirs, _log) = machine();
    let config = ConsoleConfig { ports, resize_order: ResizeOrder::ColumnsFirst };
    let mut device = Console::new(config, guest.event_loop.handle()).unwrap();
    device.restore(&section, None).unwrap();
}

#[test]
fn consoles_that_cannot_be_made() {
    let guest = Guest::new(vec![PortConfig::console()]);
    let make = |ports| {
        let config = ConsoleConfig { ports, resize_order: ResizeOrder::ColumnsFirst };
        Console::new(config, guest.event_loop.handle()).err()
    };
    assert!(matches!(make(vec![]), Some(ConsoleError::Ports(0))));
    let many = (0..32).map(|_| PortConfig::data("")).collect();
    assert!(matches!(make(many), Some(ConsoleError::Ports(32))));
    let long = "x".repeat(129);
    assert!(matches!(make(vec![PortConfig::data(long)]), Some(ConsoleError::Name { port: 0, len: 129 })));
    let nul = vec![PortConfig::console(), PortConfig::data("a\0b")];
    assert!(matches!(make(nul), Some(ConsoleError::Name { port: 1, len: 3 })));
}
