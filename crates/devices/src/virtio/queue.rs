//! A queue as a device owns it, and its saved form.

use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use purlin_snapshot::{Reader, Writer};
use purlin_vmm_core::memory::GuestRam;
use thiserror::Error;
use virtio_queue::{Queue, QueueState, QueueT};
use vm_memory::{GuestAddress, GuestMemory};
use vmm_sys_util::eventfd::EventFd;

use super::{ActivateContext, RestoreError};

/// A virtqueue with the descriptor the driver's notifications arrive on.
#[derive(Debug)]
pub struct DeviceQueue {
    /// Queue number.
    pub index: u16,
    /// The ring.
    pub queue: Queue,
    /// Readable after a notification. Non-blocking.
    pub event: Arc<EventFd>,
}

/// A queue the driver (or a snapshot) described is not usable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Size zero, above the maximum, or no power of two.
    #[error("size {size} is not a power of two between 1 and {max}")]
    Size {
        /// Size given.
        size: u16,
        /// Maximum of this queue.
        max: u16,
    },
    /// An address is unaligned or the ring is not entirely in guest RAM.
    #[error("rings at {desc:#x}, {avail:#x}, {used:#x} are unaligned or not in guest RAM")]
    Address {
        /// Descriptor table.
        desc: u64,
        /// Driver area.
        avail: u64,
        /// Device area.
        used: u64,
    },
    /// The used index in guest RAM is not where the device left it: RAM and device state are from
    /// different moments.
    #[error("used index in RAM is {ram}, the device wrote up to {device}")]
    Position {
        /// `used.idx` as read from guest RAM.
        ram: u16,
        /// The device's next used index.
        device: u16,
    },
}

/// What a driver wrote into a queue's registers. Plain and untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QueueSetup {
    pub size: u16,
    pub ready: bool,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
}

/// Checks a queue's registers and makes the ring from them. A queue that is not ready gives an idle ring.
pub(crate) fn build_queue(
    setup: &QueueSetup,
    max_size: u16,
    event_idx: bool,
    ram: &GuestRam,
) -> Result<Queue, QueueError> {
    let QueueSetup { size, ready, desc, avail, used } = *setup;
    let bad_size = QueueError::Size { size, max: max_size };
    if !ready {
        return Queue::new(max_size).map_err(|_| bad_size);
    }
    if size == 0 || size > max_size || !size.is_power_of_two() {
        return Err(bad_size);
    }
    let bad_address = QueueError::Address { desc, avail, used };
    let state = QueueState {
        max_size,
        size,
        ready,
        event_idx_enabled: event_idx,
        next_avail: 0,
        next_used: 0,
        desc_table: desc,
        avail_ring: avail,
        used_ring: used,
    };
    // Sizes of virtio 1.2 §2.7. Not asked of the library, which logs every ring that is not there.
    let entries = usize::from(size);
    let parts = [(desc, 16 * entries), (avail, 6 + 2 * entries), (used, 6 + 8 * entries)];
    if !parts.iter().all(|&(start, len)| ram.check_range(GuestAddress(start), len)) {
        return Err(bad_address);
    }
    // Checks the alignments of virtio 1.2 §2.7.
    Queue::try_from(state).map_err(|_| bad_address)
}

/// Appends the state of all queues of a device to its payload.
pub fn save_queues<'a>(w: &mut Writer, queues: impl ExactSizeIterator<Item = &'a Queue>) {
    w.u32(u32::try_from(queues.len()).unwrap_or(u32::MAX));
    for queue in queues {
        let s = queue.state();
        w.u16(s.size);
        w.bool(s.ready);
        w.u64(s.desc_table);
        w.u64(s.avail_ring);
        w.u64(s.used_ring);
        w.u16(s.next_avail);
        w.u16(s.next_used);
    }
}

/// Reads what [`save_queues`] wrote and sets the ring positions of `context`, whose rings the transport
/// configured. Without a context the states are read and dropped.
///
/// # Errors
///
/// [`RestoreError::Mismatch`] if the saved rings are not the transport's, [`RestoreError::Queue`] if the
/// used index in guest RAM is not the saved one.
pub fn restore_queues(
    r: &mut Reader<'_>,
    expected: usize,
    context: Option<&mut ActivateContext>,
) -> Result<(), RestoreError> {
    let count = r.count("queues", 1024)? as usize;
    if count != expected {
        return Err(mismatch("queues", count, expected));
    }
    let mut context = context;
    for i in 0..count {
        let saved = QueueSetup {
            size: r.u16("queue.size")?,
            ready: r.bool("queue.ready")?,
            desc: r.u64("queue.desc")?,
            avail: r.u64("queue.avail")?,
            used: r.u64("queue.used")?,
        };
        let next_avail = r.u16("queue.next_avail")?;
        let next_used = r.u16("queue.next_used")?;
        let Some(context) = context.as_deref_mut() else { continue };
        let found = context.queues.len();
        let target = context.queues.get_mut(i).ok_or_else(|| mismatch("queues", count, found))?;
        let state = target.queue.state();
        let configured = QueueSetup {
            size: state.size,
            ready: state.ready,
            desc: state.desc_table,
            avail: state.avail_ring,
            used: state.used_ring,
        };
        if saved != configured {
            return Err(mismatch("queue rings", format!("{saved:x?}"), format!("{configured:x?}")));
        }
        if !saved.ready {
            continue;
        }
        let ram = target.queue.used_idx(&*context.memory, Ordering::Acquire).map_or(0, |Wrapping(v)| v);
        if ram != next_used {
            let source = QueueError::Position { ram, device: next_used };
            return Err(RestoreError::Queue { index: target.index, source });
        }
        target.queue.set_next_avail(next_avail);
        target.queue.set_next_used(next_used);
    }
    Ok(())
}

fn mismatch(field: &'static str, saved: impl ToString, configured: impl ToString) -> RestoreError {
    RestoreError::Mismatch { field, saved: saved.to_string(), configured: configured.to_string() }
}
