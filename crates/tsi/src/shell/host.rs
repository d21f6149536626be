//! The muxer and its sockets: actions are executed, events are passed on.

use std::collections::VecDeque;
use std::time::Instant;

use rustix::io::Errno;
use vmm_sys_util::epoll::EventSet;

use super::gate::Gate;
use super::sockets::{Begun, Kind, Sockets};
use crate::io::{Action, SocketEvent, SocketId};
use crate::muxer::Muxer;

/// Everything of the device that outlives the driver.
pub(super) struct Host {
    pub muxer: Muxer,
    pub sockets: Sockets,
    pub gate: Gate,
    /// Sockets that wait for the limit on bytes.
    pub parked: VecDeque<SocketId>,
    /// Where bytes are looked at that a guest must not change meanwhile.
    pub scratch: Vec<u8>,
    /// Errors of listeners of mapped ports, while they are opened.
    pub refused: VecDeque<(SocketId, i32)>,
}

impl Host {
    pub fn new(muxer: Muxer, sockets: Sockets, gate: Gate) -> Self {
        let (parked, refused) = (VecDeque::new(), VecDeque::new());
        Host { muxer, sockets, gate, parked, scratch: Vec::new(), refused }
    }

    /// Goes over to a policy that was put in place of the one before.
    pub fn check_policy(&mut self, now: Instant) {
        if !self.gate.is_stale() {
            return;
        }
        self.muxer.policy_changed();
        for flow in self.gate.adopt(now, &self.muxer.open_flows()) {
            self.muxer.close_flow(flow);
        }
    }

    /// Executes what the muxer asks for, until it asks for nothing more.
    pub fn act(&mut self, now: Instant) {
        while let Some(action) = self.muxer.poll_action() {
            self.execute(now, action);
        }
    }

    fn execute(&mut self, now: Instant, action: Action) {
        match action {
            Action::Connect { socket, addr } => {
                let begun = self.sockets.connect(socket, &addr);
                if let Some(sock) = self.sockets.get(socket) {
                    (sock.held, sock.tapped) = (self.gate.holds(socket), self.gate.taps(socket));
                }
                let event = match begun {
                    Ok(Begun::Done) => SocketEvent::Connected,
                    Ok(Begun::InProgress) => return,
                    Err(e) => self.failed(socket, e),
                };
                self.muxer.handle_socket(now, socket, event);
            }
            Action::Listen { socket, addr, backlog, v6_only, replace } => {
                let event = match self.sockets.listen(socket, &addr, backlog, v6_only, replace) {
                    Ok(bound) => SocketEvent::Listening(bound),
                    Err(e) => {
                        self.refused.push_back((socket, e.raw_os_error()));
                        self.refused.truncate(64);
                        self.failed(socket, e)
                    }
                };
                self.muxer.handle_socket(now, socket, event);
            }
            Action::Accept { listener, socket } => {
                let event = match self.sockets.accept(listener, socket) {
                    Ok(from) => SocketEvent::Accepted(from),
                    Err(Errno::AGAIN) => SocketEvent::NothingToAccept,
                    Err(e) => self.failed(socket, e),
                };
                self.muxer.handle_socket(now, socket, event);
            }
            Action::OpenDatagram { socket, family } => {
                let event = match self.sockets.open_datagram(socket, family) {
                    Ok(()) => SocketEvent::Opened,
                    Err(e) => self.failed(socket, e),
                };
                self.muxer.handle_socket(now, socket, event);
            }
            Action::ConnectDatagram { socket, addr } => {
                let is_new = self.sockets.get(socket).is_none();
                let event = match self.sockets.connect_datagram(socket, &addr) {
                    Ok(()) => {
                        self.tap_datagrams(socket, &addr);
                        SocketEvent::Connected
                    }
                    Err(e) if is_new => self.failed(socket, e),
                    Err(e) => SocketEvent::Refused(e.raw_os_error()),
                };
                self.muxer.handle_socket(now, socket, event);
            }
            Action::Preamble { socket, bytes } => {
                if self.sockets.preamble(socket, &bytes) {
                    self.muxer.handle_socket(now, socket, SocketEvent::WriteFailed);
                }
            }
            Action::ShutdownWrite { socket } => self.sockets.shutdown_write(socket),
            Action::Close { socket, abort } => {
                self.sockets.close(socket, abort);
                self.gate.closed(socket);
            }
            Action::AskPolicy { id, flow } => {
                // Whoever replaced the policy was promised that this is judged by the new one.
                self.check_policy(now);
                let (verdict, passed) = self.gate.decide(now, &flow);
                let through = self.muxer.handle_verdict(now, id, verdict);
                if let (Some(socket), Some(passed)) = (through, passed) {
                    self.gate.opened(socket, passed);
                }
            }
        }
    }

    /// What may have been made of the socket goes away.
    fn failed(&mut self, socket: SocketId, error: Errno) -> SocketEvent {
        self.sockets.close(socket, true);
        self.gate.closed(socket);
        SocketEvent::Refused(error.raw_os_error())
    }

    /// One event of the epoll.
    pub fn event(&mut self, now: Instant, socket: SocketId, flags: EventSet) {
        let Some(sock) = self.sockets.get(socket) else { return };
        match sock.kind {
            Kind::Connecting => {
                let Some(outcome) = self.sockets.connect_outcome(socket, flags) else { return };
                let event = match outcome {
                    Ok(()) => SocketEvent::Connected,
                    Err(e) => {
                        self.gate.closed(socket);
                        SocketEvent::Refused(e)
                    }
                };
                self.muxer.handle_socket(now, socket, event);
                self.act(now);
                if outcome.is_ok() {
                    self.stream_event(now, socket, flags);
                }
            }
            Kind::Stream => self.stream_event(now, socket, flags),
            Kind::Listener => self.muxer.handle_socket(now, socket, SocketEvent::Readable),
            Kind::Datagram => {
                if flags.contains(EventSet::ERROR) {
                    self.sockets.clear_error(socket);
                }
                if flags.contains(EventSet::IN) {
                    self.muxer.handle_socket(now, socket, SocketEvent::Readable);
                }
            }
        }
    }

    fn stream_event(&mut self, now: Instant, socket: SocketId, flags: EventSet) {
        let Some(sock) = self.sockets.get(socket) else { return };
        let ends = EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR;
        sock.told |= flags & (ends | EventSet::PRIORITY);
        if flags.contains(EventSet::OUT) && !sock.out.is_empty() {
            self.flush(now, socket);
        }
        if flags.contains(EventSet::HANG_UP) {
            self.muxer.handle_socket(now, socket, SocketEvent::HungUp);
        } else if flags.intersects(ends | EventSet::IN | EventSet::PRIORITY) {
            self.muxer.handle_socket(now, socket, SocketEvent::Readable);
        }
    }

    /// The end can be read before the event that says whether the peer has left altogether is taken: asks. A TCP peer
    /// cannot say that, so its socket is not asked.
    pub fn note_hang_up(&mut self, now: Instant, socket: SocketId) {
        if self.sockets.get(socket).is_some_and(|sock| sock.unix && sock.has_hung_up()) {
            self.muxer.handle_socket(now, socket, SocketEvent::HungUp);
        }
    }

    /// Ends everything but the listeners of mapped ports.
    pub fn reset(&mut self, now: Instant) {
        self.muxer.reset();
        self.act(now);
    }
}
