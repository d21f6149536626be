//! The ring to the guest: receive buffers, looked up ahead of their use.

use std::collections::VecDeque;
use std::sync::Arc;

use purlin_devices::virtio::{DeviceQueue, IoCounters};
use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestMemory, GuestRam, VolatileSlice};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{QueueOwnedT, QueueT};

use super::worker::RingError;
use crate::wire::HEADER_LEN;

/// One piece of a buffer.
type Piece = (GuestAddress, u32);

/// A receive buffer of the guest.
#[derive(Debug)]
struct Buffer {
    head: u16,
    len: u32,
    first: Piece,
    /// More pieces; Linux has none.
    more: Vec<Piece>,
}

impl Buffer {
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

/// The ring and the buffers taken from it that are not used yet.
pub(super) struct RxRing {
    pub queue: DeviceQueue,
    counters: Arc<IoCounters>,
    ahead: VecDeque<Buffer>,
    /// Buffers given back since the driver was last interrupted.
    used: bool,
}

/// Buffers looked up at one time.
const LOOK_AHEAD: usize = 64;

impl RxRing {
    pub fn new(queue: DeviceQueue, counters: Arc<IoCounters>) -> Self {
        RxRing { queue, counters, ahead: VecDeque::new(), used: false }
    }

    /// Puts buffers that were not used back into the ring.
    pub fn unread(&mut self) {
        // At most the ring's size.
        let count = self.ahead.len() as u16;
        self.ahead.clear();
        let next = self.queue.queue.next_avail().wrapping_sub(count);
        self.queue.queue.set_next_avail(next);
    }

    /// Looks up to `wanted` buffers up; true if there is one.
    fn look_ahead(&mut self, ram: &GuestRam, wanted: usize) -> Result<bool, RingError> {
        let wanted = wanted.clamp(1, LOOK_AHEAD);
        while self.ahead.len() < wanted {
            let Some(chain) = self.queue.queue.iter(ram)?.next() else { break };
            let head = chain.head_index();
            match buffer(head, chain, ram, self.queue.queue.size()) {
                Some(buffer) => self.ahead.push_back(buffer),
                None if self.ahead.is_empty() => self.give_back_empty(ram, head)?,
                None => {
                    // It goes back when it is the first: what is looked up ahead has no gaps.
                    self.queue.queue.go_to_previous_position();
                    break;
                }
            }
        }
        Ok(!self.ahead.is_empty())
    }

    /// A buffer nothing fits into goes back empty.
    fn give_back_empty(&mut self, ram: &GuestRam, head: u16) -> Result<(), RingError> {
        self.queue.queue.add_used(ram, head, 0)?;
        self.used = true;
        Ok(())
    }

    /// True if there is a buffer; smaller ones than `least` bytes go back empty.
    pub fn has(&mut self, ram: &GuestRam, least: usize) -> Result<bool, RingError> {
        while self.look_ahead(ram, 1)? {
            match self.ahead.front() {
                Some(front) if front.len as usize >= least => return Ok(true),
                Some(front) => {
                    let head = front.head;
                    self.ahead.pop_front();
                    self.give_back_empty(ram, head)?;
                }
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Payload bytes that fit into the next buffer.
    pub fn payload_room(&self) -> u32 {
        self.ahead.front().map_or(0, |b| b.len.saturating_sub(HEADER_LEN as u32))
    }

    /// Payload areas of up to `packets` buffers, at most `bytes` in all; nothing is used up. The bytes they
    /// hold.
    pub fn gather<'m>(
        &mut self,
        ram: &'m GuestRam,
        packets: usize,
        bytes: usize,
        out: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<usize, RingError> {
        self.look_ahead(ram, packets)?;
        let mut total = 0usize;
        for buffer in self.ahead.iter().take(packets) {
            let mut skip = HEADER_LEN as u32;
            for (addr, len) in buffer.pieces() {
                let skipped = skip.min(len);
                skip -= skipped;
                let take = ((len - skipped) as usize).min(bytes - total);
                if take == 0 {
                    continue;
                }
                // Checked when it was looked up.
                out.push(ram.get_slice(GuestAddress(addr.0.wrapping_add(skipped.into())), take)?);
                total += take;
            }
            if total >= bytes || out.len() >= super::sys::MAX_PIECES {
                break;
            }
        }
        Ok(total)
    }

    /// Writes header and payload into the next buffer, which must be large enough, and gives it back.
    pub fn put(
        &mut self,
        ram: &GuestRam,
        header: &[u8; HEADER_LEN],
        payload: &[u8],
    ) -> Result<(), RingError> {
        let Some(buffer) = self.ahead.pop_front() else { return Ok(()) };
        let mut rest = &[header.as_slice(), payload].concat()[..];
        for (addr, len) in buffer.pieces() {
            let (now, later) = rest.split_at(rest.len().min(len as usize));
            ram.write_slice(now, addr)?;
            rest = later;
        }
        let written = HEADER_LEN + payload.len();
        self.finish(ram, buffer.head, written as u32)
    }

    /// Gives the next buffer back with this header and the `len` bytes that were read into it.
    pub fn complete(&mut self, ram: &GuestRam, header: &[u8; HEADER_LEN], len: u32) -> Result<(), RingError> {
        let Some(buffer) = self.ahead.pop_front() else { return Ok(()) };
        let (addr, first) = buffer.first;
        if first as usize >= HEADER_LEN {
            ram.write_slice(header, addr)?;
        } else {
            let mut rest = &header[..];
            for (addr, len) in buffer.pieces() {
                let (now, later) = rest.split_at(rest.len().min(len as usize));
                ram.write_slice(now, addr)?;
                rest = later;
            }
        }
        self.finish(ram, buffer.head, len.saturating_add(HEADER_LEN as u32))
    }

    fn finish(&mut self, ram: &GuestRam, head: u16, written: u32) -> Result<(), RingError> {
        self.queue.queue.add_used(ram, head, written)?;
        self.counters.to_guest(written.saturating_sub(HEADER_LEN as u32).into());
        self.used = true;
        Ok(())
    }

    /// Asks to be told of new buffers. True if there are some already.
    pub fn ask_for_more(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        Ok(self.queue.queue.enable_notification(ram)?)
    }

    /// True if the driver wants an interrupt for what was given back since the last call.
    pub fn wants_interrupt(&mut self, ram: &GuestRam) -> bool {
        // If the ring cannot be read, an interrupt too many is harmless.
        std::mem::take(&mut self.used) && self.queue.queue.needs_notification(ram).unwrap_or(true)
    }
}

/// Checks a chain: device-writable, in RAM, with room for a header, and no loop.
fn buffer(
    head: u16,
    chain: virtio_queue::DescriptorChain<&GuestRam>,
    ram: &GuestRam,
    size: u16,
) -> Option<Buffer> {
    let mut pieces = Vec::new();
    let (mut first, mut total, mut open) = (None, 0u32, true);
    for (i, descriptor) in chain.enumerate() {
        let descriptor: Descriptor = descriptor;
        let (addr, len) = (descriptor.addr(), descriptor.len());
        open = descriptor.has_next();
        if i >= usize::from(size) || !descriptor.is_write_only() || len == 0 {
            return None;
        }
        // One slice, so that a later look-up cannot fail.
        ram.get_slice(addr, len as usize).ok()?;
        total = total.checked_add(len)?;
        match first {
            None => first = Some((addr, len)),
            Some(_) => pieces.push((addr, len)),
        }
    }
    let complete = !open && total as usize >= HEADER_LEN;
    first.filter(|_| complete).map(|first| Buffer { head, len: total, first, more: pieces })
}
