//! Saved states of anybody's, taken by devices behind their transport.

use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin_devices::shell::EventLoop;
use purlin_devices::testing::guest_ram;
use purlin_devices::virtio::VirtioDevice;
use purlin_devices::virtio::balloon::{Balloon, BalloonConfig};
use purlin_devices::virtio::console::{Console, ConsoleConfig, PortConfig, PortHandle, ResizeOrder};
use purlin_devices::virtio::fs::{Fs, FsConfig, OverlayEntry, OverlayKind, Source};
use purlin_devices::virtio::mmio::{MmioTransport, TransportConfig};
use purlin_devices::virtio::rng::Rng;
use purlin_snapshot::Section;
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::memory::{Bytes, GuestAddress, SharedRam};

use crate::cursor::Cursor;

/// Registers of the transport (virtio 1.2 §4.2.2).
const QUEUE_NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;

type Transport = MmioTransport<Box<dyn VirtioDevice>>;

struct NoLine;

impl IrqLine for NoLine {
    fn trigger(&self) -> std::io::Result<()> {
        Ok(())
    }
}

fn share(source: Source) -> Box<dyn VirtioDevice> {
    let mut config = FsConfig::new("fuzz", source);
    config.read_only = true;
    (config.limits.nodes, config.limits.handles, config.limits.cached_descriptors) = (64, 16, 8);
    let kind = OverlayKind::File { data: b"init".into(), one_shot: true };
    config.overlay.push(OverlayEntry { path: "init.krun".into(), mode: 0o755, kind });
    Box::new(Fs::new(config).expect("a share"))
}

fn console(events: &EventLoop) -> Box<dyn VirtioDevice> {
    let (_handle, input, output) = PortHandle::pair().expect("a pair");
    let ports = vec![PortConfig::console(), PortConfig::data("port").input(input).output(output)];
    let config = ConsoleConfig { ports, resize_order: ResizeOrder::RowsFirst };
    Box::new(Console::new(config, events.handle()).expect("a console"))
}

fn transport(kind: u8, events: &EventLoop, ram: &SharedRam) -> Transport {
    let device = match kind % 5 {
        0 => Box::new(Rng::new(events.handle()).expect("rng")),
        1 => {
            let balloon = Balloon::new(BalloonConfig::new(ram.clone()), events.handle());
            Box::new(balloon.expect("a balloon")) as Box<dyn VirtioDevice>
        }
        CONSOLE => console(events),
        3 => share(Source::Path(env!("CARGO_MANIFEST_DIR").into())),
        _ => share(Source::Virtual),
    };
    let config = TransportConfig { memory: ram.clone(), irq: Arc::new(NoLine), shm: None };
    MmioTransport::new(device, config).expect("a transport")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What the first byte is for a console.
const CONSOLE: u8 = 2;
/// Guest RAM.
const RAM: usize = 1 << 20;

/// The first byte says which device, two words of two bytes how long its state and its transport's are; then come these, and
/// what is in guest RAM. What is refused changes nothing. What is taken is at rest, saves what is taken again, and serves its
/// queues, whatever is in them, until it is to rest again.
pub fn device_restore(data: &[u8]) {
    taken(data);
}

/// The target's body; whether the state was taken.
fn taken(data: &[u8]) -> bool {
    let mut input = Cursor(data);
    let (kind, lengths) = (input.u8(), [input.u16(), input.u16()].map(usize::from));
    let (device, rest) = input.0.split_at(lengths[0].min(input.0.len()));
    let (registers, contents) = rest.split_at(lengths[1].min(rest.len()));
    let ram = guest_ram(RAM);
    ram.write_slice(&contents[..contents.len().min(RAM)], GuestAddress(0)).expect("contents of RAM");
    let events = EventLoop::spawn("fuzz").expect("a loop");

    let mut first = transport(kind, &events, &ram);
    let fresh = first.save(0).expect("a fresh device can be saved");
    let foreign = [(&fresh[0], registers), (&fresh[1], device)];
    let foreign = foreign.map(|(fresh, payload)| Section::new(fresh.id, payload.to_vec()));
    if first.restore(&foreign).is_err() {
        assert_eq!(first.save(0).expect("it is fresh"), fresh, "a refused state changes nothing");
        return false;
    }
    let saved = first.save(0).expect("restored means quiesced");
    let mut second = transport(kind, &events, &ram);
    second.restore(&saved).expect("what was saved is taken");
    let again = second.save(0).expect("restored means quiesced");
    if kind % 5 == CONSOLE {
        // The configuration is a later one after every restore, since a window may have another size.
        assert_eq!((&again[0], again[1].payload.len()), (&saved[0], saved[1].payload.len()));
    } else {
        assert_eq!(again, saved);
    }
    drop(second);
    first.resume();
    for queue in 0..first.device().queue_sizes().len() as u32 {
        first.write(QUEUE_NOTIFY, &queue.to_le_bytes());
    }
    first.quiesce(soon()).expect("a device with nothing to wait for comes to rest");
    let _ = first.save(0);
    first.abort();
    first.write(STATUS, &0u32.to_le_bytes());
    true
}

#[cfg(test)]
mod tests {
    use fuse::{INIT, LOOKUP, OPENDIR, request};
    use purlin_devices::testing::{Buf, DriverRing};

    use super::*;

    /// Room for each queue.
    const AREA: u64 = 0x800;

    /// As much of FUSE as it takes to begin a session.
    mod fuse {
        pub const INIT: u32 = 26;
        pub const LOOKUP: u32 = 1;
        pub const OPENDIR: u32 = 27;

        pub fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
            let mut header = Vec::new();
            header.extend((40 + body.len() as u32).to_le_bytes());
            header.extend(opcode.to_le_bytes());
            header.extend(1u64.to_le_bytes());
            header.extend(node.to_le_bytes());
            header.extend([0; 16]);
            [&header, body].concat()
        }
    }

    /// A driver of any of the devices.
    struct Driver {
        transport: Transport,
        rings: Vec<DriverRing>,
        ram: SharedRam,
        _events: EventLoop,
    }

    impl Driver {
        fn start(kind: u8) -> Self {
            let (events, ram) = (EventLoop::spawn("test").unwrap(), guest_ram(RAM));
            let mut transport = transport(kind, &events, &ram);
            let count = transport.device().queue_sizes().len() as u64;
            let rings: Vec<_> = (0..count).map(|i| DriverRing::new(&ram, i * AREA, AREA, 8)).collect();
            let mut set = |register: u64, value: u32| transport.write(register, &value.to_le_bytes());
            set(STATUS, 1);
            set(STATUS, 3);
            // VIRTIO_F_VERSION_1.
            set(0x24, 1);
            set(0x20, 1);
            set(STATUS, 11);
            for (index, ring) in (0..).zip(&rings) {
                let (descriptors, available, used) = ring.addresses();
                for (register, value) in [(0x30, index), (0x38, 8), (0x44, 1)] {
                    if register == 0x44 {
                        for (at, address) in [(0x80, descriptors), (0x90, available), (0xa0, used)] {
                            set(at, address as u32);
                            set(at + 4, (address >> 32) as u32);
                        }
                    }
                    set(register, value);
                }
            }
            set(STATUS, 15);
            Driver { transport, rings, ram, _events: events }
        }

        fn call(&mut self, queue: usize, request: &[u8], room: u32) {
            self.rings[queue].submit(&[Buf::Read(request), Buf::Write(room)]);
            self.transport.write(QUEUE_NOTIFY, &(queue as u32).to_le_bytes());
            let until = soon();
            while self.rings[queue].used().is_empty() {
                assert!(Instant::now() < until, "no answer");
                std::thread::yield_now();
            }
        }

        /// Its state as an input of the target.
        fn input(mut self, kind: u8, offer: &[Buf<'_>]) -> Vec<u8> {
            self.transport.quiesce(soon()).unwrap();
            // To be served after it was restored.
            if !offer.is_empty() {
                self.rings.last_mut().unwrap().submit(offer);
            }
            let [registers, device] = self.transport.save(0).unwrap();
            let mut ram = vec![0; self.rings.len() * AREA as usize];
            self.ram.read_slice(&mut ram, GuestAddress(0)).unwrap();
            ram.truncate(ram.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            let lengths = [device.payload.len(), registers.payload.len()];
            let lengths = lengths.map(|length| u16::try_from(length).unwrap().to_le_bytes());
            [&[kind], lengths.as_flattened(), &device.payload, &registers.payload, &ram].concat()
        }
    }

    #[test]
    fn states_of_ordinary_machines_are_taken() {
        for kind in 0..5 {
            let mut driver = Driver::start(kind);
            let lookup = request(LOOKUP, 1, b"src\0");
            let offer = match kind {
                0 => vec![Buf::Write(16)],
                3 | 4 => {
                    let words = [7u32, 38, 0, 0].map(u32::to_le_bytes);
                    driver.call(1, &request(INIT, 0, words.as_flattened()), 80);
                    driver.call(1, &request(LOOKUP, 1, b"init.krun\0"), 144);
                    driver.call(1, &lookup, 144);
                    driver.call(1, &request(OPENDIR, 1, &[0; 8]), 32);
                    vec![Buf::Read(&lookup), Buf::Write(144)]
                }
                _ => vec![],
            };
            let input = driver.input(kind, &offer);
            assert!(taken(&input), "{kind}");
            // One that never had a driver.
            let fresh = Driver::start(kind);
            let fresh = transport(kind, &fresh._events, &fresh.ram).save(0).unwrap();
            let length = (fresh[1].payload.len() as u16).to_le_bytes();
            let transport = (fresh[0].payload.len() as u16).to_le_bytes();
            assert!(taken(
                &[&[kind][..], &length, &transport, &fresh[1].payload, &fresh[0].payload].concat()
            ));
        }
    }
}
