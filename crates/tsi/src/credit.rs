//! Window arithmetic of one stream (virtio 1.2 §5.10.6.3, and what Linux makes of it). Pure.

use std::collections::VecDeque;

use thiserror::Error;

/// What Linux charges a receive buffer for every packet besides its payload, in bytes: an empty socket
/// buffer on x86-64 and arm64 (`virtio_transport_inc_rx_pkt` from 6.12.92 on).
pub const PACKET_COST: u32 = 576;
/// Linux tells what it consumed when its buffer has less than this left, or is empty.
const LOW_WATER: u32 = 64 << 10;
/// Most bytes sent to a guest and not yet consumed, whatever it offers; bounds the record of packets.
const MAX_IN_FLIGHT: u32 = 8 << 20;

/// The guest does not keep to the protocol; the connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// It sent more than our window.
    #[error("{unread} bytes are unread and {len} more came, the window is {window}")]
    Window {
        /// Bytes not yet passed on.
        unread: u32,
        /// Bytes of the packet.
        len: u32,
        /// Our window.
        window: u32,
    },
    /// It says it consumed what was never sent, or less than it said before.
    #[error("{consumed} bytes consumed of {sent} sent")]
    Consumed {
        /// What it says, counted from what it said before.
        consumed: u32,
        /// Bytes sent and not yet consumed.
        sent: u32,
    },
}

/// How much may be sent to the guest now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Payload bytes.
    pub bytes: u32,
    /// Packets they may be spread over.
    pub packets: u32,
}

/// Both windows of a stream. Counters wrap at 2^32, as the wire's do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credit {
    sent: u32,
    peer_consumed: u32,
    peer_window: u32,
    received: u32,
    consumed: u32,
    announced: u32,
    window: u32,
    /// Value of `sent` at the end of every packet the guest has not consumed entirely.
    in_flight: VecDeque<u32>,
}

impl Credit {
    /// A stream that has moved nothing, with a receive window of this many bytes.
    pub fn new(window: u32) -> Self {
        Credit { window, ..Credit::default() }
    }

    /// Takes over window and progress from any packet of the guest.
    ///
    /// # Errors
    ///
    /// [`Violation::Consumed`].
    pub fn peer(&mut self, window: u32, consumed: u32) -> Result<(), Violation> {
        let step = consumed.wrapping_sub(self.peer_consumed);
        if step > self.unconsumed() {
            return Err(Violation::Consumed { consumed: step, sent: self.unconsumed() });
        }
        self.peer_window = window;
        self.peer_consumed = consumed;
        let left = self.unconsumed();
        while self.in_flight.front().is_some_and(|end| self.sent.wrapping_sub(*end) >= left) {
            self.in_flight.pop_front();
        }
        Ok(())
    }

    /// Bytes sent that the guest has not consumed.
    pub fn unconsumed(&self) -> u32 {
        self.sent.wrapping_sub(self.peer_consumed)
    }

    /// Bytes received that the host's socket has not taken.
    pub fn unread(&self) -> u32 {
        self.received.wrapping_sub(self.consumed)
    }

    /// What may be sent now, in packets of at most `packet` bytes (at least 1).
    ///
    /// Payload and [`PACKET_COST`] of everything in flight stay within the guest's buffer; only the first
    /// packet is free of the cost, so that a small buffer does not stop the stream. A last packet that
    /// would be small waits for more room instead.
    pub fn allowance(&self, packet: u32) -> Allowance {
        let packet = packet.max(1);
        let window = self.peer_window.min(MAX_IN_FLIGHT);
        let in_flight = u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX);
        let used = in_flight.saturating_mul(PACKET_COST).saturating_add(self.unconsumed());
        let room = window.saturating_sub(used);
        let whole = room / packet.saturating_add(PACKET_COST);
        let rest = room.saturating_sub(whole.saturating_mul(packet.saturating_add(PACKET_COST)));
        let rest = rest.saturating_sub(PACKET_COST).min(packet);
        if whole == 0 && in_flight == 0 {
            let bytes = window.saturating_sub(self.unconsumed()).min(packet);
            return Allowance { bytes, packets: u32::from(bytes > 0) };
        }
        let worth_it = rest > 0 && rest >= packet.min(window / 4);
        let last = if worth_it { rest } else { 0 };
        Allowance {
            bytes: whole.saturating_mul(packet).saturating_add(last),
            packets: whole + u32::from(worth_it),
        }
    }

    /// Counts a packet of `len` payload bytes to the guest.
    pub fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
        if len > 0 {
            self.in_flight.push_back(self.sent);
        }
    }

    /// Counts a packet of the guest.
    ///
    /// # Errors
    ///
    /// [`Violation::Window`]; nothing is counted then.
    pub fn receive(&mut self, len: u32) -> Result<(), Violation> {
        let unread = self.unread();
        if len > self.window.saturating_sub(unread) {
            return Err(Violation::Window { unread, len, window: self.window });
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// The host's socket took `len` more bytes. More than there are count as all.
    pub fn consume(&mut self, len: u32) {
        self.consumed = self.consumed.wrapping_add(len.min(self.unread()));
    }

    /// Window and progress for a packet to the guest, which thereby knows them.
    pub fn announce(&mut self) -> (u32, u32) {
        self.announced = self.consumed;
        (self.window, self.consumed)
    }

    /// True if the guest should be told of progress: half a window's worth, or its view of the window is
    /// nearly used up.
    pub fn update_due(&self) -> bool {
        let news = self.consumed.wrapping_sub(self.announced);
        // A guest uses at most a window as large as its own receive buffer.
        let window = self.window.min(self.peer_window).max(1);
        let believed_left = window.saturating_sub(self.received.wrapping_sub(self.announced));
        news > 0 && (news >= window / 2 || believed_left < LOW_WATER.min(window / 2))
    }
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
