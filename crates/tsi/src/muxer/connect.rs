//! Streams to the outside: connects of TSI sockets, and connections of the guest to mapped ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Body, Key, Muxer, Owner, Record};
use crate::config::Dial;
use crate::dgram::reached;
use crate::io::{Action, Flow, Preamble, Protocol, QueryId, SocketId, Verdict};
use crate::slots::Id;
use crate::stream::{Attempt, Origin, Phase, Stream, Tell};
use crate::timers::Timer;
use crate::wire::{Family, Header, SockAddr, control, errno, op};

/// Between two tries on a unix socket whose backlog is full.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The guest gives up on a vsock connection after 2 s.
const PORT_PATIENCE: Duration = Duration::from_millis(1500);

impl Muxer {
    /// CONNECT of a stream.
    pub(super) fn connect_stream(&mut self, now: Instant, id: Id, csocket: u32, addr: SockAddr) {
        let Some(stream) = self.stream_mut(id) else { return };
        let mut tell = Tell::Control(csocket);
        match &mut stream.phase {
            Phase::Created | Phase::Dead => {}
            Phase::Connecting(attempt) if attempt.target == addr => {
                // The system call was restarted; one reply is still to come.
                if attempt.tell != Tell::Nobody {
                    attempt.tell = tell;
                }
                return;
            }
            Phase::Connecting(attempt) => {
                tell = if attempt.tell == Tell::Nobody { Tell::Nobody } else { tell };
                self.drop_attempt(id);
            }
            // The guest has not read the reply to its first try yet and takes it for this one's.
            Phase::AwaitRequest if stream.peer.as_ref() == Some(&addr) => return,
            Phase::AwaitRequest => {
                tell = Tell::Nobody;
                self.drop_attempt(id);
            }
            Phase::Open | Phase::Handshake(_) => {
                return self.reply_result(control::CONNECT, csocket, -errno::EISCONN);
            }
        }
        let limits = &self.config.limits;
        let attempt = Attempt {
            target: addr.clone(),
            actual: addr.clone(),
            tell,
            held: None,
            own: None,
            preamble: None,
            retry_until: now.checked_add(limits.connect_retry).unwrap_or(now),
            retry: None,
        };
        if let Some(stream) = self.stream_mut(id) {
            stream.peer = Some(addr.clone());
            stream.judged = None;
            stream.phase = Phase::Connecting(Box::new(attempt));
        }
        match addr.inet() {
            Some(destination) => self.judge_stream(id, destination),
            None => self.start_attempt(id, addr, None),
        }
    }

    /// Finds out whether a connect may leave.
    fn judge_stream(&mut self, id: Id, destination: SocketAddr) {
        if let Some((listener, addr)) = self.own_listener(destination) {
            // Never leaves the machine, so it is none of the policy's business.
            if let Some(Phase::Connecting(attempt)) = self.stream_mut(id).map(|s| &mut s.phase) {
                attempt.own = Some(listener);
            }
            self.start_attempt(id, addr, None);
        } else if self.config.ask_policy {
            let flow = Flow { protocol: Protocol::Tcp, destination };
            self.actions.push_back(Action::AskPolicy { id: QueryId { record: id, destination }, flow });
        } else {
            self.start_attempt(id, destination.into(), None);
        }
    }

    /// The answer to [`Action::AskPolicy`]. Gives the socket of a stream that is let out.
    pub fn handle_verdict(&mut self, now: Instant, id: QueryId, verdict: Verdict) -> Option<SocketId> {
        let QueryId { record, destination } = id;
        match self.records.get(record).map(|r| &r.body) {
            Some(Body::Stream(stream)) => {
                let Phase::Connecting(attempt) = &stream.phase else { return None };
                let asked = stream.socket.is_none() && attempt.retry.is_none();
                if !asked || attempt.target.inet() != Some(destination) {
                    return None;
                }
                self.judged_stream(record, destination, verdict);
                self.stream_mut(record)?.socket
            }
            Some(Body::Dgram(_)) => {
                self.judged_dgram(now, record, destination, verdict);
                None
            }
            _ => None,
        }
    }

    fn judged_stream(&mut self, id: Id, destination: SocketAddr, verdict: Verdict) {
        let (actual, target, preamble) = match verdict {
            Verdict::Allow => (destination, None, None),
            Verdict::Redirect { target, header } => (target, Some(target), Some(header)),
            Verdict::Deny => {
                self.stats.denied += 1;
                return self.attempt_failed(id, errno::ECONNREFUSED);
            }
        };
        if let Some(stream) = self.stream_mut(id) {
            stream.judged = Some(target);
        }
        self.start_attempt(id, actual.into(), preamble);
    }

    /// The host's socket of a listener of this guest, and an address at which nothing but it is reached, if
    /// the destination is one.
    fn own_listener(&self, destination: SocketAddr) -> Option<(SocketId, SockAddr)> {
        let ip = reached(destination.ip());
        let (socket, bound) = self.listeners.iter().find_map(|&id| {
            let requested = self.listener(id)?.requested.inet()?;
            // What the host has is told by the one that holds the socket.
            let holder = self.listener(self.socket_holder(id))?;
            let (socket, bound) = (holder.socket?, holder.bound.as_ref()?.inet()?);
            let here = ip.is_loopback() || requested.ip() == ip;
            let answered = answers(bound.ip(), holder.v6_only, ip);
            (here && requested.port() == destination.port() && answered).then_some((socket, bound))
        })?;
        let ip = match bound.ip() {
            IpAddr::V4(any) if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(any) if any.is_unspecified() && destination.is_ipv4() => {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            }
            IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            other => other,
        };
        Some((socket, SocketAddr::new(ip, bound.port()).into()))
    }

    /// A listener's socket is closed. What still connects to it would be let in, unasked, by whoever listens
    /// there next.
    pub(super) fn refuse_connects_to(&mut self, listener: SocketId) {
        let waits = |phase: &Phase| matches!(phase, Phase::Connecting(a) if a.own == Some(listener));
        let waiting: Vec<Id> = self
            .records
            .iter()
            .filter(|(_, record)| matches!(&record.body, Body::Stream(stream) if waits(&stream.phase)))
            .map(|(id, _)| id)
            .collect();
        for id in waiting {
            self.give_up_connect(id, errno::ECONNREFUSED);
        }
    }

    fn start_attempt(&mut self, id: Id, actual: SockAddr, preamble: Option<Preamble>) {
        let Some(socket) = self.new_socket(Owner::Record(id)) else {
            return self.attempt_failed(id, errno::EMFILE);
        };
        if let Some(stream) = self.stream_mut(id) {
            stream.socket = Some(socket);
            if let Phase::Connecting(attempt) = &mut stream.phase {
                attempt.actual = actual.clone();
                attempt.preamble = preamble;
            }
        }
        self.actions.push_back(Action::Connect { socket, addr: actual });
    }

    /// The host refused; its socket is gone already.
    pub(super) fn connect_refused(&mut self, now: Instant, id: Id, error: i32) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.socket = None;
        if let Phase::Connecting(attempt) = &stream.phase
            && error == errno::EAGAIN
            && attempt.actual.family() == Family::Unix
            && now < attempt.retry_until
        {
            let key = self.timers.add(now, RETRY_PAUSE, Timer::Connect(id));
            if let Some(Phase::Connecting(attempt)) = self.stream_mut(id).map(|s| &mut s.phase) {
                attempt.retry = Some(key);
            }
            return;
        }
        self.attempt_failed(id, error);
    }

    pub(super) fn retry_connect(&mut self, id: Id) {
        let Some(Phase::Connecting(attempt)) = self.stream_mut(id).map(|s| &mut s.phase) else { return };
        attempt.retry = None;
        let (actual, preamble) = (attempt.actual.clone(), attempt.preamble);
        self.start_attempt(id, actual, preamble);
    }

    /// A connect that is on its way ends; whoever waits is told.
    pub(super) fn give_up_connect(&mut self, id: Id, error: i32) {
        self.drop_attempt(id);
        self.attempt_failed(id, error);
    }

    /// There is no socket; whoever waits is told.
    fn attempt_failed(&mut self, id: Id, error: i32) {
        let Some(stream) = self.stream_mut(id) else { return };
        let Phase::Connecting(attempt) = std::mem::replace(&mut stream.phase, Phase::Created) else { return };
        stream.peer = None;
        let origin = stream.origin;
        if let Tell::Control(csocket) = attempt.tell {
            self.reply_result(control::CONNECT, csocket, -error);
        } else if attempt.held.is_some() {
            self.tell(id, op::RST, 0);
        }
        match origin {
            Origin::Port => self.remove(id),
            Origin::Tsi => self.note_unused(id),
        }
    }

    /// The host is connected.
    pub(super) fn connected(&mut self, id: Id) {
        let Some(stream) = self.stream_mut(id) else { return };
        let Phase::Connecting(attempt) = std::mem::replace(&mut stream.phase, Phase::AwaitRequest) else {
            return;
        };
        if let (Some(bytes), Some(socket)) = (attempt.preamble, stream.socket) {
            self.actions.push_back(Action::Preamble { socket, bytes });
        }
        if let Tell::Control(csocket) = attempt.tell {
            self.reply_result(control::CONNECT, csocket, 0);
        }
        if let Some(peer) = attempt.held {
            self.open_outbound(id, peer);
        }
    }

    /// REQUEST for a stream whose host side is connected.
    pub(super) fn open_outbound(&mut self, id: Id, peer: (u32, u32)) {
        self.open(id, peer);
        self.tell(id, op::RESPONSE, 0);
    }

    /// REQUEST while the host still connects: kept if the guest already believes to be connected.
    pub(super) fn hold_request(&mut self, id: Id, peer: (u32, u32)) -> bool {
        let Some(Phase::Connecting(attempt)) = self.stream_mut(id).map(|s| &mut s.phase) else {
            return false;
        };
        if attempt.tell != Tell::Nobody || attempt.held.is_some() {
            return false;
        }
        attempt.held = Some(peer);
        true
    }

    /// REQUEST to a port without a record. False if there is nothing behind it.
    pub(super) fn port_request(&mut self, now: Instant, header: &Header) -> bool {
        let port = self.config.unix_ports.iter().find(|p| p.port == header.dst_port && p.dial == Dial::Guest);
        let Some(addr) = port.map(|p| SockAddr::Unix(p.path.clone())) else { return false };
        let patience = self.config.limits.connect_retry.min(PORT_PATIENCE);
        let attempt = Attempt {
            target: addr.clone(),
            actual: addr.clone(),
            tell: Tell::Nobody,
            held: Some((header.buf_alloc, header.fwd_cnt)),
            own: None,
            preamble: None,
            retry_until: now.checked_add(patience).unwrap_or(now),
            retry: None,
        };
        let key = Key::stream(header.src_port, header.dst_port);
        let stream = Stream::new(Origin::Port, Phase::Connecting(Box::new(attempt)));
        let body = Body::Stream(stream);
        match self.add_record(Record::new(key, None, Family::Unix, body)) {
            Some(id) => {
                self.start_attempt(id, addr, None);
                true
            }
            None => false,
        }
    }

    /// Ends what a connect has done so far.
    fn drop_attempt(&mut self, id: Id) {
        let Some(stream) = self.stream_mut(id) else { return };
        let socket = stream.socket.take();
        let retry = match &mut stream.phase {
            Phase::Connecting(attempt) => attempt.retry.take(),
            _ => None,
        };
        self.timers.cancel(retry);
        if let Some(socket) = socket {
            self.close(socket, true);
        }
    }
}

/// True if a listener on `bound` gets connections to `ip`.
fn answers(bound: IpAddr, v6_only: bool, ip: IpAddr) -> bool {
    match bound.to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => ip.is_ipv4(),
        IpAddr::V6(any) if any.is_unspecified() => ip.is_ipv6() || !v6_only,
        other => other == ip,
    }
}
