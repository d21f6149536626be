use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use purlin_vmm_core::memory::{Bytes, GuestAddress, MemoryReclaim, ReclaimError, SharedRam};

use super::*;
use crate::shell::EventLoop;
use crate::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::{
    ActivateContext, ActivateError, DeviceType, ResetProgress, RestoreError, SaveError, Signal, VirtioDevice,
};

const LIMIT: Duration = Duration::from_secs(10);
const RAM: usize = 16 << 20;
const ALL: u64 = feature::STATS_VQ | feature::FREE_PAGE_HINT | feature::REPORTING;
const MIB: u64 = 1 << 20;

/// RAM that notes what is reclaimed.
struct Noted(SharedRam, Mutex<Vec<(u64, u64)>>);

impl MemoryReclaim for Noted {
    fn reclaim(&self, start: GuestAddress, len: u64) -> Result<u64, ReclaimError> {
        let given = self.0.reclaim(start, len)?;
        self.1.lock().unwrap().push((start.0, len));
        Ok(given)
    }
}

struct Bench {
    events: EventLoop,
    device: Balloon,
    rings: Vec<DriverRing>,
    interrupt: Arc<RecordingInterrupt>,
    ram: SharedRam,
    noted: Arc<Noted>,
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

impl Bench {
    fn new() -> Self {
        let ram = guest_ram(RAM);
        let noted = Arc::new(Noted(ram.clone(), Mutex::default()));
        let events = EventLoop::spawn("test").unwrap();
        let device = Balloon::new(BalloonConfig::new(noted.clone()), events.handle()).unwrap();
        let rings = (0..5).map(|i| DriverRing::new(&ram, i * 0x1_0000, 0x1_0000, 64)).collect();
        Bench { events, device, rings, interrupt: Arc::default(), ram, noted }
    }

    fn context(&self) -> ActivateContext {
        ActivateContext {
            memory: self.ram.clone(),
            queues: (0u16..).zip(&self.rings).map(|(i, ring)| ring.device_queue(i, false)).collect(),
            interrupt: self.interrupt.clone(),
            shm: None,
        }
    }

    fn active(features: u64) -> Self {
        let mut b = Bench::new();
        b.device.ack_features(features);
        b.device.activate(b.context()).unwrap();
        b
    }

    /// Offers one buffer and waits until the device has it back.
    fn send(&mut self, queue: usize, bufs: &[Buf<'_>]) -> u32 {
        self.rings[queue].submit(bufs);
        self.rings[queue].kick();
        self.returned(queue)
    }

    fn returned(&mut self, queue: usize) -> u32 {
        let end = soon();
        loop {
            if let [used] = &self.rings[queue].used()[..] {
                return used.len;
            }
            assert!(Instant::now() < end, "queue {queue} returns nothing");
            self.interrupt.wait(Duration::from_millis(5));
            self.interrupt.take();
        }
    }

    fn reclaimed(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.noted.1.lock().unwrap())
    }

    fn quiesce(&mut self) {
        self.device.quiesce(soon()).unwrap();
    }

    fn config(&self) -> [u32; 4] {
        let mut space = [0; 16];
        self.device.read_config(0, &mut space);
        [0, 4, 8, 12].map(|at| u32::from_le_bytes(space[at..at + 4].try_into().unwrap()))
    }
}

fn array(pages: &[u32]) -> Vec<u8> {
    pages.iter().flat_map(|page| page.to_le_bytes()).collect()
}

fn stat(tag: u16, value: u64) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()
}

#[test]
fn queues_are_numbered_as_linux_does_and_as_the_standard_does() {
    use Role::*;
    let table = [
        (ALL, [Inflate, Deflate, Stats, Hint, Reporting]),
        (feature::REPORTING, [Inflate, Deflate, Reporting, Unused, Reporting]),
        (feature::REPORTING | feature::STATS_VQ, [Inflate, Deflate, Stats, Reporting, Reporting]),
        (feature::REPORTING | feature::FREE_PAGE_HINT, [Inflate, Deflate, Hint, Reporting, Reporting]),
        (feature::STATS_VQ, [Inflate, Deflate, Stats, Unused, Unused]),
        (0, [Inflate, Deflate, Unused, Unused, Unused]),
    ];
    for (features, want) in table {
        assert_eq!([0, 1, 2, 3, 4].map(|index| role(features, index)), want, "{features:#x}");
    }
}

#[test]
fn inflated_pages_go_back_in_runs_and_read_as_zeros() {
    let mut b = Bench::active(ALL);
    b.ram.write_slice(&vec![7; 8 << 20], GuestAddress(8 * MIB)).unwrap();
    let first = 8 * MIB as u32 / 4096;
    let pages = array(&[first + 3, first + 1, first + 2, first + 9]);
    assert_eq!(b.send(0, &[Buf::Read(&pages)]), 0);
    assert_eq!(b.reclaimed(), [(8 * MIB + 0x1000, 0x3000), (8 * MIB + 0x9000, 0x1000)]);
    let bytes: [u8; 5] =
        [0, 0x1000, 0x3fff, 0x4000, 0x9000].map(|at| b.ram.read_obj(GuestAddress(8 * MIB + at)).unwrap());
    assert_eq!(bytes, [7u8, 0, 0, 7, 0]);
    assert_eq!(b.device.handle().counters().inflated, 0x4000);
    assert_eq!(b.send(1, &[Buf::Read(&pages)]), 0, "deflating changes nothing here");
    assert!(b.reclaimed().is_empty());
}

#[test]
fn reported_blocks_go_back() {
    let mut b = Bench::active(ALL);
    b.ram.write_slice(&vec![7; 8 << 20], GuestAddress(8 * MIB)).unwrap();
    // As Linux does it: the blocks themselves are the buffers.
    let ram = b.ram.clone();
    let ring = &mut b.rings[4];
    ring.write_descriptor(0, 8 * MIB, 2 << 20, 1 | 2, 1);
    ring.write_descriptor(1, 12 * MIB, 4 << 20, 2, 0);
    ring.publish(0);
    ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    assert_eq!(b.reclaimed(), [(8 * MIB, 2 * MIB), (12 * MIB, 4 * MIB)]);
    assert_eq!(b.device.handle().counters().reported, 6 * MIB);
    let bytes: [u8; 3] = [8, 10, 12].map(|at| ram.read_obj(GuestAddress(at * MIB)).unwrap());
    assert_eq!(bytes, [0u8, 7, 0]);
}

#[test]
fn nothing_outside_of_ram_is_touched() {
    let mut b = Bench::active(ALL);
    let pages = array(&[RAM as u32 / 4096 - 1, RAM as u32 / 4096, u32::MAX, 0x000d_0000]);
    assert_eq!(b.send(0, &[Buf::Read(&pages[..15])]), 0);
    let last = RAM as u64 - 0x1000;
    assert_eq!(b.reclaimed(), [], "a run across the end of RAM is refused whole");
    assert_eq!(b.send(0, &[Buf::Read(&pages[..7]), Buf::Write(8)]), 0);
    assert_eq!(b.reclaimed(), [(last, 0x1000)], "half a number is none");
    for (addr, len) in [(RAM as u64, 4096), (last, 8192), (u64::MAX - 4095, 4096), (1 << 40, u32::MAX)] {
        b.rings[4].write_descriptor(0, addr, len, 2, 0);
        b.rings[4].publish(0);
        b.rings[4].kick();
        assert!(b.interrupt.wait(LIMIT));
        b.interrupt.take();
    }
    assert!(b.reclaimed().is_empty());
    assert!(b.device.handle().counters().refused >= 4);
    // An array that is not in RAM.
    b.rings[0].write_descriptor(0, 1 << 40, 64, 0, 0);
    b.rings[0].publish(0);
    b.rings[0].kick();
    assert!(b.interrupt.wait(LIMIT));
    assert!(!b.interrupt.reset_needed());
    assert!(b.reclaimed().is_empty());
}

#[test]
fn the_target_is_in_the_configuration_and_interrupts_once() {
    let mut b = Bench::active(ALL);
    let handle = b.device.handle();
    assert_eq!(b.config(), [0; 4]);
    let generation = b.device.config_generation();
    handle.set_target(3 * MIB + 5);
    assert!(b.interrupt.wait(LIMIT));
    assert_eq!(b.interrupt.take(), [Signal::Config]);
    assert_eq!((handle.target(), b.config()[0]), (3 * MIB, 768));
    assert_ne!(b.device.config_generation(), generation);
    handle.set_target(3 * MIB);
    b.quiesce();
    assert!(b.interrupt.take().is_empty(), "nothing changed");
    // While at rest: told at its end.
    handle.set_target(0);
    std::thread::sleep(Duration::from_millis(20));
    assert!(b.interrupt.take().is_empty());
    b.device.resume();
    b.quiesce();
    assert!(b.interrupt.take().contains(&Signal::Config));
    // `actual` is the driver's, nothing else is.
    b.device.write_config(4, &512u32.to_le_bytes());
    for (offset, data) in [(0, &[1u8; 4][..]), (8, &[1; 4]), (4, &[1; 2]), (5, &[1; 4]), (u64::MAX, &[1; 4])]
    {
        b.device.write_config(offset, data);
    }
    assert_eq!((handle.actual(), b.config()), (2 * MIB, [0, 512, 0, 0]));
    handle.set_target(u64::MAX);
    assert_eq!(b.config()[0], u32::MAX);
}

#[test]
fn statistics_are_asked_for_and_told() {
    let mut b = Bench::active(ALL);
    let handle = b.device.handle();
    assert_eq!(handle.ask_stats(Duration::ZERO), None);
    // The driver offers a buffer at its start, which answers whoever asked before.
    b.rings[2].submit(&[Buf::Read(&[stat(4, 100), stat(5, 200)].concat())]);
    b.rings[2].kick();
    let end = soon();
    while handle.stats().is_none() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(handle.stats().unwrap().free, Some(100));
    assert!(b.rings[2].used().is_empty(), "kept until somebody asks");
    let asker = std::thread::spawn({
        let handle = handle.clone();
        move || handle.ask_stats(LIMIT)
    });
    assert_eq!(b.returned(2), 0);
    b.rings[2].submit(&[Buf::Read(&stat(4, 50))]);
    b.rings[2].kick();
    let told = asker.join().unwrap().unwrap();
    assert_eq!((told.free, told.total), (Some(50), None));
    // A driver that offers a second one has the first one back.
    assert_eq!(b.send(2, &[Buf::Read(&stat(4, 49))]), 0);
}

#[test]
fn hints_and_queues_without_a_role_are_returned() {
    let mut b = Bench::active(ALL);
    assert_eq!(b.send(3, &[Buf::Read(&[1, 0, 0, 0])]), 0);
    assert_eq!(b.send(3, &[Buf::Write(4096)]), 0);
    let mut b = Bench::active(0);
    assert_eq!(b.send(4, &[Buf::Write(4096)]), 0);
    assert!(b.reclaimed().is_empty());
}

#[test]
fn state_moves_to_a_new_device() {
    let mut b = Bench::active(ALL);
    b.device.handle().set_target(MIB);
    b.device.write_config(4, &7u32.to_le_bytes());
    b.rings[2].submit(&[Buf::Read(&stat(4, 1))]);
    b.rings[2].kick();
    assert_eq!(b.send(0, &[Buf::Read(&array(&[2048]))]), 0);
    while b.device.handle().stats().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(b.device.save(), Err(SaveError::NotQuiesced(DeviceType::Balloon))));
    b.quiesce();
    let section = b.device.save().unwrap();
    let mut other = Balloon::new(BalloonConfig::new(b.noted.clone()), b.events.handle()).unwrap();
    other.ack_features(ALL);
    other.restore(&section, Some(b.context())).unwrap();
    assert_eq!(other.save().unwrap(), section);
    assert!(matches!(other.restore(&section, None), Err(RestoreError::NotFresh)));
    b.device = other;
    b.device.resume();
    assert_eq!((b.device.handle().target(), b.device.handle().actual()), (MIB, 7 * 4096));
    // The statistics buffer is known to the new device.
    assert_eq!(b.device.handle().ask_stats(Duration::ZERO), None);
    assert_eq!(b.returned(2), 0);
    assert_eq!(b.send(0, &[Buf::Read(&array(&[2049]))]), 0);
}

#[test]
fn a_damaged_section_is_refused_or_harmless() {
    let mut b = Bench::active(ALL);
    b.quiesce();
    let section = b.device.save().unwrap();
    for at in 0..section.payload.len() {
        let short = purlin_snapshot::Section::new(section.id, section.payload[..at].to_vec());
        let fresh = || Balloon::new(BalloonConfig::new(b.noted.clone()), b.events.handle()).unwrap();
        assert!(fresh().restore(&short, Some(b.context())).is_err(), "cut at {at}");
        let mut bytes = section.payload.clone();
        bytes[at] ^= 0xff;
        let mut device = fresh();
        if device.restore(&purlin_snapshot::Section::new(section.id, bytes), Some(b.context())).is_ok() {
            device.resume();
            device.handle().ask_stats(Duration::ZERO);
            device.quiesce(soon()).unwrap();
        }
    }
}

#[test]
fn reset_forgets_the_driver_and_keeps_the_target() {
    let mut b = Bench::active(ALL);
    b.device.handle().set_target(MIB);
    b.device.write_config(4, &7u32.to_le_bytes());
    let end = soon();
    while b.device.reset() == ResetProgress::Pending {
        assert!(Instant::now() < end);
    }
    assert_eq!(b.config(), [256, 0, 0, 0]);
    assert_eq!(b.device.reset(), ResetProgress::Done);
    b.rings = (0..5).map(|i| DriverRing::new(&b.ram, i * 0x1_0000, 0x1_0000, 64)).collect();
    b.device.ack_features(ALL);
    b.device.activate(b.context()).unwrap();
    assert!(matches!(b.device.activate(b.context()), Err(ActivateError::AlreadyActive)));
    assert_eq!(b.send(0, &[Buf::Read(&array(&[2048]))]), 0);
}

#[test]
fn broken_rings_ask_for_a_reset() {
    for queue in 0..5 {
        let mut b = Bench::active(ALL);
        b.rings[queue].publish(5000);
        b.rings[queue].kick();
        let end = soon();
        while !b.interrupt.reset_needed() {
            assert!(Instant::now() < end, "queue {queue}");
            b.interrupt.wait(Duration::from_millis(5));
            b.interrupt.take();
        }
        b.quiesce();
        b.device.handle().set_target(MIB);
        b.device.resume();
        b.quiesce();
        assert!(b.device.save().is_ok());
    }
}
