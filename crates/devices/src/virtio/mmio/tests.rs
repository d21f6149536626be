use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use proptest::prelude::*;
use purlin_snapshot::{Section, SectionId};
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::memory::Register;

use super::*;
use crate::testing::{DriverRing, guest_ram};
use crate::virtio::{
    ActivateContext, ActivateError, Busy, DeviceType, Interrupt, ResetProgress, RestoreError, SaveError,
    Signal, VirtioDevice,
};

#[derive(Default)]
struct Line(AtomicUsize);

impl IrqLine for Line {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub struct Log {
    acked: Vec<u64>,
    activations: usize,
    resets: usize,
    config_writes: Vec<(u64, Vec<u8>)>,
    pub pending: bool,
}

pub struct Probe {
    log: Arc<Mutex<Log>>,
    pub context: Option<ActivateContext>,
}

impl VirtioDevice for Probe {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 8]
    }
    fn features(&self) -> u64 {
        1 << 29 | 1 << 35
    }
    fn ack_features(&mut self, features: u64) {
        self.log.lock().unwrap().acked.push(features);
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            if let at @ 0..4 = offset + i as u64 {
                *byte = 0xa0 + at as u8;
            }
        }
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.log.lock().unwrap().config_writes.push((offset, data.to_vec()));
    }
    fn config_generation(&self) -> u32 {
        77
    }
    fn config_is_constant(&self) -> bool {
        true
    }
    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        self.log.lock().unwrap().activations += 1;
        self.context = Some(context);
        Ok(())
    }
    fn quiesce(&mut self, _deadline: Instant) -> Result<(), Busy> {
        Ok(())
    }
    fn save(&self) -> Result<Section, SaveError> {
        Ok(Section::new(SectionId { kind: 0x304, version: 1, instance: 0 }, vec![]))
    }
    fn restore(&mut self, _section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError> {
        self.context = context;
        Ok(())
    }
    fn resume(&mut self) {}
    fn reset(&mut self) -> ResetProgress {
        let mut log = self.log.lock().unwrap();
        log.resets += 1;
        self.context = None;
        if log.pending { ResetProgress::Pending } else { ResetProgress::Done }
    }
}

pub struct Setup {
    pub dev: MmioTransport<Probe>,
    pub log: Arc<Mutex<Log>>,
    line: Arc<Line>,
    ring: DriverRing,
}

impl Setup {
    pub fn new() -> Self {
        let line = Arc::<Line>::default();
        Setup { line: line.clone(), ..Setup::on(line) }
    }

    fn on(irq: Arc<dyn IrqLine>) -> Self {
        let ram = guest_ram(1 << 20);
        let log = Arc::<Mutex<Log>>::default();
        let device = Probe { log: log.clone(), context: None };
        let ring = DriverRing::new(&ram, 0x1000, 0x8000, 16);
        let config = TransportConfig { memory: ram, irq, shm: None };
        Setup { dev: MmioTransport::new(device, config).unwrap(), log, line: Arc::default(), ring }
    }

    pub fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0xee; 4];
        self.dev.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn set(&mut self, offset: u64, value: u32) {
        self.dev.write(offset, &value.to_le_bytes());
    }

    /// Up to and including FEATURES_OK.
    fn negotiate(&mut self, features: u64) {
        self.set(0x70, 1);
        self.set(0x70, 3);
        for page in [0, 1] {
            self.set(0x24, page);
            self.set(0x20, (features >> (32 * page)) as u32);
        }
        self.set(0x70, 0xb);
    }

    fn set_queue(&mut self, index: u32) {
        let (desc, avail, used) = self.ring.addresses();
        self.set(0x30, index);
        self.set(0x38, 16);
        for (at, value) in [(0x80, desc), (0x90, avail), (0xa0, used)] {
            self.set(at, value as u32);
            self.set(at + 4, (value >> 32) as u32);
        }
        self.set(0x44, 1);
    }

    pub fn activate(&mut self) {
        self.negotiate(1 << 29 | 1 << 32);
        self.set_queue(0);
        self.set(0x70, 0xf);
    }
}

#[test]
fn identity_and_config() {
    let mut s = Setup::new();
    let table =
        [(0x00, 0x7472_6976), (0x04, 2), (0x08, 4), (0x0c, 0), (0x34, 16), (0xfc, 77), (0x100, 0xa3a2_a1a0)];
    for (offset, want) in table {
        assert_eq!(s.get(offset), want, "register {offset:#x}");
    }
    s.set(0x14, 0);
    assert_eq!(s.get(0x10), 1 << 29);
    s.set(0x14, 1);
    assert_eq!(s.get(0x10), 1 | 1 << 3);
    s.set(0x14, 2);
    assert_eq!(s.get(0x10), 0);
    s.set(0x30, 1);
    assert_eq!(s.get(0x34), 8);
    s.set(0x30, 2);
    assert_eq!(s.get(0x34), 0);
    // No shared memory: all ones (virtio 1.2 §4.2.2).
    assert_eq!((s.get(0xb0), s.get(0xb4)), (u32::MAX, u32::MAX));
    s.dev.write(0x102, &[9]);
    assert_eq!(s.log.lock().unwrap().config_writes, [(2, vec![9])]);
}

thread_local! {
    static LOGGED: Cell<u32> = const { Cell::new(0) };
}

/// Counts what the calling thread logs.
struct Counting;

impl log::Log for Counting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, _: &log::Record<'_>) {
        LOGGED.set(LOGGED.get() + 1);
    }
    fn flush(&self) {}
}

/// A driver that gives queues of no memory, again and again, does not fill the log.
#[test]
fn what_cannot_be_activated_is_told_once() {
    log::set_logger(&Counting).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let mut s = Setup::new();
    for _ in 0..100 {
        s.negotiate(1 << 29 | 1 << 32);
        s.set_queue(0);
        for (register, value) in [(0x44, 0), (0x80, 0xffff_f000), (0x44, 1), (0x70, 0xf)] {
            s.set(register, value);
        }
        assert_ne!(s.get(0x70) & 0x40, 0, "needs reset");
        s.set(0x70, 0);
    }
    assert_eq!((LOGGED.get(), s.log.lock().unwrap().activations), (1, 0));
}

#[test]
fn any_width_is_answered() {
    let mut s = Setup::new();
    for len in [1, 2, 3, 8] {
        let mut data = [0xee; 8];
        s.dev.read(0, &mut data[..len]);
        assert_eq!(data[..len], [0; 8][..len]);
    }
    let mut two = [0xee; 2];
    s.dev.read(0x103, &mut two);
    assert_eq!(two, [0xa3, 0]);
}

#[test]
fn the_whole_handshake_activates_with_the_negotiated_features() {
    let mut s = Setup::new();
    s.activate();
    assert_eq!(s.get(0x70), 0xf);
    let log = s.log.lock().unwrap();
    assert_eq!((log.acked.as_slice(), log.activations), (&[1 << 29 | 1 << 32][..], 1));
    let context = s.dev.device().context.as_ref().unwrap();
    use virtio_queue::QueueT;
    assert!(context.queues[0].queue.ready() && context.queues[0].queue.event_idx_enabled());
    assert!(!context.queues[1].queue.ready());
}

#[test]
fn status_bits_out_of_order_are_ignored() {
    let table: &[(&[u32], u32)] = &[
        (&[2], 0),
        (&[4], 0),
        (&[1, 8], 1),
        (&[1, 3, 0xf], 3),
        (&[1, 3, 7], 3),
        (&[1, 3, 1], 3),
        (&[1, 0x80, 3], 0x81),
        (&[1, 3, 3], 3),
    ];
    for (writes, want) in table {
        let mut s = Setup::new();
        for &w in *writes {
            s.set(0x70, w);
        }
        assert_eq!(s.get(0x70), *want, "{writes:x?}");
        assert_eq!(s.log.lock().unwrap().activations, 0);
    }
}

#[test]
fn features_not_offered_or_without_version_1_are_refused() {
    for features in [1 << 29, 1 << 32 | 1 << 5, 1 << 32 | 1 << 40] {
        let mut s = Setup::new();
        s.negotiate(features);
        assert_eq!(s.get(0x70), 3, "{features:#x}");
        assert!(s.log.lock().unwrap().acked.is_empty());
    }
}

#[test]
fn a_queue_the_device_cannot_use_sets_needs_reset() {
    let spoil: [fn(&mut Setup); 5] = [
        |s| s.set(0x38, 0),
        |s| s.set(0x38, 15),
        |s| s.set(0x38, 32),
        |s| s.set(0x80, 0x1008),
        |s| s.set(0xa4, 1),
    ];
    for (i, spoil) in spoil.into_iter().enumerate() {
        let mut s = Setup::new();
        s.negotiate(1 << 32);
        s.set_queue(0);
        s.set(0x44, 0);
        spoil(&mut s);
        s.set(0x44, 1);
        s.set(0x70, 0xf);
        assert_eq!(s.get(0x70), 0x4f, "case {i}");
        assert_eq!(s.log.lock().unwrap().activations, 0);
        assert_eq!(s.line.0.load(Ordering::Relaxed), 1);
        s.set(0x70, 0);
        assert_eq!(s.get(0x70), 0);
    }
}

#[test]
fn rings_are_frozen_while_ready_and_after_driver_ok() {
    let mut s = Setup::new();
    s.negotiate(1 << 32);
    s.set_queue(0);
    s.set(0x38, 4);
    s.set(0x70, 0xf);
    s.set(0x44, 0);
    assert_eq!(s.get(0x44), 1);
    use virtio_queue::QueueT;
    assert_eq!(s.dev.device().context.as_ref().unwrap().queues[0].queue.size(), 16);
}

#[test]
fn interrupt_status_is_set_first_and_stays_until_acknowledged() {
    let mut s = Setup::new();
    s.activate();
    let interrupt = s.dev.device().context.as_ref().unwrap().interrupt.clone();
    interrupt.trigger(Signal::Queue(0));
    interrupt.trigger(Signal::Config);
    assert_eq!((s.get(0x60), s.line.0.load(Ordering::Relaxed)), (3, 2));
    s.set(0x64, 1);
    assert_eq!(s.get(0x60), 2);
    s.set(0x64, 2);
    assert_eq!(s.get(0x60), 0);
}

#[test]
fn notifications_reach_the_queue_only_while_active() {
    let mut s = Setup::new();
    s.set(0x50, 0);
    assert!(s.dev.queue_events()[0].read().is_err());
    s.activate();
    s.set(0x50, 1);
    s.set(0x50, 2);
    s.set(0x50, u32::MAX);
    assert!(s.dev.queue_events()[0].read().is_err());
    assert_eq!(s.dev.queue_events()[1].read().unwrap(), 1);
}

#[test]
fn a_pending_reset_shows_the_old_status_and_blocks_writes() {
    let mut s = Setup::new();
    s.activate();
    s.log.lock().unwrap().pending = true;
    s.set(0x70, 0);
    assert_eq!(s.get(0x70), 0xf);
    s.set(0x70, 1);
    s.set(0x50, 0);
    assert_eq!(s.get(0x70), 0xf);
    s.log.lock().unwrap().pending = false;
    assert_eq!(s.get(0x70), 0);
    assert_eq!(s.get(0x60), 0);
    s.activate();
    assert_eq!(s.log.lock().unwrap().activations, 2);
}

#[test]
fn state_moves_to_a_new_transport() {
    let mut s = Setup::new();
    s.activate();
    s.dev.device().context.as_ref().unwrap().interrupt.trigger(Signal::Config);
    let saved = s.dev.save(3).unwrap();
    assert_eq!(saved[1].id.instance, 3);

    let mut t = Setup::new();
    t.dev.restore(&saved).unwrap();
    assert_eq!((t.get(0x70), t.get(0x60)), (0xf, 2));
    assert_eq!(t.log.lock().unwrap().activations, 0);
    assert_eq!(t.dev.save(3).unwrap(), saved);
    assert!(matches!(t.dev.restore(&saved), Err(RestoreError::NotFresh)));
}

#[test]
fn damaged_state_is_refused_and_changes_nothing() {
    let mut s = Setup::new();
    s.activate();
    let saved = s.dev.save(0).unwrap();
    let mut t = Setup::new();
    for cut in 0..saved[0].payload.len() {
        let mut bad = saved.clone();
        bad[0].payload.truncate(cut);
        assert!(t.dev.restore(&bad).is_err(), "cut at {cut}");
        assert_eq!(t.get(0x70), 0);
    }
    let mut bad = saved.clone();
    bad[0].payload[0] = 5;
    let refused = t.dev.restore(&bad);
    assert!(matches!(refused, Err(RestoreError::Mismatch { field: "device id", .. })), "{refused:?}");
}

proptest! {
    /// No sequence of accesses panics, and a device is active exactly while DRIVER_OK reads as set.
    #[test]
    fn any_access_sequence(ops in proptest::collection::vec(
        (prop_oneof![0u64..0x120, Just(0x70), Just(0x44)], prop_oneof![0u32..16, any::<u32>()], any::<bool>()), 0..80)
    ) {
        let mut s = Setup::new();
        for (offset, value, write) in ops {
            if write { s.set(offset, value); } else { s.get(offset); }
            let status = s.get(0x70);
            let active = s.dev.device().context.is_some();
            prop_assert_eq!(active, status & 4 != 0 && status & 0x40 == 0);
        }
    }
}

/// A hypervisor that keeps acknowledgements, as [`IrqLine::settle`] allows.
#[derive(Default)]
struct PostingLine {
    word: OnceLock<Register>,
    posted: Mutex<Vec<u32>>,
}

impl PostingLine {
    fn post(&self, bits: u32) {
        self.posted.lock().unwrap().push(bits);
    }
}

impl IrqLine for PostingLine {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }

    fn settle(&self) {
        for bits in self.posted.lock().unwrap().drain(..) {
            self.word.get().unwrap().fetch_and(!bits, Ordering::AcqRel);
        }
    }
}

fn posting() -> (Setup, Arc<PostingLine>, Arc<dyn Interrupt>) {
    let line = Arc::<PostingLine>::default();
    let mut s = Setup::on(line.clone());
    line.word.set(s.dev.interrupt_status().clone()).unwrap();
    s.activate();
    let interrupt = s.dev.device().context.as_ref().unwrap().interrupt.clone();
    (s, line, interrupt)
}

#[test]
fn a_posted_acknowledgement_precedes_what_comes_after_it() {
    let (mut s, line, interrupt) = posting();
    interrupt.trigger(Signal::Queue(0));
    line.post(1);
    assert_eq!(s.get(0x60), 0, "a read");
    interrupt.trigger(Signal::Queue(0));
    line.post(1);
    interrupt.trigger(Signal::Queue(0));
    assert_eq!(s.get(0x60), 1, "a bit set");
    line.post(1);
    interrupt.needs_reset();
    assert_eq!(s.get(0x60), 2, "a device that is broken");
}

#[test]
fn a_posted_acknowledgement_does_not_outlive_a_reset() {
    let (mut s, line, _) = posting();
    line.post(3);
    s.set(0x70, 0);
    assert!(line.posted.lock().unwrap().is_empty());
    s.activate();
    let interrupt = s.dev.device().context.as_ref().unwrap().interrupt.clone();
    interrupt.trigger(Signal::Queue(0));
    assert_eq!(s.get(0x60), 1);
}

#[test]
fn a_posted_acknowledgement_is_part_of_what_is_saved() {
    let (s, line, interrupt) = posting();
    interrupt.trigger(Signal::Queue(0));
    interrupt.trigger(Signal::Config);
    line.post(1);
    let saved = s.dev.save(0).unwrap();
    let mut restored = Setup::new();
    restored.dev.restore(&saved).unwrap();
    assert_eq!(restored.get(0x60), 2);
    let other = Arc::<PostingLine>::default();
    let mut restored = Setup::on(other.clone());
    other.word.set(restored.dev.interrupt_status().clone()).unwrap();
    other.post(2);
    restored.dev.restore(&saved).unwrap();
    assert_eq!(restored.get(0x60), 2, "one from before is not one of the restored guest");
}
