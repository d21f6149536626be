//! From the guest to sockets.

use std::time::Instant;

use purlin_vmm_core::memory::VolatileSlice;

use super::courtesy::Courtesy;
use super::host::Host;
use super::turn::Turn;
use super::tx::{self, TxPacket};
use super::worker::{RingError, VsockWorker};
use crate::io::{Disposition, SocketId};

/// Packets taken from the guest before it gets its own.
const TX_BATCH: usize = 256;

/// Payload of one stream, from packets one after another, on its way to the socket.
#[derive(Default)]
struct Batch<'m> {
    socket: Option<SocketId>,
    pieces: Vec<VolatileSlice<'m>>,
}

impl VsockWorker {
    /// Takes packets of the guest. True if there are more.
    pub(super) fn transmit(
        &mut self,
        turn: &Turn<'_>,
        host: &mut Host,
        now: Instant,
    ) -> Result<bool, RingError> {
        let mut batch = Batch::default();
        let mut pieces = Vec::new();
        let mut more = true;
        let (mut is_prelude, mut times) = (false, 0);
        for _ in 0..TX_BATCH {
            if host.muxer.is_choked() {
                // Goes on when the guest has taken messages.
                more = false;
                break;
            }
            let Some(packet) = self.tx.next(turn, &mut pieces)? else {
                // What can be done now goes first.
                let idle = !host.muxer.wants_buffers() && !self.rx.interrupt_is_urgent();
                if std::mem::take(&mut is_prelude) && idle && self.courtesy.give_way(now, &mut times) {
                    continue;
                }
                more = self.tx.ask_for_more(turn)?;
                if more {
                    continue;
                }
                break;
            };
            is_prelude = packet.header.as_ref().is_some_and(Courtesy::is_prelude);
            self.packet(host, now, &packet, &pieces, &mut batch);
            self.taken.push(packet.head);
        }
        self.write_batch(host, now, &mut batch);
        host.act(now);
        // Not before: what was not written yet is still in the guest's buffers.
        self.tx.give_back(turn, self.taken.drain(..))?;
        Ok(more)
    }

    fn packet<'m>(
        &mut self,
        host: &mut Host,
        now: Instant,
        packet: &TxPacket,
        pieces: &[VolatileSlice<'m>],
        batch: &mut Batch<'m>,
    ) {
        let Some(header) = packet.header else { return };
        if !packet.whole {
            self.write_batch(host, now, batch);
            host.muxer.handle_malformed(now, &header);
            return host.act(now);
        }
        let mut request = [0; crate::wire::MAX_REQUEST];
        let wanted = host.muxer.wants(&header).min(request.len());
        let request = request.get_mut(..wanted).unwrap_or_default();
        tx::copy(pieces, request);
        match host.muxer.handle_packet(now, &header, request) {
            Disposition::Stream(socket) => {
                if batch.socket != Some(socket) {
                    self.write_batch(host, now, batch);
                    batch.socket = Some(socket);
                }
                batch.pieces.extend_from_slice(pieces);
            }
            Disposition::Datagram { socket, to, preamble } => {
                host.send_datagram(now, socket, to.as_ref(), preamble, &mut self.vecs, pieces);
            }
            Disposition::Done => {
                self.write_batch(host, now, batch);
                host.act(now);
            }
        }
    }

    /// Writes the payload collected so far.
    fn write_batch(&mut self, host: &mut Host, now: Instant, batch: &mut Batch<'_>) {
        let Some(socket) = batch.socket.take() else { return };
        host.write(now, socket, &mut self.vecs, &batch.pieces);
        batch.pieces.clear();
        host.act(now);
    }
}
