//! A driver that fills rings with anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin_devices::shell::EventLoop;
use purlin_devices::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use purlin_devices::virtio::rng::Rng;
use purlin_devices::virtio::{ActivateContext, ResetProgress, VirtioDevice};
use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestRam};

use crate::cursor::Cursor;

const RAM: usize = 1 << 20;
const BASE: u64 = 0x1000;
const SIZE: u16 = 16;
const MAX_OPS: usize = 200;

/// Descriptors, indices and raw ring memory as the guest likes, with stops in between: the device comes to
/// rest every time, touches nothing while it rests, and after a reset serves an ordinary driver.
pub fn virtqueue_ops(data: &[u8]) {
    let mut input = Cursor(data);
    let ram = guest_ram(RAM);
    let events = EventLoop::spawn("fuzz").expect("loop");
    let mut rng = Rng::new(events.handle()).expect("rng");
    let mut ring = DriverRing::new(&ram, BASE, 0x8_0000, SIZE);
    let event_idx = input.u8() & 1 == 1;
    let context = |ring: &DriverRing| ActivateContext {
        memory: ram.clone(),
        queues: vec![ring.device_queue(0, event_idx)],
        interrupt: Arc::new(RecordingInterrupt::new()),
        shm: None,
    };
    rng.activate(context(&ring)).expect("activation");
    let soon = || Instant::now() + Duration::from_secs(10);
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 | 1 => {
                let index = u16::from(input.u8()) % SIZE;
                let addr = if input.u8() & 1 == 0 { u64::from(input.u32()) } else { input.u64() };
                ring.write_descriptor(index, addr, input.u32(), input.u16() & 7, input.u16() % 32);
            }
            2 => ring.publish(input.u16() % 32),
            3 => ring.set_avail_idx(input.u16()),
            4 => {
                let at = BASE + u64::from(input.u16()) % 0x400;
                ram.write_obj(input.u8(), GuestAddress(at)).expect("ring memory");
            }
            5 => ring.kick(),
            6 => {
                rng.quiesce(soon()).expect("the device comes to rest");
                let before = snapshot(&ram);
                rng.save().expect("a quiesced device can be saved");
                assert_eq!(snapshot(&ram), before, "a resting device wrote to its rings");
                rng.resume();
            }
            _ => {
                reset(&mut rng);
                ring = DriverRing::new(&ram, BASE, 0x8_0000, SIZE);
                rng.activate(context(&ring)).expect("activation after reset");
            }
        }
    }
    reset(&mut rng);
    let mut ring = DriverRing::new(&ram, BASE, 0x8_0000, SIZE);
    rng.activate(context(&ring)).expect("activation after reset");
    ring.submit(&[Buf::Write(32)]);
    ring.kick();
    rng.quiesce(soon()).expect("the device comes to rest");
    rng.resume();
    rng.quiesce(soon()).expect("the device comes to rest");
    assert_eq!(ring.used().len(), 1, "an ordinary request after a reset is served");
}

/// A driver asks until the device says that it is done; on a busy machine that may take more than once.
fn reset(rng: &mut Rng) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while rng.reset() == ResetProgress::Pending {
        assert!(Instant::now() < deadline, "the device does not reset");
    }
}

fn snapshot(ram: &GuestRam) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    assert!(ram.read_slice(&mut bytes, GuestAddress(BASE)).is_ok());
    bytes
}
