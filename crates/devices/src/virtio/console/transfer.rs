//! Moving bytes between a port's rings and its host ends.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Instant;

use purlin_vmm_core::memory::{SharedRam, VolatileSlice};

use super::io::HostOutput;
use super::ring::{self, Batch, Direction, RingError};
use super::worker::{Ends, Retired, Worker};
use super::{rx_queue, sys, tx_queue};

/// Most bytes moved for one port before others get their turn.
const TURN: usize = 256 << 10;
/// Most bytes handed to one system call.
const CALL: usize = 128 << 10;

/// What a port waits for after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A notification of the driver.
    Driver,
    /// The host descriptor.
    Host,
    /// Its next turn.
    Turn,
    /// Nothing: go on.
    More,
}

impl Worker {
    /// Guest to host: one turn.
    pub(super) fn transmit(&mut self, port: usize) -> Result<(), RingError> {
        let next = self.transmit_turn(port)?;
        let fd = self.ends.get(port).and_then(|e| e.output.wait_fd());
        if let Some(work) = self.work.get_mut(port) {
            work.output.wanted = watch(next, fd);
            work.tx_turn = next == Next::Turn;
        }
        if next == Next::Driver && self.ends.get(port).is_some_and(Ends::to_remove) {
            // The ring is empty now, so the driver frees nothing the device still looks at.
            self.control.remove(port);
        }
        Ok(())
    }

    fn transmit_turn(&mut self, port: usize) -> Result<Next, RingError> {
        let memory = self.memory.clone();
        let (mut moved, mut used) = (0, false);
        let next = loop {
            if moved >= TURN {
                break Next::Turn;
            }
            match self.transmit_call(port, &memory, &mut moved, &mut used)? {
                Next::More => {}
                next => break next,
            }
        };
        if used {
            self.notify_driver(tx_queue(port));
        }
        Ok(next)
    }

    /// One system call's worth of output.
    fn transmit_call(
        &mut self,
        port: usize,
        memory: &SharedRam,
        moved: &mut usize,
        used: &mut bool,
    ) -> Result<Next, RingError> {
        let done = self.work.get(port).map_or(0, |w| w.tx_done);
        if !self.control.is_present(port) {
            return Ok(Next::Driver);
        }
        let Some(q) = self.queue(tx_queue(port)) else { return Ok(Next::Driver) };
        let batch = ring::peek(&mut q.queue, memory, Direction::FromGuest, done, CALL)?;
        // Bounds a driver that offers empty buffers without end.
        *moved += 1;
        if batch.spans.is_empty() {
            let more = ring::ask_for_more(&mut q.queue, memory)?;
            return Ok(if more { Next::More } else { Next::Driver });
        }
        let total: usize = batch.slices.iter().map(VolatileSlice::len).sum();
        let Some(sent) = self.write_out(port, &batch.slices, total) else { return Ok(Next::Host) };
        *moved += sent;
        *used |= self.complete_sent(port, memory, &batch, sent)?;
        let waits = self.ends.get(port).is_some_and(|e| e.output.wait_fd().is_some());
        Ok(if sent < total && waits { Next::Host } else { Next::More })
    }

    /// Bytes that are done with, written or dropped; `None` if the host end takes none now.
    fn write_out(&mut self, port: usize, slices: &[VolatileSlice<'_>], total: usize) -> Option<usize> {
        let shared = self.shared.clone();
        let (ends, counters) = (self.ends.get_mut(port)?, shared.ports.get(port)?);
        if total == 0 {
            return Some(0);
        }
        if ends.output.drops() {
            counters.count_dropped(total);
            return Some(total);
        }
        match ends.output.write(slices) {
            Ok(sent) if sent > 0 => {
                counters.count_out(sent);
                Some(sent)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Some(0),
            outcome => {
                counters.count_dropped(total);
                if !is_out_of_space(&outcome) {
                    self.output_broken(port, outcome);
                }
                Some(total)
            }
        }
    }

    /// The output takes nothing any more. Further bytes are dropped, so that no writer in the guest waits for
    /// ever.
    fn output_broken(&mut self, port: usize, outcome: io::Result<usize>) {
        let Some(ends) = self.ends.get_mut(port) else { return };
        self.retired.outputs.push(std::mem::replace(&mut ends.output, HostOutput::Broken));
        match outcome {
            Err(e) => log::debug!("output of console port {port} ended: {e}"),
            Ok(_) => log::debug!("output of console port {port} ended"),
        }
    }

    /// Gives back the buffers that `sent` bytes of `batch` cover. True if there was one.
    fn complete_sent(
        &mut self,
        port: usize,
        memory: &SharedRam,
        batch: &Batch<'_>,
        sent: usize,
    ) -> Result<bool, RingError> {
        let (mut left, mut used) = (sent, false);
        let mut done = self.work.get(port).map_or(0, |w| w.tx_done);
        for span in &batch.spans {
            let now = left.min(span.len);
            left -= now;
            if now < span.len || !span.whole {
                done = done.saturating_add(now);
                break;
            }
            if span.fault {
                self.shared.count_error();
            }
            let Some(q) = self.queue(tx_queue(port)) else { break };
            ring::complete(&mut q.queue, memory, span.head, 0)?;
            used = true;
            done = 0;
        }
        if let Some(work) = self.work.get_mut(port) {
            work.tx_done = done;
        }
        Ok(used)
    }

    /// Host to guest: one turn.
    pub(super) fn receive(&mut self, port: usize) -> Result<(), RingError> {
        let memory = self.memory.clone();
        let (mut moved, mut used) = (0, false);
        let next = loop {
            if moved >= TURN {
                break Next::Turn;
            }
            match self.receive_call(port, &memory, &mut moved, &mut used)? {
                Next::More => {}
                next => break next,
            }
        };
        if used {
            self.notify_driver(rx_queue(port));
        }
        let fd = self.ends.get(port).and_then(|e| e.input.as_ref()?.wait_fd());
        if let Some(work) = self.work.get_mut(port) {
            work.input.wanted = watch(next, fd);
            work.rx_turn = next == Next::Turn;
        }
        if self.ends.get(port).is_some_and(Ends::to_remove) {
            self.transmit(port)?;
        }
        Ok(())
    }

    /// One system call's worth of input.
    fn receive_call(
        &mut self,
        port: usize,
        memory: &SharedRam,
        moved: &mut usize,
        used: &mut bool,
    ) -> Result<Next, RingError> {
        let open = self.control.accepts_input(port);
        if !open || self.ends.get(port).is_none_or(|e| e.input.is_none()) {
            return Ok(Next::Driver);
        }
        let Some(q) = self.queue(rx_queue(port)) else { return Ok(Next::Driver) };
        let batch = ring::peek(&mut q.queue, memory, Direction::ToGuest, 0, CALL)?;
        *moved += 1;
        if batch.spans.is_empty() {
            let more = ring::ask_for_more(&mut q.queue, memory)?;
            return Ok(if more { Next::More } else { Next::Driver });
        }
        let total: usize = batch.slices.iter().map(VolatileSlice::len).sum();
        let got = if total == 0 { Ok(0) } else { self.read_in(port, &batch.slices) };
        let got = match got {
            Ok(0) if total > 0 => return Ok(self.input_ended(port)),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Host),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Next::More),
            Err(e) => {
                log::debug!("input of console port {port} ended: {e}");
                return Ok(self.input_ended(port));
            }
        };
        *moved += got;
        *used |= self.complete_received(port, memory, &batch, got)?;
        let waits =
            self.ends.get(port).is_some_and(|e| e.input.as_ref().is_some_and(|i| i.wait_fd().is_some()));
        Ok(if got < total && waits { Next::Host } else { Next::More })
    }

    fn read_in(&mut self, port: usize, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let input = self.ends.get(port).and_then(|e| e.input.as_ref());
        let got = input.map_or(Ok(0), |i| i.read(slices, CALL))?;
        if let Some(counters) = self.shared.ports.get(port) {
            counters.count_in(got);
        }
        Ok(got)
    }

    /// End of file. All bytes before it are in the guest's ring already, so the message cannot overtake them.
    fn input_ended(&mut self, port: usize) -> Next {
        if let Some(ends) = self.ends.get_mut(port) {
            self.retired.inputs.extend(ends.input.take());
            ends.input_ended = true;
            if ends.output.is_hung_up() {
                // PORT_OPEN 0 keeps the guest from writing, so no failing write would tell this later.
                self.output_broken(port, Ok(0));
            }
        }
        self.control.input_ended(port);
        Next::Driver
    }

    fn complete_received(
        &mut self,
        port: usize,
        memory: &SharedRam,
        batch: &Batch<'_>,
        got: usize,
    ) -> Result<bool, RingError> {
        let (mut left, mut used) = (got, false);
        for span in &batch.spans {
            let now = left.min(span.len);
            if now == 0 && span.len > 0 {
                break;
            }
            left -= now;
            if span.fault {
                self.shared.count_error();
            }
            let Some(q) = self.queue(rx_queue(port)) else { break };
            ring::complete(&mut q.queue, memory, span.head, now as u32)?;
            used = true;
        }
        Ok(used)
    }

    /// Writes out what is left in the transmit rings; for a parked worker whose guest does not run any more.
    /// Returns the bytes that were not taken before `deadline`.
    pub(super) fn flush(&mut self, deadline: Instant) -> u64 {
        let _block = sys::SignalBlock::new(libc::SIGPIPE);
        let mut open: Vec<usize> = (0..self.ends.len()).collect();
        while !self.breakage.is_broken() && !open.is_empty() {
            let mut waiting = true;
            open.retain(|&port| {
                let next = self.transmit_turn(port).unwrap_or(Next::Driver);
                waiting &= next != Next::Turn;
                next != Next::Driver
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if waiting {
                self.wait_for_output(&open, left);
            }
        }
        self.retired = Retired::default();
        for ends in &mut self.ends {
            ends.output.finish();
        }
        (0..self.ends.len()).map(|port| self.pending(port)).sum()
    }

    /// Waits until one of these ports' outputs takes bytes.
    fn wait_for_output(&self, ports: &[usize], limit: std::time::Duration) {
        let fds: Vec<(BorrowedFd<'_>, libc::c_short)> = ports
            .iter()
            .filter_map(|&port| self.ends.get(port)?.output.borrow_fd())
            .map(|fd| (fd, libc::POLLOUT))
            .collect();
        if !fds.is_empty() {
            // An error (a signal) is an early look at the outputs.
            let _ = sys::poll(&fds, limit);
        }
    }

    /// Bytes in a transmit ring.
    fn pending(&mut self, port: usize) -> u64 {
        let memory = self.memory.clone();
        let done = self.work.get(port).map_or(0, |w| w.tx_done);
        if !self.control.is_present(port) {
            return 0;
        }
        let Some(q) = self.queue(tx_queue(port)) else { return 0 };
        // At most the ring's descriptors: the batch is not for a system call.
        let batch = ring::peek(&mut q.queue, &memory, Direction::FromGuest, done, usize::MAX);
        batch.map_or(0, |b| b.spans.iter().map(|s| s.len as u64).sum())
    }
}

/// The descriptor to watch.
fn watch(next: Next, fd: Option<RawFd>) -> Option<RawFd> {
    fd.filter(|_| next == Next::Host)
}

/// A full disk may have room again later.
fn is_out_of_space(outcome: &io::Result<usize>) -> bool {
    let code = outcome.as_ref().err().and_then(io::Error::raw_os_error);
    matches!(code, Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}
