//! Looking at buffers of a ring without taking them.
//!
//! Bytes are moved straight between guest memory and the host's descriptor, and a buffer is taken from the
//! ring only when it is done with. So the device never holds bytes of its own: what the host did not accept
//! is still in the guest's ring, at any moment, and a stop needs nothing to be finished.

use purlin_vmm_core::memory::{GuestMemory, GuestRam, VolatileSlice};
use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};

/// Most pieces of guest memory handed to one system call.
pub(super) const MAX_SLICES: usize = 64;

/// The ring itself is not usable any more; the driver must reset the device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum RingError {
    /// The available index is ahead of the ring, or the ring cannot be read.
    #[error("available ring: {0}")]
    Avail(String),
    /// A head outside the descriptor table.
    #[error("descriptor head {head} in a ring of {size}")]
    Head { head: u16, size: u16 },
    /// The used ring cannot be written.
    #[error("used ring: {0}")]
    Used(String),
}

/// Which descriptors of a chain count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Device-readable: the guest sends.
    FromGuest,
    /// Device-writable: the guest receives.
    ToGuest,
}

/// One chain of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub head: u16,
    /// Bytes of this chain in the batch.
    pub len: usize,
    /// The chain ends with these bytes; false if it was cut for lack of room.
    pub whole: bool,
    /// The chain is malformed; what it holds is not in the batch, and it goes back empty.
    pub fault: bool,
}

/// The next chains of a ring, which is left unchanged.
#[derive(Debug, Default)]
pub(super) struct Batch<'m> {
    pub slices: Vec<VolatileSlice<'m>>,
    pub spans: Vec<Span>,
}

/// Up to `max_bytes` in the next chains of `queue`, without the first `skip` bytes.
pub(super) fn peek<'m>(
    queue: &mut Queue,
    ram: &'m GuestRam,
    direction: Direction,
    skip: usize,
    max_bytes: usize,
) -> Result<Batch<'m>, RingError> {
    let mut batch = Batch::default();
    if !queue.ready() {
        return Ok(batch);
    }
    let start = queue.next_avail();
    let size = queue.size();
    let mut gather = Gather { ram, direction, skip, room: max_bytes, batch: &mut batch };
    let outcome = queue.iter(ram).map_err(|e| RingError::Avail(e.to_string())).and_then(|chains| {
        for chain in chains {
            let head = chain.head_index();
            if head >= size {
                return Err(RingError::Head { head, size });
            }
            if !gather.add(chain, size) {
                break;
            }
        }
        Ok(())
    });
    queue.set_next_avail(start);
    outcome.map(|()| batch)
}

/// Takes the chain `peek` saw first, and gives it back with `written` bytes in it.
pub(super) fn complete(queue: &mut Queue, ram: &GuestRam, head: u16, written: u32) -> Result<(), RingError> {
    queue.set_next_avail(queue.next_avail().wrapping_add(1));
    queue.add_used(ram, head, written).map_err(|e| RingError::Used(e.to_string()))
}

/// Asks for a notification of the next buffer. True if there already is one.
pub(super) fn ask_for_more(queue: &mut Queue, ram: &GuestRam) -> Result<bool, RingError> {
    if !queue.ready() {
        return Ok(false);
    }
    queue.enable_notification(ram).map_err(|e| RingError::Avail(e.to_string()))
}

/// True if the driver wants to hear of the buffers given back since the last call.
pub(super) fn wants_interrupt(queue: &mut Queue, ram: &GuestRam) -> bool {
    // If the ring cannot be read, an interrupt too many is harmless.
    queue.needs_notification(ram).unwrap_or(true)
}

struct Gather<'m, 'b> {
    ram: &'m GuestRam,
    direction: Direction,
    skip: usize,
    room: usize,
    batch: &'b mut Batch<'m>,
}

enum Walk {
    Whole,
    Cut,
    Fault,
}

impl<'m> Gather<'m, '_> {
    /// Adds one chain; false if there is no room for a further one.
    fn add(&mut self, chain: DescriptorChain<&'m GuestRam>, size: u16) -> bool {
        let head = chain.head_index();
        let (slices, room) = (self.batch.slices.len(), self.room);
        if room == 0 || slices >= MAX_SLICES {
            return false;
        }
        let walk = self.walk(chain, size);
        if matches!(walk, Walk::Fault) {
            self.batch.slices.truncate(slices);
            self.room = room;
        }
        let whole = !matches!(walk, Walk::Cut);
        if !whole && self.direction == Direction::ToGuest && !self.batch.spans.is_empty() {
            // It would go back half full; the next call fills it.
            self.batch.slices.truncate(slices);
            return false;
        }
        self.batch.spans.push(Span {
            head,
            len: room - self.room,
            whole,
            fault: matches!(walk, Walk::Fault),
        });
        // Only the first chain can have been begun before.
        self.skip = 0;
        whole
    }

    fn walk(&mut self, chain: DescriptorChain<&'m GuestRam>, size: u16) -> Walk {
        // No chain has more descriptors than the ring, as indirect ones are not offered. One that does is
        // a loop; its iterator ends after `size` steps with a descriptor that still names a next one.
        let mut open = true;
        for (i, descriptor) in chain.enumerate() {
            if i >= usize::from(size) {
                return Walk::Fault;
            }
            open = descriptor.has_next();
            if descriptor.is_write_only() != (self.direction == Direction::ToGuest) {
                continue;
            }
            match self.descriptor(&descriptor) {
                Walk::Whole => {}
                other => return other,
            }
        }
        if open { Walk::Fault } else { Walk::Whole }
    }

    fn descriptor(&mut self, descriptor: &Descriptor) -> Walk {
        let len = descriptor.len() as usize;
        let skipped = len.min(self.skip);
        self.skip -= skipped;
        let wanted = len - skipped;
        if wanted == 0 {
            return Walk::Whole;
        }
        let Some(addr) = descriptor.addr().0.checked_add(skipped as u64) else { return Walk::Fault };
        let count = wanted.min(self.room);
        for slice in self.ram.get_slices(purlin_vmm_core::memory::GuestAddress(addr), count) {
            let Ok(slice) = slice else { return Walk::Fault };
            if self.batch.slices.len() >= MAX_SLICES {
                return Walk::Cut;
            }
            self.room -= slice.len();
            self.batch.slices.push(slice);
        }
        if count < wanted { Walk::Cut } else { Walk::Whole }
    }
}
