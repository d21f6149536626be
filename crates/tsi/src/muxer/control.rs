//! Requests of the guest's TSI sockets.
//!
//! Any process of the guest can send these messages with any port in them. So a record belongs to the
//! control socket that made it, and others get the answer for a socket that does not exist.

use std::time::Instant;

use super::{Body, Key, Muxer, Record};
use crate::dgram::Dgram;
use crate::io::Disposition;
use crate::listener::AcceptAnswer;
use crate::slots::Id;
use crate::stream::{Origin, Phase, Stream};
use crate::wire::{
    AddrError, CONTROL_PORTS, Family, Header, Reply, Request, SockAddr, SocketType, TSI_PORT, control, errno,
    op,
};

impl Muxer {
    /// A datagram: a request, or data of a datagram socket.
    pub(super) fn datagram_packet(&mut self, now: Instant, header: &Header, request: &[u8]) -> Disposition {
        if header.op != op::RW {
            self.stats.strays += 1;
            return Disposition::Done;
        }
        let (from, to) = (header.src_port, header.dst_port);
        let sender = self.find(Key::datagram(from, TSI_PORT));
        if let Some(id) = sender {
            if to == control::SENDTO_DATA {
                return self.send_to(now, id);
            }
            if to == from {
                return self.send_connected(now, id);
            }
        }
        if CONTROL_PORTS.contains(&to) && to != control::SENDTO_DATA {
            self.request(now, from, to, request);
        } else {
            self.stats.strays += 1;
        }
        Disposition::Done
    }

    fn request(&mut self, now: Instant, csocket: u32, to: u32, bytes: &[u8]) {
        let has_reply = matches!(to, control::CONNECT | control::GETNAME | control::LISTEN | control::ACCEPT);
        let Ok(request) = Request::parse(to, bytes) else {
            self.stats.strays += 1;
            if has_reply {
                // A thread of the guest may wait for it.
                self.reply_result(to, csocket, -errno::EINVAL);
            }
            return;
        };
        match request {
            Request::Create { port, socket } => self.create(csocket, port, socket),
            Request::Connect { port, addr } => self.connect(now, csocket, port, addr),
            Request::GetName { port, host_port, peer } => self.get_name(csocket, port, host_port, peer),
            Request::SendTo { port, addr } => self.set_destination(now, csocket, port, addr),
            Request::Listen { port, vm_port, backlog, addr } => {
                self.listen(csocket, (port, vm_port), backlog, addr);
            }
            Request::Accept { port, nonblocking } => self.accept(csocket, port, nonblocking),
            Request::Release { port, host_port } => self.release(now, csocket, port, host_port),
        }
    }

    /// The record of this port that belongs to this control socket. A stream and a datagram socket may have
    /// the same port.
    pub(super) fn owned(&self, csocket: u32, port: u32) -> Option<Id> {
        let keys = [Key::stream(port, TSI_PORT), Key::datagram(port, TSI_PORT)];
        let found = keys.into_iter().filter_map(|key| self.find(key));
        found.into_iter().find(|&id| self.records.get(id).is_some_and(|r| r.csocket == Some(csocket)))
    }

    /// The record of these ports, if it belongs to this control socket; it does from now on if it belonged
    /// to none.
    fn pinned(&mut self, csocket: u32, key: Key) -> Option<Id> {
        let id = self.find(key)?;
        let record = self.records.get_mut(id)?;
        if !record.is_tsi() {
            return None;
        }
        (*record.csocket.get_or_insert(csocket) == csocket).then_some(id)
    }

    fn create(&mut self, csocket: u32, port: u32, socket: Option<(Family, SocketType)>) {
        let Some((family, kind)) = socket.filter(|(family, _)| self.config.tsi.allows(*family)) else {
            return;
        };
        let (key, body) = match kind {
            SocketType::Stream => {
                (Key::stream(port, TSI_PORT), Body::Stream(Stream::new(Origin::Tsi, Phase::Created)))
            }
            SocketType::Datagram => (Key::datagram(port, TSI_PORT), Body::Dgram(Dgram::new(family))),
        };
        if let Some(id) = self.find(key) {
            if !self.records.get(id).is_some_and(|r| r.csocket == Some(csocket) && r.is_unused()) {
                return;
            }
            self.remove(id);
        }
        if let Some(id) = self.add_record(Record::new(key, Some(csocket), family, body)) {
            self.note_unused(id);
        }
    }

    fn connect(&mut self, now: Instant, csocket: u32, port: u32, addr: Result<SockAddr, AddrError>) {
        let known = self.owned(csocket, port);
        let Some((id, record)) = known.and_then(|id| Some((id, self.records.get(id)?))) else {
            return self.reply_result(control::CONNECT, csocket, -errno::ECONNREFUSED);
        };
        let addr = addr.and_then(|addr| {
            let family = addr.family();
            if family == record.family { Ok(addr) } else { Err(AddrError::Family(family as u16)) }
        });
        match (addr, &record.body) {
            (Err(e), _) => self.reply_result(control::CONNECT, csocket, -e.errno()),
            (Ok(_), Body::Listener(_)) => {
                self.reply_result(control::CONNECT, csocket, -errno::EISCONN);
            }
            (Ok(addr), Body::Stream(_)) => self.connect_stream(now, id, csocket, addr),
            (Ok(addr), Body::Dgram(_)) => self.connect_dgram(now, id, csocket, addr),
        }
    }

    fn get_name(&mut self, csocket: u32, port: u32, host_port: u32, peer: bool) {
        let keys = [Key::stream(port, host_port), Key::datagram(port, host_port)];
        let id = keys.into_iter().find_map(|key| self.pinned(csocket, key));
        let Some(record) = id.and_then(|id| self.records.get(id)) else {
            return self.reply_result(control::GETNAME, csocket, -errno::EINVAL);
        };
        let name = match &record.body {
            Body::Stream(stream) if peer => stream.peer.clone(),
            Body::Dgram(dgram) if peer => dgram.peer_name.clone(),
            Body::Listener(listener) if !peer => Some(listener.requested.clone()),
            _ if !peer => Some(SockAddr::unspecified(record.family)),
            _ => None,
        };
        let reply = name.map_or(Reply::Result(-errno::ENOTCONN), Reply::Name);
        self.reply(control::GETNAME, csocket, reply);
    }

    fn accept(&mut self, csocket: u32, port: u32, nonblocking: bool) {
        let id = self.owned(csocket, port);
        let answer = match id.and_then(|id| self.records.get_mut(id)).map(|r| &mut r.body) {
            Some(Body::Listener(listener)) => listener.accept(csocket, nonblocking),
            Some(Body::Dgram(_)) => AcceptAnswer::Now(-errno::EOPNOTSUPP),
            Some(Body::Stream(_)) | None => AcceptAnswer::Now(-errno::EINVAL),
        };
        if let AcceptAnswer::Now(result) = answer {
            self.reply_result(control::ACCEPT, csocket, result);
        }
        if let Some(id) = id {
            // There is room for one more.
            self.take_connections(id);
        }
    }

    /// The guest sends one for every socket, also those that never left it.
    fn release(&mut self, now: Instant, csocket: u32, port: u32, host_port: u32) {
        let keys = [Key::stream(port, host_port), Key::datagram(port, host_port)];
        let Some(id) = keys.into_iter().find_map(|key| self.pinned(csocket, key)) else { return };
        match self.stream_mut(id).map(|s| &s.phase) {
            // The listener has room for another.
            Some(Phase::Handshake(_)) => return self.drop_offer(id),
            Some(Phase::Open) => self.finish(now, id),
            _ => {}
        }
        self.remove(id);
    }
}

impl Record {
    /// Made by a TSI socket.
    pub(super) fn is_tsi(&self) -> bool {
        match &self.body {
            Body::Stream(stream) => stream.origin == Origin::Tsi,
            Body::Listener(listener) => !listener.is_port,
            Body::Dgram(_) => true,
        }
    }

    /// Announced, and nothing more.
    pub(super) fn is_unused(&self) -> bool {
        match &self.body {
            Body::Stream(stream) => stream.phase == Phase::Created,
            Body::Listener(_) => false,
            Body::Dgram(dgram) => dgram.socket.is_none() && dgram.redirected.is_empty(),
        }
    }
}
