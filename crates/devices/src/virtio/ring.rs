//! A split ring whose three areas are looked up in guest memory once.
//!
//! virtio-queue looks every word of a ring up anew, some hundred instructions each. For a device that moves many small
//! packets that is most of what it does; such a device makes a [`RingView`] per turn and keeps the positions in its
//! [`Queue`] up to date.

use std::sync::atomic::{Ordering, fence};

use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestRam, VolatileSlice};
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::{Queue, QueueT};

const DESCRIPTOR: usize = 16;
/// Flags and index in front of the entries of both the driver's and the device's area.
const HEAD: usize = 4;
const AVAIL_ENTRY: usize = 2;
const USED_ENTRY: usize = 8;

/// A piece of guest memory that a driver offers. Untrusted: the range may lie anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Where it begins.
    pub addr: GuestAddress,
    /// Bytes.
    pub len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    /// For the device to write, rather than to read.
    pub fn is_write_only(&self) -> bool {
        self.flags & VRING_DESC_F_WRITE as u16 != 0
    }

    /// There is another one behind it.
    pub fn has_next(&self) -> bool {
        self.flags & VRING_DESC_F_NEXT as u16 != 0
    }
}

/// A ring cannot be used as the driver left it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The driver has not made it ready.
    #[error("the ring is not ready")]
    NotReady,
    /// More buffers than the ring has places.
    #[error("{0} buffers are offered in a ring of {1}")]
    TooMany(u16, u16),
    /// A head that no descriptor has.
    #[error("there is no descriptor {0}")]
    Head(u16),
    /// It is not in guest RAM.
    #[error(transparent)]
    Memory(#[from] GuestMemoryError),
}

/// See the [module](self). Positions are the caller's: they are the [`Queue`]'s `next_avail` and `next_used`.
#[derive(Debug, Clone, Copy)]
pub struct RingView<'m> {
    descriptors: VolatileSlice<'m>,
    avail: VolatileSlice<'m>,
    used: VolatileSlice<'m>,
    size: u16,
    event_idx: bool,
}

impl<'m> RingView<'m> {
    /// The ring of `queue`.
    ///
    /// # Errors
    ///
    /// It is not ready, or not in one piece of RAM each.
    pub fn new(queue: &Queue, ram: &'m GuestRam) -> Result<Self, RingError> {
        if !queue.ready() {
            return Err(RingError::NotReady);
        }
        let size = usize::from(queue.size());
        let area = |at, len| ram.get_slice(GuestAddress(at), len);
        Ok(RingView {
            descriptors: area(queue.desc_table(), size * DESCRIPTOR)?,
            // Behind the entries each area has the other side's event index.
            avail: area(queue.avail_ring(), HEAD + size * AVAIL_ENTRY + 2)?,
            used: area(queue.used_ring(), HEAD + size * USED_ENTRY + 2)?,
            size: queue.size(),
            event_idx: queue.event_idx_enabled(),
        })
    }

    /// How many buffers are offered from position `next` on.
    ///
    /// # Errors
    ///
    /// [`RingError::TooMany`].
    pub fn offered(&self, next: u16) -> Result<u16, RingError> {
        let index: u16 = self.avail.load(2, Ordering::Acquire).map_err(GuestMemoryError::from)?;
        let offered = u16::from_le(index).wrapping_sub(next);
        if offered > self.size { Err(RingError::TooMany(offered, self.size)) } else { Ok(offered) }
    }

    /// The first descriptor of the buffer at position `at`, which must be offered.
    ///
    /// # Errors
    ///
    /// [`RingError::Head`].
    pub fn head(&self, at: u16) -> Result<u16, RingError> {
        let place = HEAD + self.place(at) * AVAIL_ENTRY;
        let head =
            self.avail.load(place, Ordering::Relaxed).map(u16::from_le).map_err(GuestMemoryError::from)?;
        if head < self.size { Ok(head) } else { Err(RingError::Head(head)) }
    }

    /// The descriptors of a buffer. A chain that leaves the table or has a loop ends early, with a descriptor that
    /// still [has one behind it](Descriptor::has_next). There are no indirect tables: offer the feature to no driver.
    pub fn chain(&self, head: u16) -> impl Iterator<Item = Descriptor> {
        let view = *self;
        let mut next = Some(head);
        (0..self.size).map_while(move |_| {
            let descriptor = view.descriptor(next?)?;
            next = descriptor.has_next().then_some(descriptor.next);
            Some(descriptor)
        })
    }

    fn descriptor(&self, index: u16) -> Option<Descriptor> {
        let place = usize::from(index) * DESCRIPTOR;
        let addr: u64 = self.descriptors.load(place, Ordering::Relaxed).ok()?;
        let rest: u64 = self.descriptors.load(place + 8, Ordering::Relaxed).ok()?;
        let rest = u64::from_le(rest);
        let (len, flags, next) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
        let addr = GuestAddress(u64::from_le(addr));
        let direct = flags & VRING_DESC_F_INDIRECT as u16 == 0;
        direct.then_some(Descriptor { addr, len, flags, next })
    }

    /// Writes an entry of the device's area. The driver sees it when it is [published](RingView::publish).
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`]; not for a view that was made.
    pub fn put_used(&self, at: u16, head: u16, written: u32) -> Result<(), RingError> {
        let place = HEAD + self.place(at) * USED_ENTRY;
        let store = |value: u32, place| self.used.store(value.to_le(), place, Ordering::Relaxed);
        store(head.into(), place).map_err(GuestMemoryError::from)?;
        Ok(store(written, place + 4).map_err(GuestMemoryError::from)?)
    }

    /// Shows the driver all entries before position `next`.
    ///
    /// # Errors
    ///
    /// As for [`RingView::put_used`].
    pub fn publish(&self, next: u16) -> Result<(), RingError> {
        Ok(self.used.store(next.to_le(), 2, Ordering::Release).map_err(GuestMemoryError::from)?)
    }

    /// Asks to be told of the next buffer from position `next` on. True if there is one already.
    ///
    /// # Errors
    ///
    /// As for [`RingView::offered`].
    pub fn ask_for_more(&self, next: u16) -> Result<bool, RingError> {
        let asked = if self.event_idx {
            let place = HEAD + usize::from(self.size) * USED_ENTRY;
            self.used.store(next.to_le(), place, Ordering::Relaxed)
        } else {
            self.used.store(0u16, 0, Ordering::Relaxed)
        };
        asked.map_err(GuestMemoryError::from)?;
        // The driver looks at what was just stored after it has offered; either side sees the other.
        fence(Ordering::SeqCst);
        Ok(self.offered(next)? > 0)
    }

    /// True if the driver wants an interrupt for the entries published from position `from` up to `next`.
    ///
    /// # Errors
    ///
    /// As for [`RingView::put_used`].
    pub fn wants_interrupt(&self, from: u16, next: u16) -> Result<bool, RingError> {
        if !self.event_idx {
            return Ok(true);
        }
        // The entries first, then the question.
        fence(Ordering::SeqCst);
        let place = HEAD + usize::from(self.size) * AVAIL_ENTRY;
        let event =
            self.avail.load(place, Ordering::Relaxed).map(u16::from_le).map_err(GuestMemoryError::from)?;
        Ok(next.wrapping_sub(event).wrapping_sub(1) < next.wrapping_sub(from))
    }

    fn place(&self, at: u16) -> usize {
        // The size is a power of two.
        usize::from(at & self.size.wrapping_sub(1))
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
