//! Listeners and the connections they take.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Body, Key, Muxer, Owner, Record};
use crate::config::Dial;
use crate::io::{Action, SocketId};
use crate::listener::Listener;
use crate::slots::Id;
use crate::stream::{Handshake, Origin, Phase, Stream};
use crate::timers::Timer;
use crate::wire::{AddrError, Family, Header, SockAddr, TSI_PORT, UnixAddr, control, errno, op};

/// Backlog of a mapped port.
const PORT_BACKLOG: u32 = 128;
/// SOMAXCONN of Linux.
const MAX_BACKLOG: u32 = 4096;
/// Between two requests to a guest that may still be booting.
const REQUEST_PAUSE: Duration = Duration::from_millis(100);
/// The host's own ports start here.
const FIRST_PORT: u32 = 1 << 16;

impl Muxer {
    /// Opens the listeners of mapped ports.
    pub(super) fn listen_on_ports(&mut self) {
        let ports: Vec<(u32, UnixAddr)> = self
            .config
            .unix_ports
            .iter()
            .filter(|p| p.dial == Dial::Host)
            .map(|p| (p.port, p.path.clone()))
            .collect();
        for (port, path) in ports {
            let mut listener = Listener::new(SockAddr::Unix(path), port, PORT_BACKLOG);
            listener.is_port = true;
            // Not among the keys: no packet of the guest can name it.
            let key = Key::stream(port, 0);
            let body = Body::Listener(listener);
            let id = self.records.insert(Record::new(key, None, Family::Unix, body));
            self.open_listener(id, false);
        }
    }

    /// LISTEN. `ports` are the guest's port of the socket, and the port connections go to, which is the same.
    pub(super) fn listen(
        &mut self,
        csocket: u32,
        ports: (u32, u32),
        backlog: i32,
        addr: Result<SockAddr, AddrError>,
    ) {
        let result = match self.owned(csocket, ports.0) {
            None => Some(-errno::EPERM),
            Some(_) if ports.0 != ports.1 => Some(-errno::EINVAL),
            Some(id) => self.try_listen(id, csocket, backlog, addr),
        };
        if let Some(result) = result {
            self.reply_result(control::LISTEN, csocket, result);
        }
    }

    /// The result, unless it comes later.
    fn try_listen(
        &mut self,
        id: Id,
        csocket: u32,
        backlog: i32,
        addr: Result<SockAddr, AddrError>,
    ) -> Option<i32> {
        let backlog = u32::try_from(backlog).unwrap_or(0).min(MAX_BACKLOG);
        let record = self.records.get_mut(id)?;
        match &mut record.body {
            Body::Dgram(_) => return Some(-errno::EOPNOTSUPP),
            Body::Listener(listener) => {
                listener.backlog = backlog;
                return Some(0);
            }
            Body::Stream(stream) if stream.phase != Phase::Created => return Some(-errno::EINVAL),
            Body::Stream(_) => {}
        }
        let addr = match addr {
            Ok(addr) if addr.family() == record.family => addr,
            _ => return Some(-errno::EINVAL),
        };
        let mut listener = Listener::new(addr, record.key.guest, backlog);
        listener.opening = Some(csocket);
        if let Err(error) = self.host_address(&listener.requested) {
            return Some(-error);
        }
        if let Some(record) = self.records.get_mut(id) {
            record.body = Body::Listener(listener);
        }
        self.open_listener(id, false);
        None
    }

    /// Where the host listens for a guest that listens on `addr`, or why it does not.
    pub(super) fn host_address(&self, addr: &SockAddr) -> Result<SockAddr, i32> {
        match addr {
            // The guest's program would not learn the port the host chooses.
            SockAddr::Inet(inet) if inet.port() == 0 => Err(errno::EADDRNOTAVAIL),
            SockAddr::Inet(inet) => {
                let port = self.config.port_map.host_port(inet.port()).ok_or(errno::EPERM)?;
                Ok(SocketAddr::new(inet.ip(), port).into())
            }
            SockAddr::Unix(name) if self.in_listen_roots(name) => Ok(addr.clone()),
            SockAddr::Unix(_) => Err(errno::EPERM),
        }
    }

    fn in_listen_roots(&self, name: &UnixAddr) -> bool {
        let Some(path) = name.path() else { return false };
        let climbs = path.split(|&b| b == b'/').any(|part| part == b"..");
        let inside = |root: &Vec<u8>| root.ends_with(b"/") && path.starts_with(root);
        !climbs && self.config.unix_listen_roots.iter().any(inside)
    }

    pub(super) fn open_listener(&mut self, id: Id, v6_only: bool) {
        let Some(listener) = self.listener_mut(id) else { return };
        listener.v6_only = v6_only;
        let (requested, backlog, is_port) = (listener.requested.clone(), listener.backlog, listener.is_port);
        let addr = if is_port { Ok(requested) } else { self.host_address(&requested) };
        if let Ok(addr) = &addr
            && self.share_listener(id, addr)
        {
            return;
        }
        let opened =
            addr.and_then(|addr| Ok((addr, self.new_socket(Owner::Record(id)).ok_or(errno::EMFILE)?)));
        match opened {
            Ok((addr, socket)) => {
                if let Some(listener) = self.listener_mut(id) {
                    listener.socket = Some(socket);
                }
                if !self.listeners.contains(&id) {
                    self.listeners.push(id);
                }
                let replace = !is_port && addr.family() == Family::Unix;
                self.actions.push_back(Action::Listen { socket, addr, backlog, v6_only, replace });
            }
            Err(error) => self.listen_failed(id, error),
        }
    }

    pub(super) fn listening(&mut self, id: Id, bound: SockAddr) {
        let Some(listener) = self.listener_mut(id) else { return };
        listener.bound = Some(bound);
        if let Some(csocket) = listener.opening.take() {
            self.reply_result(control::LISTEN, csocket, 0);
        }
    }

    /// The host refused; its socket is gone already.
    pub(super) fn listen_failed(&mut self, id: Id, error: i32) {
        let Some(listener) = self.listener_mut(id) else { return };
        listener.socket = None;
        let v6 = listener.requested.family() == Family::V6;
        let (retry, opening) =
            (v6 && !listener.v6_only && error == errno::EADDRINUSE, listener.opening.take());
        let requested = listener.requested.clone();
        if retry && self.listens_on_v4(&requested) {
            // The guest's own rules let both stand side by side.
            if let Some(listener) = self.listener_mut(id) {
                listener.opening = opening;
            }
            return self.open_listener(id, true);
        }
        let Some(csocket) = opening else { return };
        self.listeners.retain(|&other| other != id);
        // A port that needs privilege the host process lacks: the guest keeps a listener of its own.
        let error = if error == errno::EACCES { errno::EPERM } else { error };
        if let Some(record) = self.records.get_mut(id) {
            record.body = Body::Stream(Stream::new(Origin::Tsi, Phase::Created));
        }
        self.note_unused(id);
        self.reply_result(control::LISTEN, csocket, -error);
    }

    fn listens_on_v4(&self, requested: &SockAddr) -> bool {
        let port = requested.inet().map(|addr| addr.port());
        let mut open =
            self.listeners.iter().filter_map(|&id| self.listener(id)).filter(|l| l.bound.is_some());
        open.any(|l| l.requested.inet().is_some_and(|a| a.is_ipv4() && Some(a.port()) == port))
    }

    /// Asks for the next connection of a listener, if it has room for one.
    pub(super) fn take_connections(&mut self, id: Id) {
        let id = self.socket_holder(id);
        let Some(listener) = self.listener(id).filter(|l| l.may_accept()) else { return };
        let Some(socket) = listener.socket else { return };
        if self.next_in_turn(id).is_none() {
            return;
        }
        let Some(new) = self.new_socket(Owner::Accepting(id)) else {
            // Tried again when a socket is closed.
            return;
        };
        if let Some(listener) = self.listener_mut(id) {
            listener.busy = true;
        }
        self.actions.push_back(Action::Accept { listener: socket, socket: new });
    }

    /// Sockets were closed: listeners that found none may go on.
    pub(super) fn wake_listeners(&mut self) {
        for id in self.listeners.clone() {
            self.take_connections(id);
        }
    }

    /// A connection came; it is offered to the guest.
    pub(super) fn accepted(&mut self, now: Instant, id: Id, socket: SocketId, peer: Option<SockAddr>) {
        let grace = self.config.boot_grace;
        let Some(listener) = self.listener_mut(id) else { return self.close(socket, true) };
        listener.busy = false;
        listener.turns = listener.turns.wrapping_add(1);
        let id = self.next_in_turn(id).unwrap_or(id);
        let Some(listener) = self.listener(id) else { return self.close(socket, true) };
        let (guest_port, is_port) = (listener.guest_port, listener.is_port);
        let origin = if is_port { Origin::Port } else { Origin::Tsi };
        let family = listener.requested.family();
        let patience = is_port.then(|| now.checked_add(grace)).flatten();
        let handshake = Handshake { listener: id, timer: None, patience };
        let mut stream = Stream::new(origin, Phase::Handshake(handshake));
        stream.socket = Some(socket);
        stream.peer = Some(peer.unwrap_or_else(|| SockAddr::unspecified(family)));
        let key = Key::stream(guest_port, self.unused_port(guest_port));
        match self.add_record(Record::new(key, None, family, Body::Stream(stream))) {
            Some(child) => {
                if let Some(entry) = self.sockets.get_mut(socket.0) {
                    entry.owner = Owner::Record(child);
                }
                if let Some(listener) = self.listener_mut(id) {
                    listener.offered = listener.offered.saturating_add(1);
                }
                self.offer(now, child);
            }
            None => self.close(socket, true),
        }
        self.take_connections(id);
    }

    /// Sends REQUEST, and waits for the answer.
    pub(super) fn offer(&mut self, now: Instant, child: Id) {
        let wait = self.config.limits.handshake;
        let key = self.timers.add(now, wait, Timer::Handshake(child));
        let window = self.new_window();
        let Some(stream) = self.stream_mut(child) else { return self.timers.cancel(Some(key)) };
        let Phase::Handshake(handshake) = &mut stream.phase else { return self.timers.cancel(Some(key)) };
        let old = handshake.timer.replace(key);
        stream.credit = crate::credit::Credit::new(window);
        self.timers.cancel(old);
        self.tell(child, op::REQUEST, 0);
    }

    /// RESPONSE of the guest.
    pub(super) fn established(&mut self, child: Id, header: &Header) {
        let Some(stream) = self.stream_mut(child) else { return };
        let Phase::Handshake(handshake) = &mut stream.phase else { return };
        let (listener, timer) = (handshake.listener, handshake.timer.take());
        self.timers.cancel(timer);
        self.open(child, (header.buf_alloc, header.fwd_cnt));
        let waiter = self.listener_mut(listener).and_then(Listener::established);
        if let Some(csocket) = waiter {
            self.reply_result(control::ACCEPT, csocket, 0);
        }
        self.take_connections(listener);
    }

    /// RST to an offer: nobody listens, or the guest's queue is full.
    pub(super) fn offer_refused(&mut self, now: Instant, child: Id) {
        let Some(Phase::Handshake(handshake)) = self.stream_mut(child).map(|s| &mut s.phase) else { return };
        if handshake.patience.is_some_and(|until| now < until) {
            let key = self.timers.add(now, REQUEST_PAUSE, Timer::Request(child));
            let old = match self.stream_mut(child).map(|s| &mut s.phase) {
                Some(Phase::Handshake(handshake)) => handshake.timer.replace(key),
                _ => Some(key),
            };
            self.timers.cancel(old);
            return;
        }
        self.drop_offer(child);
    }

    /// An offer ends without a connection.
    pub(super) fn drop_offer(&mut self, child: Id) {
        let Some(Phase::Handshake(handshake)) = self.stream_mut(child).map(|s| &mut s.phase) else { return };
        let listener = handshake.listener;
        if let Some(listener) = self.listener_mut(listener) {
            listener.refused();
        }
        self.remove(child);
        self.take_connections(listener);
    }

    /// A host port no other connection to this guest port has.
    fn unused_port(&mut self, guest: u32) -> u32 {
        loop {
            let port = self.next_port.max(FIRST_PORT);
            self.next_port = port.wrapping_add(1);
            // There are far fewer records than ports.
            if port != TSI_PORT && self.find(Key::stream(guest, port)).is_none() {
                return port;
            }
        }
    }
}
