//! The ring to the guest: receive buffers, looked up ahead of their use.

use std::collections::VecDeque;
use std::sync::Arc;

use purlin_devices::virtio::{DeviceQueue, IoCounters, RingError};
use purlin_vmm_core::memory::{GuestAddress, VolatileSlice};
use virtio_queue::QueueT;

use super::turn::Turn;
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
    /// Used entries up to here were shown to the driver.
    published: u16,
    /// Up to here the driver was interrupted for them, or did not want it.
    signalled: u16,
    /// Somebody in the guest waits for one of them.
    urgent: bool,
}

/// Buffers looked up at one time.
const LOOK_AHEAD: usize = 64;

impl RxRing {
    pub fn new(queue: DeviceQueue, counters: Arc<IoCounters>) -> Self {
        let used = queue.queue.next_used();
        RxRing { queue, counters, ahead: VecDeque::new(), published: used, signalled: used, urgent: false }
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
    fn look_ahead(&mut self, turn: &Turn<'_>, wanted: usize) -> Result<bool, RingError> {
        let wanted = wanted.clamp(1, LOOK_AHEAD);
        if self.ahead.len() >= wanted {
            return Ok(true);
        }
        let mut next = self.queue.queue.next_avail();
        for _ in 0..turn.rx.offered(next)? {
            let head = turn.rx.head(next)?;
            match buffer(head, turn) {
                Some(buffer) => self.ahead.push_back(buffer),
                None if self.ahead.is_empty() => self.give_back_empty(turn, head)?,
                // It goes back when it is the first: what is looked up ahead has no gaps.
                None => break,
            }
            next = next.wrapping_add(1);
            if self.ahead.len() >= wanted {
                break;
            }
        }
        self.queue.queue.set_next_avail(next);
        Ok(!self.ahead.is_empty())
    }

    /// A buffer nothing fits into goes back empty.
    fn give_back_empty(&mut self, turn: &Turn<'_>, head: u16) -> Result<(), RingError> {
        self.urgent = true;
        self.put_used(turn, head, 0)
    }

    /// True if there is a buffer; smaller ones than `least` bytes go back empty.
    pub fn has(&mut self, turn: &Turn<'_>, least: usize) -> Result<bool, RingError> {
        while self.look_ahead(turn, 1)? {
            match self.ahead.front() {
                Some(front) if front.len as usize >= least => return Ok(true),
                Some(front) => {
                    let head = front.head;
                    self.ahead.pop_front();
                    self.give_back_empty(turn, head)?;
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
        turn: &Turn<'m>,
        packets: usize,
        bytes: usize,
        out: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<usize, RingError> {
        self.look_ahead(turn, packets)?;
        let mut total = 0usize;
        for buffer in self.ahead.iter().take(packets) {
            let mut skip = HEADER_LEN as u32;
            let mut add = |(addr, len): Piece| {
                let skipped = skip.min(len);
                skip -= skipped;
                let room = u32::try_from(bytes - total).unwrap_or(u32::MAX);
                let take = (len - skipped).min(room);
                if take > 0 {
                    // Checked when it was looked up.
                    out.push(turn.slice(GuestAddress(addr.0.wrapping_add(skipped.into())), take)?);
                    total += take as usize;
                }
                Ok::<(), RingError>(())
            };
            add(buffer.first)?;
            buffer.more.iter().try_for_each(|piece| add(*piece))?;
            if total >= bytes || out.len() >= super::sys::MAX_PIECES {
                break;
            }
        }
        Ok(total)
    }

    /// Writes header and payload into the next buffer, which must be large enough, and gives it back.
    pub fn put(
        &mut self,
        turn: &Turn<'_>,
        header: &[u8; HEADER_LEN],
        payload: &[u8],
        lazy: bool,
    ) -> Result<(), RingError> {
        let Some(buffer) = self.ahead.pop_front() else { return Ok(()) };
        let mut parts = [header.as_slice(), payload];
        for (addr, len) in buffer.pieces() {
            let mut to = turn.slice(addr, len)?;
            for part in &mut parts {
                let (now, later) = part.split_at(part.len().min(to.len()));
                to.copy_from(now);
                to = to.offset(now.len()).map_err(purlin_vmm_core::memory::GuestMemoryError::from)?;
                *part = later;
            }
        }
        self.urgent |= !lazy;
        self.finish(turn, buffer.head, payload.len() as u32)
    }

    /// Gives the next buffer back with this header and the `len` bytes that were read into it.
    pub fn complete(
        &mut self,
        turn: &Turn<'_>,
        header: &[u8; HEADER_LEN],
        len: u32,
    ) -> Result<(), RingError> {
        let Some(buffer) = self.ahead.pop_front() else { return Ok(()) };
        let (addr, room) = buffer.first;
        if room as usize >= HEADER_LEN {
            turn.slice(addr, HEADER_LEN as u32)?.copy_from(header);
        } else {
            let mut rest = &header[..];
            for (addr, len) in buffer.pieces() {
                let (now, later) = rest.split_at(rest.len().min(len as usize));
                turn.slice(addr, now.len() as u32)?.copy_from(now);
                rest = later;
            }
        }
        self.urgent = true;
        self.finish(turn, buffer.head, len)
    }

    fn finish(&mut self, turn: &Turn<'_>, head: u16, payload: u32) -> Result<(), RingError> {
        self.counters.to_guest(payload.into());
        self.put_used(turn, head, payload.saturating_add(HEADER_LEN as u32))
    }

    fn put_used(&mut self, turn: &Turn<'_>, head: u16, written: u32) -> Result<(), RingError> {
        let at = self.queue.queue.next_used();
        turn.rx.put_used(at, head, written)?;
        self.queue.queue.set_next_used(at.wrapping_add(1));
        Ok(())
    }

    /// Shows the driver what was given back.
    pub fn publish(&mut self, turn: &Turn<'_>) -> Result<(), RingError> {
        let used = self.queue.queue.next_used();
        if used != self.published {
            turn.rx.publish(used)?;
            self.published = used;
        }
        Ok(())
    }

    /// Asks to be told of new buffers. True if there are some already.
    pub fn ask_for_more(&mut self, turn: &Turn<'_>) -> Result<bool, RingError> {
        turn.rx.ask_for_more(self.queue.queue.next_avail())
    }

    /// True if there are buffers given back that the driver was not interrupted for.
    pub fn owes_interrupt(&self) -> bool {
        self.queue.queue.next_used() != self.signalled
    }

    /// True if it should be interrupted for them now: somebody waits, or much of the ring does.
    pub fn interrupt_is_urgent(&self) -> bool {
        let owed = self.queue.queue.next_used().wrapping_sub(self.signalled);
        self.urgent || owed >= self.queue.queue.size() / 4
    }

    /// True if the driver wants an interrupt for what was published since the last call.
    pub fn wants_interrupt(&mut self, turn: &Turn<'_>) -> bool {
        self.urgent = false;
        let from = std::mem::replace(&mut self.signalled, self.published);
        // If the ring cannot be read, an interrupt too many is harmless.
        turn.rx.wants_interrupt(from, self.published).unwrap_or(true)
    }
}

/// Checks a chain: device-writable, in RAM, with room for a header, and no loop.
fn buffer(head: u16, turn: &Turn<'_>) -> Option<Buffer> {
    let mut more = Vec::new();
    let (mut first, mut total, mut open) = (None, 0u32, true);
    for descriptor in turn.rx.chain(head) {
        let (addr, len) = (descriptor.addr, descriptor.len);
        open = descriptor.has_next();
        if !descriptor.is_write_only() || len == 0 {
            return None;
        }
        // One slice, so that a later look-up cannot fail.
        turn.slice(addr, len).ok()?;
        total = total.checked_add(len)?;
        match first {
            None => first = Some((addr, len)),
            Some(_) => more.push((addr, len)),
        }
    }
    let complete = !open && total as usize >= HEADER_LEN;
    first.filter(|_| complete).map(|first| Buffer { head, len: total, first, more })
}
