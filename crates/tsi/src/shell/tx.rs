//! The ring from the guest: packets, taken in order.

use std::sync::Arc;

use purlin_devices::virtio::{DeviceQueue, IoCounters, RingError};
use purlin_vmm_core::memory::{GuestAddress, VolatileSlice};
use virtio_queue::QueueT;

use super::turn::Turn;
use crate::wire::{HEADER_LEN, Header};

/// A packet of the guest. The header is a copy; the guest may change its own meanwhile.
#[derive(Debug)]
pub(super) struct TxPacket {
    pub head: u16,
    /// `None` if there are not even 44 readable bytes.
    pub header: Option<Header>,
    /// The payload pieces hold as much as the header says.
    pub whole: bool,
}

/// The ring.
pub(super) struct TxRing {
    pub queue: DeviceQueue,
    counters: Arc<IoCounters>,
    /// Descriptors given back since the driver was last interrupted.
    owed: u32,
    /// Buffers known to be offered and not taken yet.
    offered: u16,
    /// Up to this used entry the driver was interrupted, or did not want it.
    signalled: u16,
}

impl TxRing {
    pub fn new(queue: DeviceQueue, counters: Arc<IoCounters>) -> Self {
        let signalled = queue.queue.next_used();
        TxRing { queue, counters, owed: 0, offered: 0, signalled }
    }

    /// Takes the next packet. Where its payload is goes into `pieces`.
    pub fn next<'m>(
        &mut self,
        turn: &Turn<'m>,
        pieces: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<Option<TxPacket>, RingError> {
        pieces.clear();
        let at = self.queue.queue.next_avail();
        if self.offered == 0 {
            self.offered = turn.tx.offered(at)?;
        }
        let Some(left) = self.offered.checked_sub(1) else { return Ok(None) };
        let head = turn.tx.head(at)?;
        self.offered = left;
        self.queue.queue.set_next_avail(at.wrapping_add(1));
        let mut raw = [0; HEADER_LEN];
        let mut have = 0usize;
        let mut header = None;
        // Payload that the header announces and that is not found yet.
        let mut missing = 0;
        let mut readable = true;
        for descriptor in turn.tx.chain(head) {
            self.owed = self.owed.saturating_add(1);
            let (mut addr, mut len) = (descriptor.addr, descriptor.len);
            if descriptor.is_write_only() {
                readable = false;
                break;
            }
            if let Some(rest) = raw.get_mut(have..).filter(|rest| !rest.is_empty()) {
                let count = rest.len().min(len as usize);
                let (Some(part), Ok(from)) = (rest.get_mut(..count), turn.slice(addr, count as u32)) else {
                    break;
                };
                have += from.copy_to(part);
                addr = GuestAddress(addr.0.wrapping_add(count as u64));
                len -= count as u32;
                if have == HEADER_LEN {
                    let parsed = Header::parse(&raw);
                    missing = parsed.len;
                    header = Some(parsed);
                }
            }
            let take = len.min(missing);
            if take > 0 {
                let Ok(piece) = turn.slice(addr, take) else { break };
                pieces.push(piece);
                missing -= take;
            }
        }
        let whole = readable && header.is_some() && missing == 0;
        if let Some(header) = header.filter(|_| whole) {
            self.counters.from_guest(header.len.into());
        }
        Ok(Some(TxPacket { head, header, whole }))
    }

    /// Gives packets' buffers back.
    pub fn give_back(&mut self, turn: &Turn<'_>, heads: impl Iterator<Item = u16>) -> Result<(), RingError> {
        let before = self.queue.queue.next_used();
        let mut at = before;
        for head in heads {
            turn.tx.put_used(at, head, 0)?;
            at = at.wrapping_add(1);
        }
        if at != before {
            self.queue.queue.set_next_used(at);
            turn.tx.publish(at)?;
        }
        Ok(())
    }

    /// Asks to be told of new packets. True if there are some already.
    pub fn ask_for_more(&mut self, turn: &Turn<'_>) -> Result<bool, RingError> {
        turn.tx.ask_for_more(self.queue.queue.next_avail())
    }

    /// True if the driver was not interrupted for buffers given back.
    pub fn owes_interrupt(&self) -> bool {
        self.owed > 0
    }

    /// True if so much of the ring is waiting for the driver to notice that it should be interrupted now.
    pub fn interrupt_is_urgent(&self) -> bool {
        self.owed >= u32::from(self.queue.queue.size()) / 4
    }

    /// True if the driver wants an interrupt for what was given back since the last call.
    pub fn wants_interrupt(&mut self, turn: &Turn<'_>) -> bool {
        self.owed = 0;
        let used = self.queue.queue.next_used();
        let from = std::mem::replace(&mut self.signalled, used);
        // If the ring cannot be read, an interrupt too many is harmless.
        turn.tx.wants_interrupt(from, used).unwrap_or(true)
    }
}

/// Copies the first `out.len()` bytes of the pieces.
pub(super) fn copy(pieces: &[VolatileSlice<'_>], out: &mut [u8]) {
    let mut rest = out;
    for piece in pieces {
        let count = piece.copy_to(rest);
        rest = std::mem::take(&mut rest).get_mut(count..).unwrap_or_default();
    }
}
