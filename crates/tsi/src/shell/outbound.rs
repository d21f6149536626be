//! From the guest to sockets.

use std::time::Instant;

use purlin_vmm_core::memory::GuestRam;

use super::host::Host;
use super::tx::{self, Piece, TxPacket};
use super::worker::{RingError, VsockWorker};
use crate::io::{Disposition, SocketId};

/// Packets taken from the guest before it gets its own.
const TX_BATCH: usize = 256;

/// Payload of one stream, from packets one after another, on its way to the socket.
#[derive(Default)]
pub(super) struct Batch {
    socket: Option<SocketId>,
    pieces: Vec<Piece>,
}

impl VsockWorker {
    /// Takes packets of the guest. True if there are more.
    pub(super) fn transmit(
        &mut self,
        ram: &GuestRam,
        host: &mut Host,
        now: Instant,
    ) -> Result<bool, RingError> {
        let mut pieces = std::mem::take(&mut self.pieces);
        let mut more = true;
        for _ in 0..TX_BATCH {
            if host.muxer.is_choked() {
                // Goes on when the guest has taken messages.
                more = false;
                break;
            }
            let Some(packet) = self.tx.next(ram, &mut pieces)? else {
                more = self.tx.ask_for_more(ram)?;
                if more {
                    continue;
                }
                break;
            };
            self.packet(ram, host, now, &packet, &pieces)?;
            self.taken.push(packet.head);
        }
        self.pieces = pieces;
        self.write_batch(ram, host, now)?;
        host.act(now);
        // Not before: what was not written yet is still in the guest's buffers.
        for head in self.taken.drain(..) {
            self.tx.give_back(ram, head)?;
        }
        Ok(more)
    }

    fn packet(
        &mut self,
        ram: &GuestRam,
        host: &mut Host,
        now: Instant,
        packet: &TxPacket,
        pieces: &[Piece],
    ) -> Result<(), RingError> {
        let Some(header) = packet.header else { return Ok(()) };
        if !packet.whole {
            self.write_batch(ram, host, now)?;
            host.muxer.handle_malformed(now, &header);
            host.act(now);
            return Ok(());
        }
        let mut request = [0; crate::wire::MAX_REQUEST];
        let wanted = host.muxer.wants(&header).min(request.len());
        let request = request.get_mut(..wanted).unwrap_or_default();
        tx::copy(ram, pieces, request)?;
        match host.muxer.handle_packet(now, &header, request) {
            Disposition::Stream(socket) => {
                if self.batch.socket != Some(socket) {
                    self.write_batch(ram, host, now)?;
                    self.batch.socket = Some(socket);
                }
                self.batch.pieces.extend_from_slice(pieces);
            }
            Disposition::Datagram { socket, to, preamble } => {
                let mut slices = Vec::with_capacity(pieces.len());
                tx::slices(ram, pieces, &mut slices)?;
                host.send_datagram(now, socket, to.as_ref(), preamble, &mut self.vecs, &slices);
            }
            Disposition::Done => {
                self.write_batch(ram, host, now)?;
                host.act(now);
            }
        }
        Ok(())
    }

    /// Writes the payload collected so far.
    fn write_batch(&mut self, ram: &GuestRam, host: &mut Host, now: Instant) -> Result<(), RingError> {
        let Some(socket) = self.batch.socket.take() else { return Ok(()) };
        let mut slices = Vec::with_capacity(self.batch.pieces.len());
        tx::slices(ram, &self.batch.pieces, &mut slices)?;
        host.write(now, socket, &mut self.vecs, &slices);
        self.batch.pieces.clear();
        host.act(now);
        Ok(())
    }
}
