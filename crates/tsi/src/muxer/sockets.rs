//! Events of host sockets, and deadlines.

use std::time::Instant;

use super::{Body, Muxer, Owner};
use crate::io::{SocketEvent, SocketId};
use crate::slots::Id;
use crate::stream::Phase;
use crate::timers::Timer;
use crate::wire::op;

impl Muxer {
    /// Takes what happened to a host socket. Events of sockets that are gone are ignored.
    pub fn handle_socket(&mut self, now: Instant, socket: SocketId, event: SocketEvent) {
        let Some(owner) = self.sockets.get(socket.0).map(|s| s.owner) else { return };
        match (owner, event) {
            (Owner::Flushing, SocketEvent::Written(n)) => self.flushed(socket, n),
            (Owner::Flushing, SocketEvent::WriteFailed | SocketEvent::HungUp) => self.close(socket, true),
            (Owner::Flushing, _) => {}
            (Owner::Accepting(listener), event) => self.accept_event(now, listener, socket, event),
            (Owner::Record(id), event) => self.record_event(now, id, socket, event),
        }
    }

    fn record_event(&mut self, now: Instant, id: Id, socket: SocketId, event: SocketEvent) {
        let is_listener = self.listener_mut(id).is_some();
        match event {
            SocketEvent::Readable if is_listener => {
                if let Some(listener) = self.listener_mut(id) {
                    listener.acceptable = true;
                }
                self.take_connections(id);
            }
            SocketEvent::Readable => self.readable(socket),
            SocketEvent::HungUp => {
                if let Some(entry) = self.sockets.get_mut(socket.0) {
                    entry.hung_up = true;
                }
                self.readable(socket);
            }
            SocketEvent::Written(n) => self.written(now, id, n),
            SocketEvent::WriteFailed => self.host_broken(id),
            SocketEvent::Listening(bound) => self.listening(id, bound),
            SocketEvent::Refused(error) => self.refused(now, id, socket, error),
            SocketEvent::Connected => match self.records.get(id).map(|r| &r.body) {
                Some(Body::Stream(_)) => self.connected(id),
                Some(Body::Dgram(_)) => self.dgram_connected(id, socket),
                _ => {}
            },
            SocketEvent::Opened => self.dgram_opened(id),
            SocketEvent::PreambleSent => self.preamble_sent(id, socket),
            SocketEvent::Accepted(_) | SocketEvent::NothingToAccept => {}
        }
    }

    fn refused(&mut self, now: Instant, id: Id, socket: SocketId, error: i32) {
        match self.records.get(id).map(|r| &r.body) {
            Some(Body::Stream(_)) => {
                self.forget_socket(socket);
                self.connect_refused(now, id, error);
            }
            Some(Body::Listener(_)) => {
                self.forget_socket(socket);
                self.listen_failed(id, error);
            }
            Some(Body::Dgram(_)) => self.dgram_refused(id, socket, error),
            None => self.forget_socket(socket),
        }
    }

    fn accept_event(&mut self, now: Instant, listener: Id, socket: SocketId, event: SocketEvent) {
        match event {
            SocketEvent::Accepted(peer) => self.accepted(now, listener, socket, peer),
            SocketEvent::NothingToAccept => {
                self.forget_socket(socket);
                if let Some(listener) = self.listener_mut(listener) {
                    listener.busy = false;
                    listener.acceptable = false;
                }
            }
            SocketEvent::Refused(_) => {
                self.forget_socket(socket);
                // Stays busy until the pause is over.
                let pause = self.config.limits.accept_pause;
                self.timers.add(now, pause, Timer::Accept(listener));
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::Connect(id) => self.retry_connect(id),
                Timer::Request(id) => self.offer(now, id),
                Timer::Handshake(id) => {
                    if matches!(self.stream_mut(id).map(|s| &s.phase), Some(Phase::Handshake(_))) {
                        self.tell(id, op::RST, 0);
                        self.drop_offer(id);
                    }
                }
                Timer::Flush(socket) => {
                    if let Some(Owner::Flushing) = self.sockets.get(socket).map(|s| s.owner) {
                        self.close(SocketId(socket), true);
                    }
                }
                Timer::Accept(id) => {
                    if let Some(listener) = self.listener_mut(id) {
                        listener.busy = false;
                    }
                    self.take_connections(id);
                }
                Timer::Idle(id) => self.drop_idle(now, id),
            }
        }
    }
}
