//! From sockets to the guest.

use std::io;
use std::time::Instant;

use purlin_vmm_core::memory::VolatileSlice;

use super::host::Host;
use super::sys;
use super::traffic::SCRATCH;
use super::turn::Turn;
use super::worker::{RingError, VsockWorker};
use crate::io::{GrantKind, ReadOutcome, SocketId};
use crate::wire::HEADER_LEN;

/// Reads from sockets before the guest's packets have their turn.
const RX_BATCH: usize = 64;

impl VsockWorker {
    /// Fills the guest's receive buffers. True if there is more to do at once.
    pub(super) fn receive(
        &mut self,
        turn: &Turn<'_>,
        host: &mut Host,
        now: Instant,
    ) -> Result<bool, RingError> {
        if self.events.holds() {
            return Ok(false);
        }
        let was_choked = host.muxer.is_choked();
        for _ in 0..RX_BATCH {
            let least = host.muxer.packet_len();
            if least.is_none() && !host.muxer.wants_buffers() {
                return Ok(false);
            }
            if !self.rx.has(turn, least.unwrap_or(HEADER_LEN + 1))? {
                let more = self.rx.ask_for_more(turn)?;
                return Ok(more || (was_choked && !host.muxer.is_choked()));
            }
            if least.is_some() {
                self.message(turn, host)?;
            } else {
                self.read_socket(turn, host, now)?;
            }
            self.rx.publish(turn)?;
        }
        Ok(true)
    }

    fn message(&mut self, turn: &Turn<'_>, host: &mut Host) -> Result<(), RingError> {
        let Some(packet) = host.muxer.poll_packet() else { return Ok(()) };
        let payload = packet.payload.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        Ok(self.rx.put(turn, &packet.header.emit(), payload, packet.lazy)?)
    }

    fn read_socket(&mut self, turn: &Turn<'_>, host: &mut Host, now: Instant) -> Result<(), RingError> {
        let room = self.rx.payload_room();
        let Some(grant) = host.muxer.poll_grant(room) else { return Ok(()) };
        let outcome = match grant.what {
            GrantKind::Stream { bytes, packets } => {
                self.read_stream(turn, host, now, grant.socket, (bytes, packets))?
            }
            GrantKind::Datagram => self.read_datagram(turn, host, now, grant.socket)?,
        };
        host.muxer.handle_read(now, grant.socket, outcome);
        host.act(now);
        Ok(())
    }

    fn read_stream(
        &mut self,
        turn: &Turn<'_>,
        host: &mut Host,
        now: Instant,
        socket: SocketId,
        (bytes, packets): (u32, u32),
    ) -> Result<ReadOutcome, RingError> {
        let granted = host.budget(now, socket, bytes as usize);
        if granted == 0 {
            host.park_read(socket);
            return Ok(ReadOutcome::Drained);
        }
        let Some(sock) = host.sockets.get(socket) else { return Ok(ReadOutcome::Drained) };
        let packets = (packets as usize).min(sock.appetite);
        let mut slices = Vec::with_capacity(packets);
        // No more than the read below takes: a short read says that there is nothing left.
        let most = if sock.tapped { granted.min(SCRATCH) } else { granted };
        let offered = self.rx.gather(turn, packets, most, &mut slices)?;
        let result = if sock.tapped {
            host.read_tapped(now, socket, &slices)
        } else {
            sys::read(sock.fd(), &mut self.vecs, &slices)
        };
        host.spent(socket, granted, *result.as_ref().unwrap_or(&0));
        let n = match result {
            Ok(0) => {
                host.note_hang_up(now, socket);
                return Ok(ReadOutcome::End);
            }
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(ReadOutcome::More),
            Err(_) => return Ok(ReadOutcome::Failed),
        };
        let mut left = n as u32;
        let mut used = 0;
        if let Some(mut burst) = host.muxer.stream_burst(socket) {
            while left > 0 {
                let len = left.min(self.rx.payload_room());
                self.rx.complete(turn, burst.packet(len), len)?;
                left -= len;
                used += 1;
            }
        }
        let all = n == offered;
        let Some(sock) = host.sockets.get(socket) else { return Ok(ReadOutcome::Drained) };
        sock.learn(used, all);
        Ok(match all {
            false if sock.short_read_is_the_end() => ReadOutcome::End,
            false if sock.short_read_is_all() => ReadOutcome::Drained,
            _ => ReadOutcome::More,
        })
    }

    fn read_datagram(
        &mut self,
        turn: &Turn<'_>,
        host: &mut Host,
        now: Instant,
        socket: SocketId,
    ) -> Result<ReadOutcome, RingError> {
        if host.budget(now, socket, 1) == 0 {
            host.park_read(socket);
            return Ok(ReadOutcome::Drained);
        }
        let Some(sock) = host.sockets.get(socket) else { return Ok(ReadOutcome::Drained) };
        let mut slices: Vec<VolatileSlice<'_>> = Vec::with_capacity(1);
        let room = self.rx.gather(turn, 1, usize::MAX, &mut slices)?;
        let result = if sock.tapped {
            host.receive_tapped(now, socket, &slices)
        } else {
            sys::receive(sock.fd(), &mut self.vecs, &slices)
        };
        let (len, from) = match result {
            Ok(got) => got,
            Err(e) => {
                host.spent(socket, 1, 0);
                // Other errors are answers to something sent before; they are taken by having been told.
                let nothing = e.kind() == io::ErrorKind::WouldBlock;
                return Ok(if nothing { ReadOutcome::Drained } else { ReadOutcome::Failed });
            }
        };
        // It is here already; later ones wait the longer.
        host.budget(now, socket, len.saturating_sub(1));
        if len > room {
            host.muxer.datagram_too_long();
            return Ok(ReadOutcome::More);
        }
        let from = from.and_then(super::addr::from_os);
        if let Some(header) = host.muxer.datagram_header(socket, from.as_ref(), len as u32) {
            self.rx.complete(turn, &header.emit(), len as u32)?;
        }
        Ok(ReadOutcome::More)
    }
}
