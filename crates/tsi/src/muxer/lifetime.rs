//! How records and sockets begin and end.

use std::time::Instant;

use super::{Body, Flushing, Muxer, Owner, Record, Socket};
use crate::io::{Action, SocketId};
use crate::limits::MIN_WINDOW;
use crate::slots::Id;
use crate::stream::{Origin, Phase};
use crate::timers::Timer;
use crate::wire::{SockAddr, op};

impl Muxer {
    /// Adds a record under its key. `None` at the limit, if nothing can be forgotten.
    pub(super) fn add_record(&mut self, record: Record) -> Option<Id> {
        while self.records.len() >= self.config.limits.records {
            let oldest = self.next_unused().or_else(|| self.next_dead())?;
            self.remove(oldest);
        }
        let key = record.key;
        let id = self.records.insert(record);
        self.by_key.insert(key, id);
        Some(id)
    }

    /// A record that was announced only; may be forgotten.
    pub(super) fn note_unused(&mut self, id: Id) {
        self.list_unused(id);
        if self.unused.len() > self.config.limits.unused
            && let Some(oldest) = self.unused.pop_front()
            && self.unlisted_unused(oldest)
        {
            self.remove(oldest);
        }
    }

    /// One that is listed already keeps its place.
    pub(super) fn list_unused(&mut self, id: Id) {
        if let Some(record) = self.records.get_mut(id)
            && !std::mem::replace(&mut record.in_unused, true)
        {
            self.unused.push_back(id);
        }
    }

    /// Likewise.
    pub(super) fn list_dead(&mut self, id: Id) {
        if let Some(record) = self.records.get_mut(id)
            && !std::mem::replace(&mut record.in_dead, true)
        {
            self.dead.push_back(id);
        }
    }

    /// The entry is out of the list. True if it was not stale.
    fn unlisted_unused(&mut self, id: Id) -> bool {
        let Some(record) = self.records.get_mut(id) else { return false };
        record.in_unused = false;
        record.is_unused()
    }

    fn next_unused(&mut self) -> Option<Id> {
        while let Some(id) = self.unused.pop_front() {
            if self.unlisted_unused(id) {
                return Some(id);
            }
        }
        None
    }

    fn next_dead(&mut self) -> Option<Id> {
        while let Some(id) = self.dead.pop_front() {
            let Some(record) = self.records.get_mut(id) else { continue };
            record.in_dead = false;
            if matches!(&record.body, Body::Stream(stream) if stream.phase == Phase::Dead) {
                return Some(id);
            }
        }
        None
    }

    /// Takes a record out, with everything it holds.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(record) = self.records.get(id) else { return };
        if self.by_key.get(&record.key) == Some(&id) {
            self.by_key.remove(&record.key);
        }
        if self.stream_mut(id).is_some() {
            self.end_stream(id, None);
        }
        let Some(record) = self.records.remove(id) else { return };
        match record.body {
            Body::Stream(_) => {}
            Body::Listener(listener) => {
                self.listeners.retain(|&other| other != id);
                self.give_share_up(id, &listener);
                let socket = listener.socket;
                if !self.hand_over(listener)
                    && let Some(socket) = socket
                {
                    self.close(socket, false);
                    self.refuse_connects_to(socket);
                }
                self.drop_offers_of(id);
            }
            Body::Dgram(dgram) => {
                self.timers.cancel(dgram.idle);
                for socket in dgram.sockets() {
                    self.close(socket, false);
                }
            }
        }
    }

    /// Connections of a closed listener that the guest has not taken.
    fn drop_offers_of(&mut self, listener: Id) {
        let offers: Vec<Id> = self
            .records
            .iter()
            .filter(|(_, record)| match &record.body {
                Body::Stream(stream) => {
                    matches!(&stream.phase, Phase::Handshake(h) if h.listener == listener)
                }
                _ => false,
            })
            .map(|(id, _)| id)
            .collect();
        for id in offers {
            self.tell(id, op::RST, 0);
            self.remove(id);
        }
    }

    /// The stream becomes open.
    pub(super) fn open(&mut self, id: Id, peer: (u32, u32)) {
        let new_window = self.new_window();
        let Some(stream) = self.stream_mut(id) else { return };
        // One the host offered has told its window already.
        let window = match &stream.phase {
            Phase::Handshake(_) => stream.credit.announce().0,
            _ => new_window,
        };
        stream.open(window, peer);
        let socket = stream.socket;
        self.promised = self.promised.saturating_add(window.into());
        self.stats.streams += 1;
        if let Some(socket) = socket {
            self.schedule(socket);
        }
    }

    /// Receive window of a new connection.
    pub(super) fn new_window(&self) -> u32 {
        let limits = &self.config.limits;
        let plenty = self.promised.saturating_add(limits.window.into()) <= limits.buffered / 2;
        if plenty { limits.window } else { MIN_WINDOW.min(limits.window) }
    }

    /// The guest broke the protocol or a cap.
    pub(super) fn violation(&mut self, _now: Instant, id: Id) {
        self.stats.violations += 1;
        self.host_broken(id);
    }

    /// The connection cannot go on; the guest is told.
    pub(super) fn host_broken(&mut self, id: Id) {
        let Some(stream) = self.stream_mut(id) else { return };
        if matches!(stream.phase, Phase::Handshake(_)) {
            self.tell(id, op::RST, 0);
            return self.drop_offer(id);
        }
        if stream.phase != Phase::Dead && stream.phase != Phase::Created {
            self.tell(id, op::RST, 0);
        }
        self.abort(id);
    }

    /// Ends a stream and drops its bytes.
    pub(super) fn abort(&mut self, id: Id) {
        self.end_stream(id, None);
        self.retire(id);
    }

    /// Ends a stream; its last bytes go out in the background.
    pub(super) fn finish(&mut self, now: Instant, id: Id) {
        self.end_stream(id, Some(now));
        self.retire(id);
    }

    /// After the end of its stream, a record of a TSI socket waits to be released; others go.
    fn retire(&mut self, id: Id) {
        match self.stream_mut(id).map(|s| s.origin) {
            Some(Origin::Port) => self.remove(id),
            Some(Origin::Tsi) => {
                self.list_dead(id);
                if self.dead.len() > self.config.limits.records.saturating_mul(2) {
                    let records = &self.records;
                    self.dead.retain(|&id| records.get(id).is_some());
                }
            }
            None => {}
        }
    }

    /// Parts a stream from its socket. With the time, unwritten bytes are still written.
    fn end_stream(&mut self, id: Id, flush_from: Option<Instant>) {
        let Some(stream) = self.stream_mut(id) else { return };
        let (unread, window) = (stream.credit.unread(), stream.credit.announce().0);
        let socket = stream.socket.take();
        let was_open = stream.is_open();
        let destination = stream.peer.as_ref().and_then(SockAddr::inet);
        let flow = destination.and_then(|destination| Some((destination, stream.judged?)));
        let phase = std::mem::replace(&mut stream.phase, Phase::Dead);
        stream.credit = crate::credit::Credit::default();
        match phase {
            Phase::Connecting(attempt) => self.timers.cancel(attempt.retry),
            Phase::Handshake(handshake) => self.timers.cancel(handshake.timer),
            _ => {}
        }
        if was_open {
            self.promised = self.promised.saturating_sub(window.into());
        }
        let Some(socket) = socket else { return };
        match flush_from {
            Some(now) if unread > 0 => {
                if let Some(entry) = self.sockets.get_mut(socket.0) {
                    entry.owner = Owner::Flushing;
                }
                let timer = self.timers.add(now, self.config.limits.flush, Timer::Flush(socket.0));
                self.flushing.insert(socket, Flushing { record: id, unread, timer, flow });
            }
            _ => {
                self.buffered = self.buffered.saturating_sub(unread.into());
                self.close(socket, flush_from.is_none());
            }
        }
    }

    /// Bytes of a stream the guest has closed went out.
    pub(super) fn flushed(&mut self, socket: SocketId, n: u32) {
        let Some(rest) = self.flushing.get_mut(&socket) else { return };
        let n = n.min(rest.unread);
        rest.unread -= n;
        let left = rest.unread;
        self.buffered = self.buffered.saturating_sub(n.into());
        if left == 0 {
            self.close(socket, false);
        }
    }

    /// An id for a new host socket; `None` at the limit.
    pub(super) fn new_socket(&mut self, owner: Owner) -> Option<SocketId> {
        if self.sockets.len() >= self.config.limits.sockets {
            return None;
        }
        let socket = Socket { owner, readable: false, hung_up: false, queued: false };
        Some(SocketId(self.sockets.insert(socket)))
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, socket: SocketId, abort: bool) {
        let Some(entry) = self.sockets.get(socket.0) else { return };
        if entry.owner == Owner::Flushing
            && let Some(rest) = self.flushing.remove(&socket)
        {
            self.buffered = self.buffered.saturating_sub(rest.unread.into());
            self.timers.cancel(Some(rest.timer));
        }
        self.actions.push_back(Action::Close { socket, abort });
        self.forget_socket(socket);
    }

    /// The socket is gone.
    pub(super) fn forget_socket(&mut self, socket: SocketId) {
        let at_limit = self.sockets.len() >= self.config.limits.sockets;
        self.sockets.remove(socket.0);
        if at_limit {
            self.wake_listeners();
        }
    }

    /// The guest's driver starts over: everything ends but the listeners of mapped ports.
    pub fn reset(&mut self) {
        let all: Vec<Id> =
            self.records.iter().filter(|(_, r)| !r.is_port_listener()).map(|(id, _)| id).collect();
        for id in all {
            self.remove(id);
        }
        let rest: Vec<Id> = self
            .sockets
            .iter()
            .filter(|(_, s)| !matches!(s.owner, Owner::Record(id) if self.records.get(id).is_some()))
            .map(|(id, _)| id)
            .collect();
        for id in rest {
            self.close(SocketId(id), true);
        }
        for id in self.listeners.clone() {
            if let Some(listener) = self.listener_mut(id) {
                listener.offered = 0;
                listener.busy = false;
                // Looked at again as soon as there is a guest.
                listener.acceptable = true;
            }
        }
        self.messages.clear();
        self.ready.clear();
        self.timers.clear();
        self.unused.clear();
        self.dead.clear();
    }

    /// Takes waiting connections again after [`Muxer::reset`].
    pub fn start(&mut self) {
        self.wake_listeners();
    }
}

impl Record {
    fn is_port_listener(&self) -> bool {
        matches!(&self.body, Body::Listener(listener) if listener.is_port)
    }
}
