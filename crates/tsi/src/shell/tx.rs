//! The ring from the guest: packets, taken in order.

use std::sync::Arc;

use purlin_devices::virtio::{DeviceQueue, IoCounters};
use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestMemory, GuestRam, VolatileSlice};
use virtio_queue::{QueueOwnedT, QueueT};

use super::worker::RingError;
use crate::wire::{HEADER_LEN, Header};

/// Where payload is.
pub(super) type Piece = (GuestAddress, u32);

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
}

impl TxRing {
    pub fn new(queue: DeviceQueue, counters: Arc<IoCounters>) -> Self {
        TxRing { queue, counters, owed: 0 }
    }

    /// Takes the next packet. Where its payload is goes into `pieces`.
    pub fn next(&mut self, ram: &GuestRam, pieces: &mut Vec<Piece>) -> Result<Option<TxPacket>, RingError> {
        pieces.clear();
        let Some(chain) = self.queue.queue.iter(ram)?.next() else { return Ok(None) };
        let head = chain.head_index();
        let mut raw = [0; HEADER_LEN];
        let mut have = 0usize;
        let mut valid = true;
        for descriptor in chain {
            self.owed = self.owed.saturating_add(1);
            let (mut addr, mut len) = (descriptor.addr(), descriptor.len());
            if descriptor.is_write_only() {
                valid = false;
                break;
            }
            if let Some(missing) = raw.get_mut(have..).filter(|m| !m.is_empty()) {
                let count = missing.len().min(len as usize);
                let Some(part) = missing.get_mut(..count) else { break };
                if ram.read_slice(part, addr).is_err() {
                    valid = false;
                    break;
                }
                have += count;
                addr = GuestAddress(addr.0.wrapping_add(count as u64));
                len -= count as u32;
            }
            if len > 0 {
                pieces.push((addr, len));
            }
        }
        let header = (have == HEADER_LEN).then(|| Header::parse(&raw));
        let whole = valid && header.is_some_and(|header| cut(pieces, header.len, ram));
        if let Some(header) = header.filter(|_| whole) {
            self.counters.from_guest(header.len.into());
        }
        Ok(Some(TxPacket { head, header, whole }))
    }

    /// Gives a packet's buffers back.
    pub fn give_back(&mut self, ram: &GuestRam, head: u16) -> Result<(), RingError> {
        self.queue.queue.add_used(ram, head, 0)?;
        Ok(())
    }

    /// Asks to be told of new packets. True if there are some already.
    pub fn ask_for_more(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        Ok(self.queue.queue.enable_notification(ram)?)
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
    pub fn wants_interrupt(&mut self, ram: &GuestRam) -> bool {
        self.owed = 0;
        // If the ring cannot be read, an interrupt too many is harmless.
        self.queue.queue.needs_notification(ram).unwrap_or(true)
    }
}

/// Cuts the pieces to exactly `len` bytes; false if there are fewer, or they are not in RAM.
fn cut(pieces: &mut Vec<Piece>, len: u32, ram: &GuestRam) -> bool {
    let mut left = len;
    let mut keep = 0;
    for (addr, size) in pieces.iter_mut() {
        if left == 0 {
            break;
        }
        *size = (*size).min(left);
        left -= *size;
        keep += 1;
        if ram.get_slice(*addr, *size as usize).is_err() {
            return false;
        }
    }
    pieces.truncate(keep);
    left == 0
}

/// The memory of pieces that were checked before.
pub(super) fn slices<'m>(
    ram: &'m GuestRam,
    pieces: &[Piece],
    out: &mut Vec<VolatileSlice<'m>>,
) -> Result<(), RingError> {
    for &(addr, len) in pieces {
        out.push(ram.get_slice(addr, len as usize)?);
    }
    Ok(())
}

/// Copies the first `out.len()` bytes of the pieces.
pub(super) fn copy(ram: &GuestRam, pieces: &[Piece], out: &mut [u8]) -> Result<(), RingError> {
    let mut rest = out;
    for &(addr, len) in pieces {
        let count = rest.len().min(len as usize);
        let (now, later) = std::mem::take(&mut rest).split_at_mut(count);
        ram.read_slice(now, addr)?;
        rest = later;
    }
    Ok(())
}
