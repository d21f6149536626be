use std::fs::File;
use std::time::{Duration, Instant};

use super::*;
use crate::virtio::{ResetProgress, Signal, VirtioDevice};

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

#[test]
fn the_ports_of_a_container_come_up_as_linux_expects() {
    let (console, _log) = console_on_log();
    let size = WindowSize { cols: 132, rows: 43 };
    let mut guest = Guest::boot(vec![
        console.size(size),
        input_port("krun-stdin", null()),
        output_port("krun-stdout", null()),
        PortConfig::data(""),
    ]);
    let of = |guest: &mut Guest, port| guest.heard(port);
    assert_eq!(of(&mut guest, 0), [(4, 1), (6, 1), (5, 0)]);
    assert_eq!(of(&mut guest, 1), [(6, 1), (7, 1)]);
    assert_eq!(of(&mut guest, 2), [(6, 1), (7, 1)]);
    assert_eq!(of(&mut guest, 3), [(6, 1)]);
    let payload = |event, port| {
        let said = guest.said.iter().find(|s| s.event == event && s.port == port).unwrap();
        said.payload.clone()
    };
    assert_eq!(payload(5, 0), [132, 0, 43, 0]);
    assert_eq!(payload(7, 1), b"krun-stdin");
    assert_eq!(payload(7, 2), b"krun-stdout");
    assert_eq!(guest.handle.protocol_errors(), 0);
}

#[test]
fn a_console_without_known_size_is_not_resized() {
    let mut guest = Guest::boot(vec![PortConfig::console()]);
    assert_eq!(guest.heard(0), [(4, 1), (6, 1)]);
}

#[test]
fn a_named_data_port_may_be_port_0() {
    let mut guest = Guest::boot(vec![output_port("only", null())]);
    assert_eq!(guest.heard(0), [(6, 1), (7, 1)]);
}

#[test]
fn all_answers_due_make_one_interrupt() {
    let ports = (0..8).map(|i| output_port(&format!("p{i}"), null())).collect();
    let mut guest = Guest::new(ports);
    guest.probe();
    guest.interrupt.take();
    guest.tell(u32::MAX, 0, 1);
    eventually("PORT_ADD", || (guest.hear() == 8).then_some(()));
    let mine = |s: &Signal| *s == Signal::Queue(CONTROL_RX as u16);
    assert_eq!(guest.interrupt.take().iter().filter(|s| mine(s)).count(), 1);

    // The driver has not asked for an interrupt about its own messages: it spins.
    guest.rings[CONTROL_RX].driver.want_interrupt();
    guest.add_port(3);
    eventually("answers", || (guest.hear() == 10).then_some(()));
    let signals = guest.interrupt.take();
    assert_eq!(signals, [Signal::Queue(CONTROL_RX as u16)]);
}

#[test]
fn messages_wait_for_buffers_and_the_newest_size_wins() {
    let mut guest = Guest::new(vec![PortConfig::console()]);
    guest.device.ack_features(guest.features);
    guest.make_rings();
    guest.device.activate(guest.context()).unwrap();
    guest.tell(u32::MAX, 0, 1);
    guest.tell(0, 3, 1);
    for cols in 1..100 {
        guest.handle.resize(0, WindowSize { cols, rows: 5 });
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    // PORT_READY overtook PORT_ADD, which is not needed any more. One buffer, one message.
    for _ in 0..3 {
        guest.rings[CONTROL_RX].submit(&[crate::testing::Buf::Write(64)]);
        guest.rings[CONTROL_RX].kick();
        let used = eventually("a message", || guest.rings[CONTROL_RX].driver.used().pop());
        let data = &used.data[..used.len as usize];
        let (event, value) = (u16::from(data[4]), u16::from(data[6]));
        guest.said.push(guest::Said { port: 0, event, value, payload: data[8..].to_vec() });
    }
    guest.rings[CONTROL_RX].submit(&[crate::testing::Buf::Write(64)]);
    guest.rings[CONTROL_RX].kick();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(guest.rings[CONTROL_RX].driver.used().is_empty());
    let events: Vec<_> = guest.said.iter().map(|s| s.event).collect();
    assert_eq!(events, [4, 6, 5]);
    assert_eq!(guest.said[2].payload, [99, 0, 5, 0]);
}

#[test]
fn a_driver_without_multiport_has_one_open_port() {
    let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let second = ours.try_clone().unwrap();
    let port = PortConfig::console().input(PortInput::Fd(ours.into())).output(PortOutput::Fd(second.into()));
    let mut guest = Guest::new(vec![port, PortConfig::data("unseen")]);
    guest.features = F_SIZE;
    guest.probe();
    std::io::Write::write_all(&mut theirs, b"typed").unwrap();
    assert_eq!(guest.read(0, 5), b"typed");
    guest.write(0, b"printed", 3);
    let mut got = [0; 7];
    std::io::Read::read_exact(&mut theirs, &mut got).unwrap();
    assert_eq!(&got, b"printed");
}

#[test]
fn the_configuration_space_shows_size_and_ports() {
    let mut guest = Guest::new(vec![PortConfig::console(), PortConfig::data("x")]);
    let read = |guest: &Guest, offset, len| {
        let mut data = vec![0xaa; len];
        guest.device.read_config(offset, &mut data);
        data
    };
    assert_eq!(read(&guest, 0, 12), [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let before = guest.device.config_generation();
    guest.handle.resize(0, WindowSize { cols: 80, rows: 25 });
    guest.handle.resize(0, WindowSize { cols: 80, rows: 25 });
    guest.handle.resize(1, WindowSize { cols: 9, rows: 9 });
    guest.handle.resize(77, WindowSize { cols: 9, rows: 9 });
    assert_eq!(guest.device.config_generation(), before + 1);
    assert_eq!(read(&guest, 0, 4), [80, 0, 25, 0]);
    assert_eq!(read(&guest, 11, 3), [0, 0xaa, 0xaa]);
    assert_eq!(read(&guest, u64::MAX, 2), [0xaa, 0xaa]);
    guest.device.write_config(8, &[1, 2, 3, 4]);
    guest.device.write_config(u64::MAX, &[1; 64]);
    assert_eq!(read(&guest, 8, 4), [0, 0, 0, 0]);
}

/// Two consoles on loops of their own: the second one is silent until the first one's terminals are registered.
#[test]
fn terminals_come_up_in_the_order_of_their_consoles() {
    let mut first =
        Guest::new(vec![PortConfig::console(), output_port("data", null()), PortConfig::console()]);
    let mut second = Guest::new(vec![PortConfig::console()]);
    second.device.follow(&first.handle);
    let is_silent = |second: &mut Guest| {
        second.device.quiesce(Instant::now() + Duration::from_secs(60)).unwrap();
        let silent = second.hear() == 0;
        second.device.resume();
        silent
    };
    first.probe();
    second.probe();
    first.tell(u32::MAX, 0, 1);
    second.tell(u32::MAX, 0, 1);
    assert!(is_silent(&mut second));
    eventually("PORT_ADD", || (first.hear() == 3).then_some(()));
    first.tell(0, 6, 1);
    assert!(is_silent(&mut second), "one of two");
    first.tell(2, 6, 1);
    eventually("PORT_ADD", || (second.hear() == 1).then_some(()));
}

/// A console without a driver, or with one that knows no ports, or that is reset, or breaks its rings, is not waited for.
#[test]
fn nobody_waits_for_a_console_that_does_not_come_up() {
    let second = |first: &Guest| {
        let mut second = Guest::new(vec![PortConfig::console()]);
        second.device.follow(&first.handle);
        second.probe();
        second.tell(u32::MAX, 0, 1);
        second
    };
    let comes_up = |mut guest: Guest| eventually("PORT_ADD", || (guest.hear() == 1).then_some(()));
    let first = || Guest::new(vec![PortConfig::console()]);
    comes_up(second(&first()));

    let mut plain = first();
    plain.features &= !F_MULTIPORT;
    plain.probe();
    comes_up(second(&plain));

    let mut reset = first();
    reset.probe();
    reset.tell(u32::MAX, 0, 1);
    let waiting = second(&reset);
    assert_eq!(reset.device.reset(), ResetProgress::Done);
    comes_up(waiting);

    let mut broken = first();
    broken.probe();
    broken.tell(u32::MAX, 0, 1);
    let waiting = second(&broken);
    broken.rings[tx_queue(0)].driver.publish(QUEUE_SIZE);
    broken.rings[tx_queue(0)].driver.kick();
    comes_up(waiting);
}
