//! Random sequences against the pure machine, and against a worker without a loop.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;
use crate::virtio::VirtioDevice;

#[derive(Debug, Clone)]
enum Op {
    Guest(u32, u16, u16),
    Resize(usize, u16),
    Ended(usize),
    Remove(usize),
    Send(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u32..5, prop_oneof![Just(0u16), Just(3), Just(6), any::<u16>()], 0u16..2)
            .prop_map(|(p, e, v)| Op::Guest(p, e, v)),
        1 => (0usize..5, any::<u16>()).prop_map(|(p, c)| Op::Resize(p, c)),
        1 => (0usize..5).prop_map(Op::Ended),
        1 => (0usize..5).prop_map(Op::Remove),
        3 => (0usize..8).prop_map(Op::Send),
    ]
}

/// What a driver may expect of one port, seen only through messages.
#[derive(Default, Clone, Debug)]
struct Seen {
    added: bool,
    ready: bool,
    removed: bool,
    ended: bool,
}

proptest! {
    #[test]
    fn messages_make_sense_whatever_happens(ops in prop::collection::vec(op(), 0..200)) {
        let spec = |role, name: &str| PortSpec { role, name: name.to_owned() };
        let ports = vec![
            Port::new(spec(PortRole::Console, ""), true, None),
            Port::new(spec(PortRole::Data, "a"), true, None),
            Port::new(spec(PortRole::Data, ""), true, None),
        ];
        let mut control = Control::new(ports, true);
        let mut seen = vec![Seen::default(); 3];
        let mut driver_ready = false;
        for op in ops {
            match op {
                Op::Guest(port, event, value) => {
                    let mut bytes = port.to_le_bytes().to_vec();
                    bytes.extend(event.to_le_bytes());
                    bytes.extend(value.to_le_bytes());
                    let known = event == 0 || matches!(event, 3 | 6) && port < 3;
                    prop_assert_eq!(control.guest(&bytes).is_ok(), known);
                    if event == 0 {
                        driver_ready = value != 0;
                        seen.iter_mut().for_each(|s| (s.added, s.ready) = (false, false));
                    }
                    if event == 3 && port < 3 {
                        let s = &mut seen[port as usize];
                        s.ready = value != 0;
                        s.added |= s.ready && !s.removed;
                    }
                }
                Op::Resize(port, cols) => control.resize(port, WindowSize { cols, rows: 1 }),
                Op::Ended(port) => {
                    control.input_ended(port);
                    if let Some(s) = seen.get_mut(port) { s.ended = true; }
                }
                Op::Remove(port) => {
                    control.remove(port);
                    if (1..3).contains(&port) { seen[port].removed = true; }
                }
                Op::Send(count) => for _ in 0..count {
                    let Some((port, message)) = control.next_due() else { break };
                    prop_assert!(driver_ready);
                    let s = &mut seen[port as usize];
                    match message {
                        HostMessage::Add => { prop_assert!(!s.removed && !s.added); s.added = true; }
                        HostMessage::Remove => { prop_assert!(s.removed && s.added); s.added = false; }
                        HostMessage::Console | HostMessage::Resize(_) =>
                            prop_assert!(port == 0 && s.ready),
                        HostMessage::Open(open) => {
                            prop_assert!(s.ready && !s.removed);
                            prop_assert_eq!(open, port == 0 || !s.ended);
                        }
                        HostMessage::Name(name) => prop_assert!(name == "a" && s.ready && !s.removed),
                    }
                    control.sent();
                },
            }
            for port in 0..4 {
                let s = seen.get(port).cloned().unwrap_or_default();
                prop_assert!(!control.accepts_input(port) || !s.removed && (port == 0 || !s.ended));
            }
        }
        // What is due is bounded, and ends.
        let mut left = 0;
        while control.next_due().is_some() { control.sent(); left += 1; }
        prop_assert!(left <= 3 * 6);
    }
}

#[derive(Debug, Clone)]
enum Step {
    GuestWrites(usize, usize),
    HostReads(usize),
    HostWrites(usize),
    GuestReads,
    Open(bool),
    Serve,
    SaveAndRestore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..120_000, 1usize..40_000).prop_map(|(n, c)| Step::GuestWrites(n, c)),
        3 => (1usize..200_000).prop_map(Step::HostReads),
        3 => (1usize..100_000).prop_map(Step::HostWrites),
        3 => Just(Step::GuestReads),
        2 => any::<bool>().prop_map(Step::Open),
        6 => Just(Step::Serve),
        1 => Just(Step::SaveAndRestore),
    ]
}

/// A guest, a worker nobody runs, and the host's end of port 1.
struct Bench {
    guest: Guest,
    host: UnixStream,
    to_host: Flow,
    to_guest: Flow,
}

/// A stream of pattern bytes: how many went in and came out.
#[derive(Default)]
struct Flow {
    sent: usize,
    got: usize,
}

fn at(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| (i % 251) as u8).collect()
}

impl Flow {
    fn arrived(&mut self, bytes: &[u8]) {
        assert!(bytes == at(self.got, bytes.len()), "gap after {} bytes", self.got);
        self.got += bytes.len();
        assert!(self.got <= self.sent);
    }
}

impl Bench {
    fn new() -> Self {
        let (host, ours) = UnixStream::pair().unwrap();
        host.set_nonblocking(true).unwrap();
        let mut guest = Guest::new(Self::ports(&ours));
        guest.device.ack_features(guest.features);
        guest.make_rings();
        guest.device.place(guest.context()).unwrap();
        let mut bench = Bench { guest, host, to_host: Flow::default(), to_guest: Flow::default() };
        for ring in [CONTROL_RX, rx_queue(1)] {
            for _ in 0..QUEUE_SIZE {
                bench.guest.rings[ring].submit(&[crate::testing::Buf::Write(4096)]);
            }
        }
        bench.say(u32::MAX, 0, 1);
        bench.say(1, 3, 1);
        bench
    }

    fn ports(ours: &UnixStream) -> Vec<PortConfig> {
        let copy = || OwnedFd::from(ours.try_clone().unwrap());
        let data = PortConfig::data("data").input(PortInput::Fd(copy())).output(PortOutput::Fd(copy()));
        vec![PortConfig::console(), data]
    }

    fn serve(&mut self) {
        self.guest.device.parked().unwrap().serve_all();
    }

    fn say(&mut self, port: u32, event: u16, value: u16) {
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend(event.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        self.guest.rings[CONTROL_TX].submit(&[crate::testing::Buf::Read(&bytes)]);
        self.serve();
        self.guest.rings[CONTROL_TX].driver.used();
        for _ in self.guest.rings[CONTROL_RX].driver.used() {
            self.guest.rings[CONTROL_RX].submit(&[crate::testing::Buf::Write(4096)]);
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::GuestWrites(len, chunk) => {
                let bytes = at(self.to_host.sent, *len);
                self.to_host.sent += self.guest.offer(1, &bytes, *chunk);
            }
            Step::HostReads(len) => {
                let mut buf = vec![0; *len];
                match self.host.read(&mut buf) {
                    Ok(n) => self.to_host.arrived(&buf[..n]),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
                }
            }
            Step::HostWrites(len) => match self.host.write(&at(self.to_guest.sent, *len)) {
                Ok(n) => self.to_guest.sent += n,
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            },
            Step::GuestReads => {
                self.guest.poll_input(1);
                let bytes: Vec<u8> = std::mem::take(&mut self.guest.got[1]).into();
                self.to_guest.arrived(&bytes);
            }
            Step::Open(open) => self.say(1, 6, u16::from(*open)),
            Step::Serve => self.serve(),
            Step::SaveAndRestore => self.save_and_restore(),
        }
    }

    /// As a snapshot on the same machine: the device is another, the stream on the host stays.
    fn save_and_restore(&mut self) {
        let guest = &mut self.guest;
        let output = guest.device.parked().unwrap().ends[1].output.borrow_fd();
        let ours = UnixStream::from(output.unwrap().try_clone_to_owned().unwrap());
        let section = guest.device.save().unwrap();
        let config = ConsoleConfig { ports: Self::ports(&ours), resize_order: ResizeOrder::ColumnsFirst };
        let mut device = Console::new(config, guest.event_loop.handle()).unwrap();
        device.ack_features(guest.features);
        device.restore(&section, Some(guest.context())).unwrap();
        guest.device = device;
        guest.handle = guest.device.handle();
    }

    /// Lets everything arrive.
    fn finish(&mut self) {
        self.say(1, 6, 1);
        for _ in 0..10_000 {
            self.run(&Step::Serve);
            self.run(&Step::HostReads(1 << 20));
            self.run(&Step::GuestReads);
            let done = |f: &Flow| f.sent == f.got;
            if done(&self.to_host) && done(&self.to_guest) {
                return;
            }
        }
        panic!(
            "to host {}/{}, to guest {}/{}",
            self.to_host.got, self.to_host.sent, self.to_guest.got, self.to_guest.sent
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_byte_arrives_once_and_in_order(steps in prop::collection::vec(step(), 0..60)) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.run(step);
        }
        bench.finish();
        prop_assert_eq!(bench.guest.handle.protocol_errors(), 0);
    }
}
