//! The control queues: driver messages in, all due messages out in one go.

use purlin_vmm_core::memory::SharedRam;

use super::protocol::{HEADER_LEN, HostMessage};
use super::ring::{self, Batch, Direction, RingError};
use super::worker::Worker;
use super::{CONTROL_RX, CONTROL_TX};

/// Most messages per turn in each direction; a driver may refill the rings as fast as they are emptied.
const TURN: usize = 256;
/// Most bytes of messages looked at together.
const BYTES: usize = 4096;

impl Worker {
    /// Takes the driver's messages. Their buffers go back at once, because Linux spins until they do.
    pub(super) fn receive_control(&mut self) -> Result<(), RingError> {
        if !self.control.multiport {
            return Ok(());
        }
        let memory = self.memory.clone();
        let mut taken = 0;
        while taken < TURN {
            match self.receive_batch(&memory)? {
                Some(messages) => taken += messages,
                None => break,
            }
        }
        if taken >= TURN {
            self.shared.wake();
        }
        if taken > 0 {
            self.notify_driver(CONTROL_TX);
        }
        Ok(())
    }

    /// The number of buffers taken; `None` if there are none and the driver notifies of the next.
    fn receive_batch(&mut self, memory: &SharedRam) -> Result<Option<usize>, RingError> {
        let Some(q) = self.queue(CONTROL_TX) else { return Ok(None) };
        let batch = ring::peek(&mut q.queue, memory, Direction::FromGuest, 0, BYTES)?;
        if batch.spans.is_empty() {
            return Ok(ring::ask_for_more(&mut q.queue, memory)?.then_some(1));
        }
        let messages = messages(&batch);
        for (span, message) in batch.spans.iter().zip(&messages) {
            if span.fault || self.control.guest(message).is_err() {
                self.shared.count_error();
            }
        }
        // Before the driver goes on to the next device.
        self.shared.registration.set(self.control.is_registering());
        let Some(q) = self.queue(CONTROL_TX) else { return Ok(None) };
        for (span, _) in batch.spans.iter().zip(&messages) {
            ring::complete(&mut q.queue, memory, span.head, 0)?;
        }
        Ok(Some(messages.len()))
    }

    /// Writes all messages due into the buffers there are, with one interrupt for all.
    pub(super) fn send_control(&mut self) -> Result<(), RingError> {
        let memory = self.memory.clone();
        let mut used = 0;
        while used < TURN && self.send_one(&memory)? {
            used += 1;
        }
        if used >= TURN {
            self.shared.wake();
        }
        if used > 0 {
            self.notify_driver(CONTROL_RX);
        }
        Ok(())
    }

    /// True while the console before this one comes up.
    fn is_held_back(&self) -> bool {
        self.after.as_ref().is_some_and(|other| other.is_under_way())
    }

    /// True if a buffer was used; false if nothing is due, or no buffer there.
    fn send_one(&mut self, memory: &SharedRam) -> Result<bool, RingError> {
        let Some((port, message)) = self.control.next_due() else { return Ok(false) };
        if message == HostMessage::Add && self.is_held_back() {
            return Ok(false);
        }
        let bytes = message.encode(port, self.resize_order);
        let Some(q) = self.queue(CONTROL_RX) else { return Ok(false) };
        let mut batch = ring::peek(&mut q.queue, memory, Direction::ToGuest, 0, bytes.len())?;
        if batch.spans.is_empty() && ring::ask_for_more(&mut q.queue, memory)? {
            batch = ring::peek(&mut q.queue, memory, Direction::ToGuest, 0, bytes.len())?;
        }
        let Some(span) = batch.spans.first().copied() else { return Ok(false) };
        let fits = !span.fault && span.len == bytes.len();
        if fits {
            scatter(&batch, &bytes);
        }
        let written = if fits { bytes.len() as u32 } else { 0 };
        ring::complete(&mut q.queue, memory, span.head, written)?;
        if fits {
            self.control.sent();
        } else {
            self.shared.count_error();
        }
        Ok(true)
    }
}

/// The first bytes of each chain of a batch, as far as they can be a message.
fn messages(batch: &Batch<'_>) -> Vec<Vec<u8>> {
    let mut slices = batch.slices.iter();
    let mut one = |len: usize| {
        let (mut left, mut message) = (len, Vec::new());
        while left > 0 {
            let Some(slice) = slices.next() else { break };
            let wanted = slice.len().min(HEADER_LEN - message.len());
            let mut bytes = [0; HEADER_LEN];
            if let Some(bytes) = bytes.get_mut(..wanted) {
                slice.copy_to(bytes);
                message.extend_from_slice(bytes);
            }
            left = left.saturating_sub(slice.len());
        }
        message
    };
    batch.spans.iter().map(|span| one(span.len)).collect()
}

/// Copies `bytes` into the slices of a batch.
fn scatter(batch: &Batch<'_>, bytes: &[u8]) {
    let mut rest = bytes;
    for slice in &batch.slices {
        let (now, later) = rest.split_at(rest.len().min(slice.len()));
        slice.copy_from(now);
        rest = later;
    }
}
