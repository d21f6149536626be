//! The body of a fuzz target: a driver that does anything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use purlin_vmm_core::memory::{Bytes, GuestAddress, MemoryReclaim, ReclaimError, SharedRam};

use super::handle::Shared;
use super::worker::BalloonWorker;
use super::{BalloonHandle, GuestMemoryStats};
use crate::shell::{Breakage, QueueWorker};
use crate::testing::{DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::DeviceType;

const RAM: usize = 4 << 20;
const QUEUES: usize = 5;
/// Bytes of RAM for each queue; what lies behind may be given back.
const AREA: u64 = 0x8000;
const RING: u16 = 16;

/// Checks that only RAM behind the queues' rings is asked for or refused, and gives it back.
struct Watched(SharedRam, Mutex<u64>);

impl MemoryReclaim for Watched {
    fn reclaim(&self, start: GuestAddress, len: u64) -> Result<u64, ReclaimError> {
        let given = self.0.reclaim(start, len)?;
        let inside = start.0.checked_add(len).is_some_and(|end| end <= RAM as u64) && given <= len;
        if !inside {
            fail("memory outside of RAM was given back");
        }
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) += given;
        Ok(given)
    }
}

#[expect(clippy::panic, reason = "a failure is a finding")]
fn fail(what: &str) -> ! {
    panic!("{what}")
}

/// Runs the operations in `data` against the worker. The first byte holds the features; an operation is 16
/// bytes: what to do, a queue, and numbers for it.
///
/// # Panics
///
/// If the device does something wrong.
pub fn balloon_ops(data: &[u8]) {
    let Some((&features, rest)) = data.split_first() else { return };
    let ram = guest_ram(RAM);
    let watched = Arc::new(Watched(ram.clone(), Mutex::default()));
    let mut rings: Vec<DriverRing> =
        (0..QUEUES as u64).map(|i| DriverRing::new(&ram, i * AREA, AREA, RING)).collect();
    let Ok(shared) = Shared::new(0) else { return };
    let shared = Arc::new(shared);
    let handle = BalloonHandle(Arc::clone(&shared));
    let mut worker = BalloonWorker {
        memory: ram.clone(),
        reclaim: watched.clone(),
        queues: (0u16..).zip(&rings).map(|(i, ring)| ring.device_queue(i, false)).collect(),
        interrupt: Arc::new(RecordingInterrupt::new()),
        shared,
        features: features.into(),
        told_target: 0,
        stats: None,
        breakage: Breakage::new(DeviceType::Balloon),
    };
    for op in rest.chunks_exact(16).take(256) {
        operate(op, &ram, &mut rings, &mut worker, &handle);
    }
    let counters = handle.counters();
    let given = *watched.1.lock().unwrap_or_else(PoisonError::into_inner);
    if counters.inflated + counters.reported != given {
        fail("the counters do not add up");
    }
    if worker.drain(Instant::now()).is_err() {
        fail("an idle worker does not stop");
    }
}

fn operate(
    op: &[u8],
    ram: &SharedRam,
    rings: &mut [DriverRing],
    worker: &mut BalloonWorker,
    handle: &BalloonHandle,
) {
    let number = |at: usize| op.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let byte = |at: usize| op.get(at).copied().unwrap_or(0);
    let index = usize::from(byte(1)) % QUEUES;
    let Some(ring) = rings.get_mut(index) else { return };
    match byte(0) % 8 {
        // A descriptor with numbers of the input, and one more behind it.
        0 | 1 => {
            let id = u16::from(byte(2)) % RING;
            ring.write_descriptor(id, number(4).into(), number(8), u16::from(byte(3)) & 7, number(12) as u16);
            ring.publish(u16::from(byte(2)));
            worker.run(index);
        }
        // A page array (or statistics) at the end of the queue's area.
        2 => {
            let at = index as u64 * AREA + AREA - 64;
            let _ = ram.write_slice(op, GuestAddress(at));
            ring.write_descriptor(0, at, u32::from(byte(3)), 0, 0);
            ring.publish(0);
            worker.run(index);
        }
        3 => ring.set_avail_idx(number(4) as u16),
        4 => handle.set_target(u64::from(number(4)) << 12),
        5 => {
            let _: Option<GuestMemoryStats> = handle.ask_stats(std::time::Duration::ZERO);
        }
        6 => worker.look(),
        _ => worker.run(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
        #[test]
        fn any_input(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            balloon_ops(&data);
        }
    }
}
