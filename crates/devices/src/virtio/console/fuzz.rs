//! A console against a driver made of arbitrary bytes, without a loop, so that every run is the same.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use purlin_vmm_core::memory::{Bytes, GuestAddress, SharedRam};

use super::{
    Console, ConsoleConfig, F_MULTIPORT, LineSink, PortConfig, PortInput, PortOutput, QUEUE_SIZE,
    ResizeOrder, WhenBroken, WindowSize,
};
use crate::shell::EventLoop;
use crate::testing::{DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::{ActivateContext, ResetProgress, VirtioDevice};

/// Bytes of guest RAM; ring areas are at the multiples of [`AREA`].
const RAM: usize = 64 << 10;
const AREA: u64 = 4 << 10;
/// Most bytes the host has waiting, so that a run ends.
const WAITING: usize = 64 << 10;

struct Nowhere;

impl LineSink for Nowhere {
    fn line(&mut self, _line: &str) {}
    fn suppressed(&mut self, _lines: u64) {}
}

struct Run {
    device: Console,
    events: EventLoop,
    rings: Vec<DriverRing>,
    ram: SharedRam,
    host: UnixStream,
    features: u64,
}

/// Runs `data` as a sequence of writes to guest memory (rings included) and events of driver and host.
///
/// For fuzz targets and their corpus. Panics, hangs and unbounded memory are the failures; everything else a
/// driver does is legal here.
///
/// # Panics
///
/// If the host refuses descriptors or a thread, or the device has a defect.
#[expect(clippy::expect_used, reason = "test support")]
pub fn console_ops(data: &[u8]) {
    let (features, rest) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let mut run =
        Run::new(u64::from(features & 1) << 29 | u64::from(features & 2)).expect("a console to fuzz");
    for op in rest.chunks(8) {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(op) {
            *to = *from;
        }
        run.step(bytes);
    }
}

#[expect(clippy::expect_used, reason = "test support")]
impl Run {
    fn new(features: u64) -> std::io::Result<Self> {
        let events = EventLoop::spawn("fuzz")?;
        let (host, ours) = UnixStream::pair()?;
        host.set_nonblocking(true)?;
        let device = Console::new(Self::config(&ours)?, events.handle()).map_err(std::io::Error::other)?;
        let ram = guest_ram(RAM);
        let count = device.queue_sizes().len() as u64;
        let rings = (0..count).map(|i| DriverRing::new(&ram, i * AREA, AREA, QUEUE_SIZE)).collect();
        let mut run = Run { device, events, rings, ram, host, features };
        run.activate();
        Ok(run)
    }

    fn config(ours: &UnixStream) -> std::io::Result<ConsoleConfig> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let socket = || ours.try_clone().map(OwnedFd::from);
        let log = PortOutput::Lines(Box::new(Nowhere));
        let ports = vec![
            PortConfig::console().output(log),
            PortConfig::data("both").input(PortInput::Fd(socket()?)).output(PortOutput::Fd(socket()?)),
            PortConfig::data("null")
                .input(PortInput::Fd(null.try_clone()?.into()))
                .output(PortOutput::Fd(null.into())),
            PortConfig::data("gone").when_broken(WhenBroken::Remove),
        ];
        Ok(ConsoleConfig { ports, resize_order: ResizeOrder::RowsFirst })
    }

    fn context(&self) -> ActivateContext {
        let event_idx = self.features & 1 << 29 != 0;
        ActivateContext {
            memory: self.ram.clone(),
            queues: (0u16..).zip(&self.rings).map(|(i, r)| r.device_queue(i, event_idx)).collect(),
            interrupt: Arc::new(RecordingInterrupt::new()),
            shm: None,
        }
    }

    fn activate(&mut self) {
        self.device.ack_features(self.features & (F_MULTIPORT | 1 << 29));
        self.device.place(self.context()).expect("a fresh device is activated");
    }

    fn step(&mut self, op: [u8; 8]) {
        let [kind, a, b, c, payload @ ..] = op;
        let at = u16::from_le_bytes([a, b]);
        match kind % 8 {
            0..=2 => {
                // Any guest memory: rings, descriptors, buffers. The highest addresses do not exist.
                let _ = self.ram.write_slice(&payload, GuestAddress(u64::from(at)));
            }
            3 => self.serve(),
            4 => self.publish(usize::from(a), u16::from(b), payload),
            5 => self.device.handle().resize(a.into(), WindowSize { cols: b.into(), rows: c.into() }),
            6 => self.host_writes(usize::from(at)),
            _ => self.life(a),
        }
    }

    fn serve(&mut self) {
        if let Some(worker) = self.device.parked() {
            worker.serve_all();
        }
        // The host reads on, so that output does not just stall.
        let mut sink = [0; 4096];
        while matches!(std::io::Read::read(&mut &self.host, &mut sink), Ok(n) if n > 0) {}
    }

    /// A plausible descriptor and a head, to get past the ring's front door.
    fn publish(&mut self, queue: usize, head: u16, [lo, hi, len, flags]: [u8; 4]) {
        let count = self.rings.len();
        let Some(ring) = self.rings.get_mut(queue % count) else { return };
        let head = head % QUEUE_SIZE;
        let addr = u64::from(u16::from_le_bytes([lo, hi]));
        ring.write_descriptor(head, addr, len.into(), u16::from(flags & 3), u16::from(flags >> 2));
        ring.publish(head);
        self.serve();
    }

    fn host_writes(&mut self, len: usize) {
        let bytes = vec![7; len.min(WAITING)];
        let _ = std::io::Write::write(&mut &self.host, &bytes);
    }

    fn life(&mut self, what: u8) {
        match what % 4 {
            0 => {
                let done = self.device.reset();
                assert_eq!(done, ResetProgress::Done, "a parked device resets at once");
                self.activate();
            }
            1 => self.move_to_new_device(),
            2 => {
                let _ = self.device.flush(std::time::Instant::now());
            }
            _ => {
                let mut config = [0; 16];
                self.device.read_config(what.into(), &mut config);
                self.device.write_config(what.into(), &config);
            }
        }
    }

    fn move_to_new_device(&mut self) {
        let Ok(section) = self.device.save() else { return };
        let Ok((host, ours)) = UnixStream::pair() else { return };
        let _ = host.set_nonblocking(true);
        let config = Self::config(&ours).expect("descriptors");
        let mut device = Console::new(config, self.events.handle()).expect("the same console again");
        device.ack_features(self.features & (F_MULTIPORT | 1 << 29));
        // Refused if the driver wrote a used index of its own; the old device then goes on.
        if device.restore(&section, Some(self.context())).is_ok() {
            self.device = device;
            self.host = host;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_drivers(data in prop::collection::vec(any::<u8>(), 0..4000)) {
            super::console_ops(&data);
        }
    }

    #[test]
    fn the_empty_driver() {
        super::console_ops(&[]);
    }
}
