use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::shell::EventLoop;
use crate::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::ActivateContext;

const LIMIT: Duration = Duration::from_secs(10);

struct Bench {
    events: EventLoop,
    rng: Rng,
    ring: DriverRing,
    interrupt: Arc<RecordingInterrupt>,
    ram: purlin_vmm_core::memory::SharedRam,
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

/// As a driver does: asks until it is done.
fn reset(rng: &mut Rng) {
    let deadline = soon();
    while rng.reset() == ResetProgress::Pending {
        assert!(Instant::now() < deadline, "the device does not reset");
    }
}

impl Bench {
    fn new() -> Self {
        let ram = guest_ram(1 << 20);
        let events = EventLoop::spawn("test").unwrap();
        let rng = Rng::new(events.handle()).unwrap();
        let ring = DriverRing::new(&ram, 0x1000, 0x8_0000, 16);
        Bench { events, rng, ring, interrupt: Arc::default(), ram }
    }

    fn context(&self) -> ActivateContext {
        ActivateContext {
            memory: self.ram.clone(),
            queues: vec![self.ring.device_queue(0, false)],
            interrupt: self.interrupt.clone(),
            shm: None,
        }
    }

    fn activate(mut self) -> Self {
        self.rng.activate(self.context()).unwrap();
        self
    }
}

#[test]
fn buffers_are_filled_with_changing_bytes() {
    let mut b = Bench::new().activate();
    b.ring.submit(&[Buf::Write(64)]);
    b.ring.submit(&[Buf::Write(10), Buf::Write(5000)]);
    b.ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    b.rng.quiesce(soon()).unwrap();
    let used = b.ring.used();
    assert_eq!(used.iter().map(|u| u.len).collect::<Vec<_>>(), [64, 4096]);
    assert!(used[0].data.iter().any(|&x| x != 0));
    assert_ne!(used[0].data[..10], used[1].data[..10]);
    assert!(used[1].data[4096..].iter().all(|&x| x == 0));
}

#[test]
fn a_quiesced_device_touches_nothing_and_resume_catches_up() {
    let mut b = Bench::new().activate();
    b.rng.quiesce(soon()).unwrap();
    b.ring.submit(&[Buf::Write(64)]);
    b.ring.kick();
    std::thread::sleep(Duration::from_millis(30));
    assert!(b.ring.used().is_empty());
    b.interrupt.take();
    b.rng.resume();
    b.rng.quiesce(soon()).unwrap();
    assert_eq!(b.ring.used().len(), 1);
}

#[test]
fn state_moves_to_a_new_device() {
    let mut b = Bench::new().activate();
    for _ in 0..3 {
        b.ring.submit(&[Buf::Write(8)]);
    }
    b.ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    assert!(matches!(b.rng.save(), Err(SaveError::NotQuiesced(DeviceType::Rng))));
    b.rng.quiesce(soon()).unwrap();
    assert_eq!(b.ring.used().len(), 3);
    let section = b.rng.save().unwrap();

    let mut other = Rng::new(b.events.handle()).unwrap();
    other.restore(&section, Some(b.context())).unwrap();
    assert_eq!(other.save().unwrap(), section);
    b.ring.submit(&[Buf::Write(8)]);
    other.resume();
    other.quiesce(soon()).unwrap();
    assert_eq!(b.ring.used().len(), 1);
}

#[test]
fn ram_from_another_moment_is_refused() {
    let mut b = Bench::new().activate();
    b.rng.quiesce(soon()).unwrap();
    let section = b.rng.save().unwrap();
    b.rng.resume();
    b.interrupt.take();
    b.ring.submit(&[Buf::Write(8)]);
    b.ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    b.rng.quiesce(soon()).unwrap();
    let mut other = Rng::new(b.events.handle()).unwrap();
    let refused = other.restore(&section, Some(b.context()));
    assert!(matches!(refused, Err(RestoreError::Queue { index: 0, .. })), "{refused:?}");
}

#[test]
fn a_buffer_outside_ram_asks_for_a_reset_and_reset_heals() {
    let mut b = Bench::new().activate();
    b.ring.write_descriptor(0, 0xffff_0000, 64, 2, 0);
    b.ring.publish(0);
    b.ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    assert!(b.interrupt.reset_needed());
    reset(&mut b.rng);
    b.ring = DriverRing::new(&b.ram, 0x1000, 0x8_0000, 16);
    b.interrupt = Arc::default();
    let mut b = b.activate();
    b.ring.submit(&[Buf::Write(8)]);
    b.ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    assert!(!b.interrupt.reset_needed());
}

#[test]
fn an_available_index_that_runs_away_asks_for_a_reset() {
    let mut b = Bench::new().activate();
    b.ring.set_avail_idx(1000);
    b.ring.kick();
    assert!(b.interrupt.wait(LIMIT));
    assert!(b.interrupt.reset_needed());
}

#[test]
fn activation_twice_is_an_error_and_reset_of_an_idle_device_is_done() {
    let mut b = Bench::new();
    assert_eq!(b.rng.reset(), ResetProgress::Done);
    b.rng.activate(b.context()).unwrap();
    assert!(matches!(b.rng.activate(b.context()), Err(ActivateError::AlreadyActive)));
}
