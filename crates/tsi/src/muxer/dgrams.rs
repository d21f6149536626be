//! Datagram sockets of the guest.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Muxer, Owner};
use crate::dgram::{Asking, Redirected, Route};
use crate::io::{Action, Disposition, Flow, Preamble, Protocol, QueryId, SocketId, Verdict};
use crate::slots::Id;
use crate::timers::Timer;
use crate::wire::{AddrError, SockAddr, control, errno};

impl Muxer {
    /// SENDTO_ADDR: from now on the datagrams of SENDTO_DATA go there, or nowhere.
    pub(super) fn set_destination(
        &mut self,
        now: Instant,
        csocket: u32,
        port: u32,
        addr: Result<SockAddr, AddrError>,
    ) {
        let Some(id) = self.owned(csocket, port) else { return };
        let Some(dgram) = self.dgram_mut(id) else { return };
        // What was allowed before must not get the next datagram.
        dgram.destination = Route::None;
        let family = dgram.family;
        match addr.ok().filter(|addr| addr.family() == family) {
            Some(SockAddr::Inet(destination)) => {
                self.judge_dgram(now, id, Asking::Send(destination), destination);
            }
            Some(unix) => self.route_directly(id, unix),
            None => {}
        }
    }

    /// CONNECT of a datagram socket.
    pub(super) fn connect_dgram(&mut self, now: Instant, id: Id, csocket: u32, addr: SockAddr) {
        match addr {
            SockAddr::Inet(destination) => {
                let asking = Asking::Connect { addr: destination, csocket };
                self.judge_dgram(now, id, asking, destination);
            }
            unix => self.connect_directly(id, Some(csocket), unix),
        }
    }

    fn judge_dgram(&mut self, now: Instant, id: Id, asking: Asking, destination: SocketAddr) {
        let generation = self.policy_generation;
        let ask = self.config.ask_policy;
        let Some(dgram) = self.dgram_mut(id) else { return };
        dgram.asking = Some(asking);
        let last = dgram.verdict.filter(|(addr, g, _)| *addr == destination && *g == generation);
        // What a new policy does not let out has been taken from the contacts.
        let known = dgram.has_contacted(destination).then_some(Verdict::Allow);
        match known.or(last.map(|(_, _, verdict)| verdict)) {
            _ if !ask => self.judged_dgram(now, id, destination, Verdict::Allow),
            Some(verdict) => self.judged_dgram(now, id, destination, verdict),
            None => {
                let flow = Flow { protocol: Protocol::Udp, destination };
                self.actions.push_back(Action::AskPolicy { id: QueryId { record: id, destination }, flow });
            }
        }
    }

    pub(super) fn judged_dgram(&mut self, now: Instant, id: Id, destination: SocketAddr, verdict: Verdict) {
        let generation = self.policy_generation;
        let Some(dgram) = self.dgram_mut(id) else { return };
        let Some(asking) = dgram.asking.take_if(|asking| asking.destination() == destination) else { return };
        // A denial is asked for again: it may hold only until a name is looked up or a limit lets more pass, and each
        // one counts.
        if verdict != Verdict::Deny {
            dgram.verdict = Some((destination, generation, verdict));
        }
        match (verdict, asking) {
            (Verdict::Allow, Asking::Send(addr)) => self.route_directly(id, addr.into()),
            (Verdict::Allow, Asking::Connect { addr, csocket }) => {
                self.connect_directly(id, Some(csocket), addr.into());
            }
            (Verdict::Allow, Asking::Reconnect(addr)) => self.connect_directly(id, None, addr.into()),
            (Verdict::Redirect { target, header }, asking) => {
                self.redirect(now, id, asking, destination, target, header);
            }
            (Verdict::Deny, asking) => self.denied(id, asking),
        }
    }

    fn denied(&mut self, id: Id, asking: Asking) {
        self.stats.denied += 1;
        match asking {
            Asking::Send(_) => {}
            Asking::Connect { csocket, .. } => {
                self.reply_result(control::CONNECT, csocket, -errno::ECONNREFUSED);
            }
            Asking::Reconnect(addr) => {
                if let Some(dgram) = self.dgram_mut(id) {
                    dgram.peer = Route::Lost(addr.into());
                }
            }
        }
    }

    /// The common socket. A new one still has to be made, which connecting does by itself.
    fn common_socket(&mut self, id: Id, make: bool) -> Option<SocketId> {
        let dgram = self.dgram_mut(id)?;
        if let Some(socket) = dgram.socket {
            return Some(socket);
        }
        let family = dgram.family;
        let socket = self.new_socket(Owner::Record(id))?;
        self.dgram_mut(id)?.socket = Some(socket);
        if make {
            self.actions.push_back(Action::OpenDatagram { socket, family });
        }
        Some(socket)
    }

    fn route_directly(&mut self, id: Id, addr: SockAddr) {
        if self.common_socket(id, true).is_none() {
            return;
        }
        let Some(dgram) = self.dgram_mut(id) else { return };
        if let Some(inet) = addr.inet() {
            dgram.contacted(inet);
        }
        dgram.destination = Route::Direct(addr);
    }

    /// Connects the common socket; `csocket` waits for the outcome.
    fn connect_directly(&mut self, id: Id, csocket: Option<u32>, addr: SockAddr) {
        let Some(socket) = self.common_socket(id, false) else {
            return self.tell_connect(csocket, -errno::EMFILE);
        };
        let Some(dgram) = self.dgram_mut(id) else { return };
        dgram.connecting = Some((csocket, addr.clone()));
        self.actions.push_back(Action::ConnectDatagram { socket, addr });
    }

    fn tell_connect(&mut self, csocket: Option<u32>, result: i32) {
        if let Some(csocket) = csocket {
            self.reply_result(control::CONNECT, csocket, result);
        }
    }

    /// The host made the common socket.
    pub(super) fn dgram_opened(&mut self, id: Id) {
        if let Some(dgram) = self.dgram_mut(id) {
            dgram.opened = true;
        }
    }

    /// The host connected a datagram socket.
    pub(super) fn dgram_connected(&mut self, id: Id, socket: SocketId) {
        let Some(dgram) = self.dgram_mut(id) else { return };
        let Some((csocket, addr)) = dgram.connecting.take() else { return };
        if dgram.socket == Some(socket) {
            dgram.opened = true;
            if let Some(inet) = addr.inet() {
                dgram.contacted(inet);
            }
            dgram.peer = Route::Direct(addr.clone());
        } else {
            dgram.peer = Route::Redirected(socket);
        }
        dgram.peer_name = Some(addr);
        self.tell_connect(csocket, 0);
    }

    /// The host refused to make or connect a datagram socket.
    pub(super) fn dgram_refused(&mut self, id: Id, socket: SocketId, error: i32) {
        let Some(dgram) = self.dgram_mut(id) else { return };
        let waiting = dgram.connecting.take();
        if dgram.by_socket(socket).is_some() {
            dgram.forget(socket);
            self.forget_socket(socket);
        } else if !dgram.opened {
            dgram.socket = None;
            dgram.destination = Route::None;
            self.forget_socket(socket);
        }
        if let Some((csocket, _)) = waiting {
            self.tell_connect(csocket, -error);
        }
    }

    /// Sends to `target` what the guest sends to `original`, on a socket of its own.
    fn redirect(
        &mut self,
        now: Instant,
        id: Id,
        asking: Asking,
        original: SocketAddr,
        target: SocketAddr,
        preamble: Preamble,
    ) {
        let Some(dgram) = self.dgram_mut(id) else { return };
        let known = dgram.find(original).map(|r| (r.socket, r.target));
        let socket = match known {
            Some((socket, old)) if old == target => Some(socket),
            Some((socket, _)) => {
                dgram.forget(socket);
                self.close(socket, false);
                None
            }
            None => None,
        };
        let (socket, is_new) = match socket {
            Some(socket) => (socket, false),
            None => {
                self.make_room(id);
                let Some(socket) = self.new_socket(Owner::Record(id)) else { return self.denied(id, asking) };
                let entry = Redirected { original, target, socket, preamble: Some(preamble), used: now };
                if let Some(dgram) = self.dgram_mut(id) {
                    dgram.redirected.push(entry);
                }
                (socket, true)
            }
        };
        self.watch_idle(now, id);
        let Some(dgram) = self.dgram_mut(id) else { return };
        match asking {
            Asking::Send(_) => dgram.destination = Route::Redirected(socket),
            Asking::Connect { addr, csocket } if is_new => {
                dgram.connecting = Some((Some(csocket), addr.into()))
            }
            Asking::Connect { addr, csocket } => {
                dgram.peer = Route::Redirected(socket);
                dgram.peer_name = Some(addr.into());
                self.reply_result(control::CONNECT, csocket, 0);
            }
            Asking::Reconnect(_) => dgram.peer = Route::Redirected(socket),
        }
        if is_new {
            self.actions.push_back(Action::ConnectDatagram { socket, addr: target.into() });
        }
    }

    /// Ends the least recently used redirected destination if there are too many.
    fn make_room(&mut self, id: Id) {
        let limit = self.config.limits.flows.max(1);
        let Some(dgram) = self.dgram_mut(id) else { return };
        if dgram.redirected.len() < limit {
            return;
        }
        let oldest = dgram.redirected.iter().min_by_key(|r| r.used).map(|r| r.socket);
        if let Some(socket) = oldest {
            dgram.forget(socket);
            self.close(socket, false);
        }
    }

    fn watch_idle(&mut self, now: Instant, id: Id) {
        let wait = self.config.limits.flow_idle;
        if self.dgram_mut(id).is_some_and(|d| d.idle.is_none()) {
            let key = self.timers.add(now, wait, Timer::Idle(id));
            if let Some(dgram) = self.dgram_mut(id) {
                dgram.idle = Some(key);
            }
        }
    }

    /// Ends redirected destinations that have not been used for a while.
    pub(super) fn drop_idle(&mut self, now: Instant, id: Id) {
        let limit = self.config.limits.flow_idle;
        let Some(dgram) = self.dgram_mut(id) else { return };
        dgram.idle = None;
        let connected = dgram.peer.clone();
        let idle: Vec<SocketId> = dgram
            .redirected
            .iter()
            .filter(|r| now.saturating_duration_since(r.used) >= limit)
            .map(|r| r.socket)
            // The peer of a connected socket may speak at any time.
            .filter(|&socket| connected != Route::Redirected(socket))
            .collect();
        for &socket in &idle {
            dgram.forget(socket);
        }
        let left = !dgram.redirected.is_empty();
        for socket in idle {
            self.close(socket, false);
        }
        if left {
            self.watch_idle(now, id);
        }
    }

    /// The header of a redirected destination is out.
    pub(super) fn preamble_sent(&mut self, id: Id, socket: SocketId) {
        if let Some(entry) = self.dgram_mut(id).and_then(|d| d.by_socket(socket)) {
            entry.preamble = None;
        }
    }

    /// SENDTO_DATA.
    pub(super) fn send_to(&mut self, now: Instant, id: Id) -> Disposition {
        let route = self.dgram_mut(id).map(|d| d.destination.clone()).unwrap_or_default();
        self.send(now, id, route, false)
    }

    /// A datagram of a connected socket.
    pub(super) fn send_connected(&mut self, now: Instant, id: Id) -> Disposition {
        let route = self.dgram_mut(id).map(|d| d.peer.clone()).unwrap_or_default();
        self.send(now, id, route, true)
    }

    /// The first datagram after a restore is lost to it, as any datagram may be.
    fn reconnect(&mut self, now: Instant, id: Id, addr: SockAddr) {
        if let Some(dgram) = self.dgram_mut(id) {
            dgram.peer = Route::None;
        }
        match addr {
            SockAddr::Inet(addr) => self.judge_dgram(now, id, Asking::Reconnect(addr), addr),
            unix => self.connect_directly(id, None, unix),
        }
    }

    fn send(&mut self, now: Instant, id: Id, route: Route, connected: bool) -> Disposition {
        let Some(dgram) = self.dgram_mut(id) else { return Disposition::Done };
        match route {
            Route::None => Disposition::Done,
            Route::Lost(addr) => {
                self.reconnect(now, id, addr);
                Disposition::Done
            }
            Route::Direct(addr) => match dgram.socket {
                Some(socket) => {
                    Disposition::Datagram { socket, to: (!connected).then_some(addr), preamble: None }
                }
                None => Disposition::Done,
            },
            Route::Redirected(socket) => match dgram.by_socket(socket) {
                Some(entry) => {
                    entry.used = now;
                    Disposition::Datagram { socket, to: None, preamble: entry.preamble }
                }
                None => Disposition::Done,
            },
        }
    }
}
