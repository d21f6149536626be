//! A driver as Linux's, in the order and with the notifications of `drivers/char/virtio_console.c`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin_vmm_core::memory::{Bytes, GuestAddress, SharedRam};

use super::super::*;
use crate::shell::EventLoop;
use crate::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::{ActivateContext, ResetProgress, VirtioDevice};

pub const EVENT_IDX: u64 = 1 << 29;
pub const PATIENCE: Duration = Duration::from_secs(20);
const AREA: u64 = 1 << 20;

/// Waits until `what` gives something.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not happen");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A control message of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub port: u32,
    pub event: u16,
    pub value: u16,
    pub payload: Vec<u8>,
}

/// One ring, and the notifications the device asked for.
pub struct Ring {
    pub driver: DriverRing,
    pub kicks: usize,
    ram: SharedRam,
    offered: u16,
    told: u16,
    event_idx: bool,
}

impl Ring {
    pub fn submit(&mut self, bufs: &[Buf<'_>]) {
        self.driver.submit(bufs);
        self.offered = self.offered.wrapping_add(1);
    }

    /// Notifies the device if it wants to know (virtio 1.2 §2.7.10).
    pub fn kick(&mut self) {
        let (_, _, used) = self.driver.addresses();
        let (new, old) = (self.offered, self.told);
        self.told = new;
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let size = u64::from(QUEUE_SIZE);
        let event: u16 = self.ram.read_obj(GuestAddress(used + 4 + 8 * size)).unwrap();
        let wanted = new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
        if !self.event_idx || wanted {
            self.kicks += 1;
            self.driver.kick();
        }
    }
}

pub struct Guest {
    pub device: Console,
    pub handle: ConsoleHandle,
    pub interrupt: Arc<RecordingInterrupt>,
    pub rings: Vec<Ring>,
    pub ram: SharedRam,
    pub said: Vec<Said>,
    pub got: Vec<VecDeque<u8>>,
    pub features: u64,
    pub event_loop: EventLoop,
}

impl Guest {
    /// A device that is not active yet.
    pub fn new(ports: Vec<PortConfig>) -> Self {
        Self::on_loop("console-test", ports)
    }

    /// As `new`, on a loop thread of this name.
    pub fn on_loop(name: &str, ports: Vec<PortConfig>) -> Self {
        let event_loop = EventLoop::spawn(name).unwrap();
        let config = ConsoleConfig { ports, resize_order: ResizeOrder::ColumnsFirst };
        let device = Console::new(config, event_loop.handle()).unwrap();
        let ports = device.queue_sizes().len() / 2 - 1;
        let ram = guest_ram((AREA as usize) * (2 * ports + 3));
        Guest {
            handle: device.handle(),
            device,
            interrupt: Arc::new(RecordingInterrupt::new()),
            rings: Vec::new(),
            ram,
            said: Vec::new(),
            got: vec![VecDeque::new(); ports],
            features: F_SIZE | F_MULTIPORT | EVENT_IDX,
            event_loop,
        }
    }

    /// A device whose driver is through with its probe.
    pub fn boot(ports: Vec<PortConfig>) -> Self {
        let mut guest = Self::new(ports);
        guest.probe();
        guest.greet();
        guest
    }

    pub fn context(&self) -> ActivateContext {
        let event_idx = self.features & EVENT_IDX != 0;
        ActivateContext {
            memory: self.ram.clone(),
            queues: (0u16..).zip(&self.rings).map(|(i, r)| r.driver.device_queue(i, event_idx)).collect(),
            interrupt: self.interrupt.clone(),
            shm: None,
        }
    }

    pub fn make_rings(&mut self) {
        let count = self.device.queue_sizes().len() as u64;
        let ring = |i: u64| Ring {
            driver: DriverRing::new(&self.ram, i * AREA, AREA, QUEUE_SIZE),
            kicks: 0,
            ram: self.ram.clone(),
            offered: 0,
            told: 0,
            event_idx: self.features & EVENT_IDX != 0,
        };
        self.rings = (0..count).map(ring).collect();
    }

    /// Feature negotiation, queues, DRIVER_OK, and buffers for control messages.
    pub fn probe(&mut self) {
        self.device.ack_features(self.features);
        self.make_rings();
        self.device.activate(self.context()).unwrap();
        if self.features & F_MULTIPORT != 0 {
            for _ in 0..QUEUE_SIZE {
                self.rings[CONTROL_RX].submit(&[Buf::Write(4096)]);
            }
            self.rings[CONTROL_RX].kick();
        } else {
            self.fill(0);
        }
    }

    /// DEVICE_READY, then PORT_READY for every port, as far as the device goes along.
    pub fn greet(&mut self) {
        self.tell(u32::MAX, 0, 1);
        let ports = self.got.len();
        eventually("PORT_ADD", || (self.hear() >= ports).then_some(()));
        for said in std::mem::take(&mut self.said) {
            assert_eq!((said.event, said.value), (1, 1), "{said:?}");
            self.add_port(said.port);
        }
        self.settle();
    }

    /// What Linux does on PORT_ADD.
    pub fn add_port(&mut self, port: u32) {
        self.fill(port as usize);
        self.tell(port, 3, 1);
    }

    fn fill(&mut self, port: usize) {
        let ring = &mut self.rings[rx_queue(port)];
        for _ in 0..ring.driver.free_descriptors() {
            ring.submit(&[Buf::Write(4096)]);
        }
        ring.kick();
    }

    /// Sends a control message and spins until its buffer is back.
    pub fn tell(&mut self, port: u32, event: u16, value: u16) {
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend_from_slice(&event.to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
        self.tell_raw(&bytes);
    }

    pub fn tell_raw(&mut self, bytes: &[u8]) {
        let ring = &mut self.rings[CONTROL_TX];
        ring.submit(&[Buf::Read(bytes)]);
        ring.kick();
        eventually("a control buffer coming back", || (!ring.driver.used().is_empty()).then_some(()));
    }

    /// Takes control messages, gives their buffers back, registers consoles. How many are in `said`.
    pub fn hear(&mut self) -> usize {
        let mut consoles = Vec::new();
        let ring = &mut self.rings[CONTROL_RX];
        for used in ring.driver.used() {
            let data = &used.data[..used.len as usize];
            let said = Said {
                port: u32::from_le_bytes(data[..4].try_into().unwrap()),
                event: u16::from_le_bytes([data[4], data[5]]),
                value: u16::from_le_bytes([data[6], data[7]]),
                payload: data[8..].to_vec(),
            };
            if said.event == 4 {
                consoles.push(said.port);
            }
            self.said.push(said);
            ring.submit(&[Buf::Write(4096)]);
            ring.kick();
        }
        for port in consoles {
            self.tell(port, 6, 1);
        }
        self.said.len()
    }

    /// Waits until the device has nothing more to say.
    pub fn settle(&mut self) {
        let mut last = (usize::MAX, Instant::now());
        eventually("quiet", || {
            let now = self.hear();
            if now != last.0 {
                last = (now, Instant::now());
            }
            (last.1.elapsed() > Duration::from_millis(20)).then_some(())
        });
    }

    /// The messages heard about a port, as (event, value).
    pub fn heard(&mut self, port: u32) -> Vec<(u16, u16)> {
        self.hear();
        self.said.iter().filter(|s| s.port == port).map(|s| (s.event, s.value)).collect()
    }

    pub fn wait_heard(&mut self, port: u32, event: u16, value: u16) {
        eventually(&format!("event {event} value {value} of port {port}"), || {
            self.heard(port).contains(&(event, value)).then_some(())
        });
    }

    pub fn open(&mut self, port: u32) {
        self.tell(port, 6, 1);
    }

    pub fn close(&mut self, port: u32) {
        self.tell(port, 6, 0);
    }

    /// Offers as much of `bytes` as the ring takes, in buffers of `chunk`; how many bytes that was.
    pub fn offer(&mut self, port: usize, bytes: &[u8], chunk: usize) -> usize {
        let ring = &mut self.rings[tx_queue(port)];
        ring.driver.used();
        let mut offered = 0;
        for piece in bytes.chunks(chunk) {
            if ring.driver.free_descriptors() == 0 {
                break;
            }
            ring.submit(&[Buf::Read(piece)]);
            offered += piece.len();
        }
        ring.kick();
        offered
    }

    /// Writes all of `bytes`, waiting for room.
    pub fn write(&mut self, port: usize, bytes: &[u8], chunk: usize) {
        let mut rest = bytes;
        eventually("room in the ring", || {
            loop {
                let n = self.offer(port, rest, chunk);
                rest = &rest[n..];
                if n == 0 || rest.is_empty() {
                    break;
                }
            }
            rest.is_empty().then_some(())
        });
    }

    /// Waits until all transmit buffers came back.
    pub fn drained(&mut self, port: usize) {
        let ring = &mut self.rings[tx_queue(port)];
        eventually("output buffers coming back", || {
            ring.driver.used();
            (ring.driver.free_descriptors() == usize::from(QUEUE_SIZE)).then_some(())
        });
    }

    /// Takes received bytes and gives the buffers back.
    pub fn poll_input(&mut self, port: usize) -> usize {
        let ring = &mut self.rings[rx_queue(port)];
        for used in ring.driver.used() {
            self.got[port].extend(&used.data[..used.len as usize]);
            ring.submit(&[Buf::Write(4096)]);
            ring.kick();
        }
        self.got[port].len()
    }

    pub fn read(&mut self, port: usize, len: usize) -> Vec<u8> {
        eventually(&format!("{len} bytes of input"), || (self.poll_input(port) >= len).then_some(()));
        self.got[port].drain(..len).collect()
    }

    pub fn reset(&mut self) {
        eventually("reset", || (self.device.reset() == ResetProgress::Done).then_some(()));
        self.said.clear();
        self.got.iter_mut().for_each(VecDeque::clear);
    }

    pub fn quiesce(&mut self) {
        self.device.quiesce(Instant::now() + Duration::from_secs(2)).unwrap();
    }
}
