//! Packets of the guest.

use std::time::Instant;

use super::{Body, Key, Message, Muxer};
use crate::io::Disposition;
use crate::slots::Id;
use crate::stream::{Origin, Phase};
use crate::wire::{CONTROL_PORTS, HOST_CID, Header, MAX_PAYLOAD, control, kind, op, shut};

impl Muxer {
    /// How many bytes of the payload [`Muxer::handle_packet`] must see: those of a request, cut to what any
    /// request needs. 0 for all other packets.
    pub fn wants(&self, header: &Header) -> usize {
        let is_request = header.kind == kind::DGRAM
            && CONTROL_PORTS.contains(&header.dst_port)
            && header.dst_port != control::SENDTO_DATA;
        if is_request { (header.len as usize).min(crate::wire::MAX_REQUEST) } else { 0 }
    }

    /// Takes one packet. `request` holds the first [`Muxer::wants`] bytes of the payload.
    pub fn handle_packet(&mut self, now: Instant, header: &Header, request: &[u8]) -> Disposition {
        if !self.is_for_us(header) {
            self.stats.strays += 1;
            return Disposition::Done;
        }
        if header.len > MAX_PAYLOAD {
            self.handle_malformed(now, header);
            return Disposition::Done;
        }
        match header.kind {
            kind::STREAM => self.stream_packet(now, header),
            kind::DGRAM => self.datagram_packet(now, header, request),
            _ => {
                self.refuse(header);
                Disposition::Done
            }
        }
    }

    /// Takes a packet whose buffers hold fewer bytes than its header says: its connection is reset, a
    /// datagram is dropped.
    pub fn handle_malformed(&mut self, now: Instant, header: &Header) {
        if !self.is_for_us(header) || header.kind != kind::STREAM {
            self.stats.strays += 1;
            return;
        }
        match self.find(Key::stream(header.src_port, header.dst_port)) {
            Some(id) => self.violation(now, id),
            None => self.refuse(header),
        }
    }

    fn is_for_us(&self, header: &Header) -> bool {
        header.src_cid == self.config.cid && header.dst_cid == HOST_CID
    }

    /// RST to a packet that belongs to nothing. Never to an RST, and never to a datagram.
    fn refuse(&mut self, header: &Header) {
        self.stats.strays += 1;
        if header.op == op::RST || !matches!(header.kind, kind::STREAM | kind::SEQPACKET) {
            return;
        }
        let key = Key::stream(header.src_port, header.dst_port);
        // A guest that closes has gone on.
        let lazy = header.op == op::SHUTDOWN;
        let header = Header { kind: header.kind, ..self.header_to_guest(key, op::RST) };
        self.messages.push_back(Message { lazy, ..Message::new(None, header) });
    }

    fn stream_packet(&mut self, now: Instant, header: &Header) -> Disposition {
        let Some(id) = self.find(Key::stream(header.src_port, header.dst_port)) else {
            if header.op != op::REQUEST || !self.port_request(now, header) {
                self.refuse(header);
            }
            return Disposition::Done;
        };
        let phase = match self.records.get(id).map(|r| &r.body) {
            Some(Body::Stream(stream)) => &stream.phase,
            _ => {
                // A listener's own pair of ports carries no stream.
                self.refuse(header);
                return Disposition::Done;
            }
        };
        match phase {
            Phase::Open => return self.open_packet(now, id, header),
            Phase::Handshake(_) => self.handshake_packet(now, id, header),
            Phase::AwaitRequest => self.awaited_packet(now, id, header),
            Phase::Connecting(_) => self.early_packet(now, id, header),
            Phase::Created | Phase::Dead => self.refuse(header),
        }
        Disposition::Done
    }

    /// A packet of an open stream.
    fn open_packet(&mut self, now: Instant, id: Id, header: &Header) -> Disposition {
        if header.op == op::RST {
            self.guest_reset(now, id);
            return Disposition::Done;
        }
        let Some(stream) = self.stream_mut(id) else { return Disposition::Done };
        if stream.credit.peer(header.buf_alloc, header.fwd_cnt).is_err() {
            self.violation(now, id);
            return Disposition::Done;
        }
        let socket = stream.socket;
        let disposition = match header.op {
            op::RW => self.payload(now, id, header.len),
            op::SHUTDOWN => {
                self.guest_shutdown(now, id, header.flags);
                Disposition::Done
            }
            op::CREDIT_REQUEST => {
                self.announce(id, true);
                Disposition::Done
            }
            // The guest believes the old connection is gone.
            op::REQUEST => {
                self.violation(now, id);
                Disposition::Done
            }
            _ => Disposition::Done,
        };
        if let Some(socket) = socket {
            // There may be room again.
            self.schedule(socket);
        }
        disposition
    }

    fn payload(&mut self, now: Instant, id: Id, len: u32) -> Disposition {
        let over_cap = self.buffered.saturating_add(len.into()) > self.config.limits.buffered;
        let Some(stream) = self.stream_mut(id) else { return Disposition::Done };
        let shut = stream.guest_shut & shut::SEND != 0;
        let Some(socket) = stream.socket.filter(|_| !shut && !over_cap) else {
            self.violation(now, id);
            return Disposition::Done;
        };
        if stream.credit.receive(len).is_err() {
            self.violation(now, id);
            return Disposition::Done;
        }
        if len == 0 {
            return Disposition::Done;
        }
        self.buffered = self.buffered.saturating_add(len.into());
        Disposition::Stream(socket)
    }

    fn guest_shutdown(&mut self, now: Instant, id: Id, flags: u32) {
        let Some(stream) = self.stream_mut(id) else { return };
        let before = stream.guest_shut;
        stream.guest_shut |= flags & shut::BOTH;
        if stream.guest_shut == shut::BOTH {
            // Completes the guest's close, which otherwise holds its port for 8 s. Nobody waits for it.
            let reset = self.message(id, op::RST, 0);
            self.messages.extend(reset.map(|reset| Message { lazy: true, ..reset }));
            self.finish(now, id);
        } else if stream.guest_shut & !before & shut::SEND != 0 {
            stream.fin_due = true;
            self.pass_on_fin(id);
        }
    }

    fn guest_reset(&mut self, now: Instant, id: Id) {
        let Some(stream) = self.stream_mut(id) else { return };
        if stream.host_shut == shut::BOTH {
            // A guest that saw both directions shut closes like this.
            self.finish(now, id);
        } else {
            self.abort(id);
        }
    }

    /// A packet of a connection the host offered.
    fn handshake_packet(&mut self, now: Instant, id: Id, header: &Header) {
        match header.op {
            op::RESPONSE => self.established(id, header),
            op::RST => self.offer_refused(now, id),
            _ => {}
        }
    }

    /// A packet between the reply to CONNECT and the REQUEST that follows it.
    fn awaited_packet(&mut self, now: Instant, id: Id, header: &Header) {
        match header.op {
            op::REQUEST => self.open_outbound(id, (header.buf_alloc, header.fwd_cnt)),
            op::RST => self.abort(id),
            _ => self.violation(now, id),
        }
    }

    /// A packet while the host still connects.
    fn early_packet(&mut self, now: Instant, id: Id, header: &Header) {
        if header.op == op::REQUEST && self.hold_request(id, (header.buf_alloc, header.fwd_cnt)) {
            return;
        }
        let is_port = self.stream_mut(id).is_some_and(|s| s.origin == Origin::Port);
        if header.op == op::RST && is_port {
            self.abort(id);
        } else if is_port {
            self.violation(now, id);
        } else {
            self.refuse(header);
        }
    }
}
