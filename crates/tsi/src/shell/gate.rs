//! Between the device and its egress policy: what may leave, under which name, and how fast.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin_egress::{
    Counters, Decision, DnsStream, Egress, Flow, Inspection, Inspector, OpenFlow, Policy, Protocol, Reason,
    Verdict,
};

use super::egress::Shared;
use crate::io::{self, FlowId, Preamble, SocketId};

/// A connection that was let out.
#[derive(Debug)]
pub(super) struct Passed {
    flow: Flow,
    decision: Decision,
    /// Where it really goes.
    peer: SocketAddr,
    /// Looks for the name its first bytes must show.
    inspector: Option<Box<Inspector>>,
    /// Reads what a trusted resolver answers.
    dns: Option<Box<DnsStream>>,
}

/// What a connection costs here, in its table.
#[cfg(test)]
pub(super) const PASSED_SIZE: usize = size_of::<(SocketId, Passed)>() * 2;

/// Owned by the device's thread.
pub(super) struct Gate {
    egress: Egress,
    shared: Arc<Shared>,
    seen: u64,
    start: Instant,
    /// Connections by socket.
    passed: HashMap<SocketId, Passed>,
    /// What readers know: policy, log, counters.
    published: Option<(u64, u64, Counters)>,
    /// When there are bytes to spend again, if somebody waits for some.
    pub retry_at: Option<Instant>,
}

impl Gate {
    pub fn new(policy: Policy, shared: Arc<Shared>) -> Self {
        Gate {
            egress: Egress::new(policy, Duration::ZERO),
            seen: shared.generation(),
            shared,
            start: Instant::now(),
            passed: HashMap::new(),
            published: None,
            retry_at: None,
        }
    }

    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// Decides about a flow. For a connection that is let out also what [`Gate::opened`] wants to know.
    pub fn decide(&mut self, now: Instant, asked: &io::Flow) -> (io::Verdict, Option<Passed>) {
        let flow = flow(asked);
        let decision = self.egress.decide(self.time(now), &flow);
        let (verdict, peer) = match decision.verdict {
            Verdict::Allow => (io::Verdict::Allow, flow.destination),
            Verdict::Deny => return (io::Verdict::Deny, None),
            Verdict::Redirect(target) => {
                let header = self.egress.policy().redirect_header(flow.destination);
                // The policy does not redirect what its header cannot tell.
                let Some(header) = header.and_then(|bytes| Preamble::new(bytes.as_bytes())) else {
                    return (io::Verdict::Deny, None);
                };
                let target = SocketAddr::V4(target);
                (io::Verdict::Redirect { target, header }, target)
            }
        };
        let passed = (flow.protocol == Protocol::Tcp).then(|| Passed {
            inspector: decision.check.map(|check| Box::new(Inspector::new(check))),
            dns: self.egress.trusts(peer).then(Box::default),
            flow,
            decision,
            peer,
        });
        (verdict, passed)
    }

    /// A connection that was let out has this socket.
    pub fn opened(&mut self, socket: SocketId, passed: Passed) {
        self.passed.insert(socket, passed);
    }

    /// The socket is gone.
    pub fn closed(&mut self, socket: SocketId) {
        self.passed.remove(&socket);
    }

    /// True if the guest's bytes must be shown to [`Gate::inspect`] before any goes out.
    pub fn holds(&self, socket: SocketId) -> bool {
        self.passed.get(&socket).is_some_and(|p| p.inspector.is_some())
    }

    /// True if the peer's bytes must be shown to [`Gate::observe_stream`] before the guest gets them.
    pub fn taps(&self, socket: SocketId) -> bool {
        self.passed.get(&socket).is_some_and(|p| p.dns.is_some())
    }

    /// The next bytes of a connection that is held: whether they may go out, once that is known.
    pub fn inspect(&mut self, now: Instant, socket: SocketId, bytes: &[u8]) -> Option<bool> {
        let now = self.time(now);
        let Some(passed) = self.passed.get_mut(&socket) else { return Some(false) };
        let Some(inspector) = &mut passed.inspector else { return Some(true) };
        let name = match inspector.push(bytes) {
            Ok(Inspection::Incomplete) => return None,
            Ok(Inspection::Name(name)) => Ok(name),
            Err(error) => Err(error),
        };
        passed.inspector = None;
        passed.decision = self.egress.check_name(now, &passed.flow, &passed.decision, name);
        Some(passed.decision.lets_out())
    }

    /// True if a datagram from there may be an answer that names addresses.
    pub fn trusts(&self, resolver: SocketAddr) -> bool {
        self.egress.trusts(resolver)
    }

    /// A datagram on its way to the guest.
    pub fn observe_datagram(&mut self, now: Instant, from: SocketAddr, message: &[u8]) {
        if self.egress.trusts(from) {
            // Whatever it is, the guest gets it; the egress counts what it could not use.
            let _ = self.egress.observe_dns(self.time(now), from, message);
        }
    }

    /// Bytes of a connection on their way to the guest.
    pub fn observe_stream(&mut self, now: Instant, socket: SocketId, bytes: &[u8]) {
        let now = self.time(now);
        let Some(passed) = self.passed.get_mut(&socket) else { return };
        let (peer, egress) = (passed.peer, &mut self.egress);
        if let Some(dns) = &mut passed.dns {
            // As for datagrams.
            dns.push(bytes, |message| {
                let _ = egress.observe_dns(now, peer, message);
            });
        }
    }

    /// How many of `want` bytes may pass. If not all, [`Gate::retry_at`] says when to ask again.
    pub fn take(&mut self, now: Instant, want: usize) -> usize {
        if !self.egress.limits_bytes() {
            return want;
        }
        let grant = self.egress.take_bytes(self.time(now), want as u64);
        if let Some(at) = grant.retry_at {
            let at = self.start.checked_add(at).unwrap_or(now);
            self.retry_at = Some(self.retry_at.map_or(at, |earlier| earlier.min(at)));
        }
        usize::try_from(grant.bytes).unwrap_or(want)
    }

    /// Bytes that were granted and did not pass.
    pub fn give_back(&mut self, bytes: usize) {
        if bytes > 0 && self.egress.limits_bytes() {
            self.egress.give_back_bytes(bytes as u64);
        }
    }

    /// True if there is a new policy to [`Gate::adopt`].
    pub fn is_stale(&self) -> bool {
        self.shared.generation() != self.seen
    }

    /// Goes over to the new policy. The flows that are to be closed.
    pub fn adopt(&mut self, now: Instant, open: &[io::OpenFlow]) -> Vec<FlowId> {
        let (generation, policy) = self.shared.take();
        self.seen = generation;
        let Some(policy) = policy else { return Vec::new() };
        // Whoever waits asks again: the new limit may be none.
        self.retry_at = self.retry_at.map(|at| at.min(now));
        let open: Vec<(FlowId, OpenFlow)> = open.iter().map(|o| (o.id, self.open_flow(o))).collect();
        let now = self.time(now);
        self.egress.replace(now, policy, open.iter().map(|(id, open)| (*id, open)))
    }

    fn open_flow(&self, open: &io::OpenFlow) -> OpenFlow {
        if let Some(passed) = open.stream.and_then(|socket| self.passed.get(&socket)) {
            return OpenFlow::new(passed.flow, &passed.decision);
        }
        let verdict = match open.target {
            Some(SocketAddr::V4(target)) => Verdict::Redirect(target),
            _ => Verdict::Allow,
        };
        let decision = Decision { verdict, reason: Reason::NoPolicy, host: None, check: None };
        OpenFlow::new(flow(&open.flow), &decision)
    }

    /// Shows readers what is new. Once per turn.
    pub fn publish(&mut self) {
        let counters = self.egress.counters();
        let state = Some((self.seen, self.egress.log().next_sequence(), counters));
        if state != self.published
            && self.shared.publish(self.egress.log(), counters, self.egress.rule_hits())
        {
            self.published = state;
        }
    }
}

fn flow(asked: &io::Flow) -> Flow {
    match asked.protocol {
        io::Protocol::Tcp => Flow::tcp(asked.destination),
        io::Protocol::Udp => Flow::udp(asked.destination),
    }
}
