//! The data of open streams: who may read how much, and what the counts mean.

use std::time::Instant;

use super::{Body, Burst, Key, Message, Muxer, Owner};
use crate::credit::Credit;
use crate::io::{Action, Grant, GrantKind, ReadOutcome, SocketId};
use crate::slots::Id;
use crate::wire::{Family, Header, SockAddr, TSI_PORT, op, shut};

/// Packets one stream may fill before the next has its turn.
const TURN: u32 = 16;
/// The same while no other has anything to say.
const TURN_ALONE: u32 = 64;

impl Muxer {
    /// Notes that there is something to read.
    pub(super) fn readable(&mut self, socket: SocketId) {
        if let Some(entry) = self.sockets.get_mut(socket.0) {
            entry.readable = true;
        }
        self.schedule(socket);
    }

    /// Puts a socket in the list of those to read from, if it can be read from.
    pub(super) fn schedule(&mut self, socket: SocketId) {
        let Some(entry) = self.sockets.get(socket.0).filter(|s| s.readable && !s.queued) else { return };
        let Owner::Record(id) = entry.owner else { return };
        let wanted = match self.records.get(id).map(|r| &r.body) {
            Some(Body::Stream(stream)) => stream.may_read() && stream.credit.allowance(1).packets > 0,
            Some(Body::Dgram(_)) => true,
            _ => false,
        };
        if !wanted {
            return;
        }
        if let Some(entry) = self.sockets.get_mut(socket.0) {
            entry.queued = true;
        }
        self.ready.push_back(socket);
    }

    /// Whose turn it is to be read from. `packet` is the payload one receive buffer takes. Answer with
    /// [`Muxer::handle_read`] before asking again. Gives nothing while [`Muxer::packet_len`] gives something.
    pub fn poll_grant(&mut self, packet: u32) -> Option<Grant> {
        if self.packet_len().is_some() {
            return None;
        }
        while let Some(socket) = self.ready.pop_front() {
            let alone = self.ready.is_empty();
            let Some(entry) = self.sockets.get_mut(socket.0) else { continue };
            entry.queued = false;
            let Owner::Record(id) = entry.owner else { continue };
            match self.records.get(id).map(|r| &r.body) {
                Some(Body::Dgram(_)) => return Some(Grant { socket, what: GrantKind::Datagram }),
                Some(Body::Stream(stream)) if stream.may_read() => {
                    let room = stream.credit.allowance(packet);
                    if room.packets > 0 {
                        let packets = room.packets.min(if alone { TURN_ALONE } else { TURN });
                        let bytes = room.bytes.min(packets.saturating_mul(packet));
                        return Some(Grant { socket, what: GrantKind::Stream { bytes, packets } });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Header of a packet with `len` bytes read from a stream; in the order the bytes were read. `None` if
    /// the stream is gone.
    pub fn stream_header(&mut self, socket: SocketId, len: u32) -> Option<Header> {
        let (credit, header) = self.read_header(socket)?;
        credit.send(len);
        Some(Header { len, ..header })
    }

    /// Headers of the packets of one read, at least one; as [`Muxer::stream_header`] for each of them.
    pub fn stream_burst(&mut self, socket: SocketId) -> Option<Burst<'_>> {
        self.read_header(socket).map(|(credit, header)| Burst::new(credit, header))
    }

    /// The header of a packet of a stream, but for its length.
    fn read_header(&mut self, socket: SocketId) -> Option<(&mut Credit, Header)> {
        let Owner::Record(id) = self.sockets.get(socket.0)?.owner else { return None };
        let key = self.records.get(id)?.key;
        let mut header = self.header_to_guest(key, op::RW);
        let stream = self.stream_mut(id)?;
        (header.buf_alloc, header.fwd_cnt) = stream.credit.announce();
        Some((&mut stream.credit, header))
    }

    /// Header of a packet with one datagram of `len` bytes from `from`; `None` if it is not for the guest.
    pub fn datagram_header(&mut self, socket: SocketId, from: Option<&SockAddr>, len: u32) -> Option<Header> {
        let Owner::Record(id) = self.sockets.get(socket.0)?.owner else { return None };
        let guest = self.records.get(id)?.key.guest;
        let dgram = self.dgram_mut(id)?;
        let redirected = dgram.by_socket(socket).is_some();
        if !redirected && !dgram.expects(from) {
            self.stats.datagrams_dropped += 1;
            return None;
        }
        let key = Key::datagram(guest, TSI_PORT);
        Some(Header { len, ..self.header_to_guest(key, op::RW) })
    }

    /// A datagram was larger than a receive buffer and was dropped.
    pub fn datagram_too_long(&mut self) {
        self.stats.datagrams_dropped += 1;
    }

    /// How using a [`Grant`] ended.
    pub fn handle_read(&mut self, now: Instant, socket: SocketId, outcome: ReadOutcome) {
        let _ = now;
        let Some(entry) = self.sockets.get_mut(socket.0) else { return };
        let Owner::Record(id) = entry.owner else { return };
        let hung_up = entry.hung_up;
        match outcome {
            ReadOutcome::More => self.schedule(socket),
            ReadOutcome::Drained => entry.readable = false,
            ReadOutcome::End => {
                entry.readable = false;
                self.host_end(id, hung_up);
            }
            ReadOutcome::Failed if self.dgram_mut(id).is_some() => self.schedule(socket),
            ReadOutcome::Failed => self.host_broken(id),
        }
    }

    /// The host sends no more; everything it sent is in packets already.
    fn host_end(&mut self, id: Id, hung_up: bool) {
        let Some(record) = self.records.get(id) else { return };
        // A unix peer that hung up does not read either. A TCP peer may: its FIN says only that it sends
        // no more.
        let gone = hung_up && record.family == Family::Unix;
        let flags = if gone { shut::BOTH } else { shut::SEND };
        let Some(stream) = self.stream_mut(id).filter(|s| s.is_open()) else { return };
        let news = flags & !stream.host_shut;
        stream.host_shut |= flags;
        if news != 0 {
            self.tell(id, op::SHUTDOWN, flags);
        }
    }

    /// The host's socket took `n` bytes.
    pub(super) fn written(&mut self, _now: Instant, id: Id, n: u32) {
        let Some(stream) = self.stream_mut(id) else { return };
        let n = n.min(stream.credit.unread());
        stream.credit.consume(n);
        self.buffered = self.buffered.saturating_sub(n.into());
        self.announce(id, false);
        self.pass_on_fin(id);
    }

    /// Queues a CREDIT_UPDATE if one is due or demanded, and none is queued.
    pub(super) fn announce(&mut self, id: Id, demanded: bool) {
        let Some(record) = self.records.get(id) else { return };
        let header = self.header_to_guest(record.key, op::CREDIT_UPDATE);
        let Some(stream) = self.stream_mut(id).filter(|s| s.is_open()) else { return };
        if stream.update_queued || !(demanded || stream.credit.update_due()) {
            return;
        }
        stream.update_queued = true;
        self.messages.push_back(Message { demanded, ..Message::new(Some(id), header) });
    }

    /// The guest's end of data goes to the socket once all bytes before it have.
    pub(super) fn pass_on_fin(&mut self, id: Id) {
        let Some(stream) = self.stream_mut(id) else { return };
        if !stream.fin_due || stream.credit.unread() > 0 {
            return;
        }
        stream.fin_due = false;
        if let Some(socket) = stream.socket {
            self.actions.push_back(Action::ShutdownWrite { socket });
        }
    }
}
