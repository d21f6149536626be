//! A driver that writes and reads registers as it likes.

use std::io;
use std::sync::Arc;

use purlin_devices::shell::EventLoop;
use purlin_devices::testing::guest_ram;
use purlin_devices::virtio::VirtioDevice;
use purlin_devices::virtio::mmio::{MmioTransport, TransportConfig};
use purlin_devices::virtio::rng::Rng;
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::memory::SharedRam;

use crate::cursor::Cursor;

const MAX_OPS: usize = 400;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 0x40;

struct NoLine;

impl IrqLine for NoLine {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

fn transport(events: &EventLoop, ram: &SharedRam) -> MmioTransport<Rng> {
    let rng = Rng::new(events.handle()).expect("rng");
    let config = TransportConfig { memory: ram.clone(), irq: Arc::new(NoLine), shm: None };
    MmioTransport::new(rng, config).expect("transport")
}

fn status(device: &mut MmioTransport<Rng>) -> u32 {
    let mut data = [0; 4];
    device.read(0x70, &mut data);
    u32::from_le_bytes(data)
}

/// Any sequence of accesses of any width: nothing panics, the device answers, and its state, once it is at
/// rest, goes into a fresh transport and comes out the same.
pub fn mmio_regs(data: &[u8]) {
    let mut input = Cursor(data);
    let ram = guest_ram(1 << 20);
    let events = EventLoop::spawn("fuzz").expect("loop");
    let mut device = transport(&events, &ram);
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        let op = input.u8();
        let offset = match op & 3 {
            0 => u64::from(input.u8()) & !3,
            1 => u64::from(input.u16()) & 0xfff,
            2 => 0x70,
            _ => input.u64(),
        };
        let len = [4, 4, 4, 4, 1, 2, 8, 3][usize::from(op >> 2 & 7)];
        if op & 0x80 == 0 {
            let value = input.u64().to_le_bytes();
            device.write(offset, &value[..len]);
        } else {
            device.read(offset, &mut [0xee; 8][..len]);
        }
    }
    let before = status(&mut device);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    device.quiesce(deadline).expect("a device that only has an rng behind it comes to rest");
    let saved = device.save(0).expect("a quiesced device can be saved");
    let mut copy = transport(&events, &ram);
    match copy.restore(&saved) {
        Ok(()) => {
            assert_eq!(copy.save(0).expect("restored means quiesced"), saved);
            assert_eq!(status(&mut copy), before);
        }
        // Rings the driver broke after activation are refused; so is a device that wants a reset anyway.
        Err(e) => assert!(before & (DRIVER_OK | NEEDS_RESET) != 0, "{e}"),
    }
    device.resume();
    let _ = device.device_mut().reset();
}
