//! The egress of one virtual machine: its policy and all that changes while it runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::Rate;
use crate::counters::{Counters, bump};
use crate::dns::{Answer, DnsError, Pins};
use crate::floor::is_local;
use crate::flow::{Decision, Flow, Reason};
use crate::hits::RuleHits;
use crate::host::HostName;
use crate::inspect::InspectError;
use crate::limit::TokenBucket;
use crate::log::{DEFAULT_LOG_CAPACITY, DecisionLog};
use crate::net::{EmbeddedIpv4, judged_address};
use crate::policy::Policy;
use crate::rule::Verdict;

/// The live egress state of one virtual machine.
///
/// Has one owner, which calls it from one thread at a time. `now` is monotonic time since any moment the
/// caller chose, the same for all calls; a time before the last one is taken as no time passed.
#[derive(Debug)]
pub struct Egress {
    policy: Policy,
    generation: u64,
    pins: Pins,
    connections: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
    hits: RuleHits,
    counters: Counters,
    log: DecisionLog,
}

/// A flow that was let out and is still open, as [`Egress::replace`] needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFlow {
    flow: Flow,
    verdict: Verdict,
    host: Option<HostName>,
}

impl OpenFlow {
    /// The flow and what was last decided about it: by [`Egress::decide`], or by [`Egress::check_name`] if
    /// that was called.
    pub fn new(flow: Flow, decision: &Decision) -> Self {
        Self { flow, verdict: decision.verdict, host: decision.host.clone() }
    }
}

/// Bytes that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many may pass now, at most what was asked for.
    pub bytes: u64,
    /// If not all: when it is worth asking again.
    pub retry_at: Option<Duration>,
}

impl Egress {
    /// The egress of a machine that starts at `now`, with a log of [`DEFAULT_LOG_CAPACITY`] entries.
    pub fn new(policy: Policy, now: Duration) -> Self {
        Self::with_log_capacity(policy, now, DEFAULT_LOG_CAPACITY)
    }

    /// As [`new`](Self::new), with a log of `capacity` entries (some 150 bytes each, allocated as needed).
    pub fn with_log_capacity(policy: Policy, now: Duration, capacity: usize) -> Self {
        let limits = policy.limits();
        Self {
            generation: 0,
            pins: Pins::default(),
            connections: limits.connections.map(|rate| TokenBucket::full(rate, now)),
            bytes: limits.bytes.map(|rate| TokenBucket::full(rate, now)),
            hits: RuleHits::new(policy.rules().len()),
            counters: Counters::default(),
            log: DecisionLog::new(capacity),
            policy,
        }
    }

    /// Decides about a new flow: counts it, logs it, and charges it to the limit on connections if it is let
    /// out. Call it once per connection and once per UDP destination.
    ///
    /// If the decision has a [`check`](Decision::check), hold the guest's bytes back until
    /// [`check_name`](Self::check_name) agrees.
    pub fn decide(&mut self, now: Duration, flow: &Flow) -> Decision {
        let mut decision = self.judge(now, flow);
        if let Some(bucket) = self.connections.as_mut().filter(|_| decision.lets_out())
            && bucket.take(now, 1) == 0
        {
            decision = Decision::deny(Reason::ConnectionRate);
        }
        if let Reason::Rule(index) = decision.reason {
            self.hits.bump(index);
        }
        self.counters.decided(&decision);
        self.log.push(now, self.generation, *flow, decision.clone());
        decision
    }

    /// What [`decide`](Self::decide) would decide, but for limits; nothing is counted, logged or charged.
    /// Cheap enough to be asked for every datagram of a flow that is already open.
    pub fn judge(&self, now: Duration, flow: &Flow) -> Decision {
        self.policy.decide_with(flow, |address, rule_of| {
            let (id, name) = self.pins.first_rule(now, address, rule_of)?;
            Some((id, name.clone()))
        })
    }

    /// Finishes the name check that `opened`, the decision about this flow, asked for. `name` is what an
    /// [`Inspector`](crate::Inspector) found.
    ///
    /// The flow stays allowed if the policy allows it for this name, and the name is pinned to the
    /// destination (or was until [`NAME_CHECK_GRACE`](crate::NAME_CHECK_GRACE) ago); or if the policy allows
    /// the destination whatever the name. Otherwise it is denied: close it without sending a byte.
    pub fn check_name(
        &mut self,
        now: Duration,
        flow: &Flow,
        opened: &Decision,
        name: Result<HostName, InspectError>,
    ) -> Decision {
        let mut judged = self.policy.decide_with(flow, |address, rule_of| {
            let name = name.as_ref().ok()?;
            let node = self.policy.node_of(name)?;
            self.pins.held(now, address, name).then(|| (rule_of(node), name.clone()))
        });
        judged.check = None;
        let decision = if judged.verdict == Verdict::Allow {
            bump(&mut self.counters.names_passed);
            judged
        } else {
            bump(&mut self.counters.names_failed);
            failed_check(opened, judged, name)
        };
        self.log.push(now, self.generation, *flow, decision.clone());
        decision
    }

    /// Reads a DNS message that `resolver` sent to the guest, on its way there, and pins the names in it to
    /// the addresses in it. Gives how many addresses were pinned. For TCP, cut the stream into messages with
    /// [`DnsStream`](crate::DnsStream).
    ///
    /// Forward the message in any case, and after this call, so that the guest finds the pins in place.
    ///
    /// # Errors
    ///
    /// [`DnsError::Untrusted`] unless the policy trusts this resolver, address and port; otherwise what is
    /// wrong with the message. An error pins nothing.
    pub fn observe_dns(
        &mut self,
        now: Duration,
        resolver: SocketAddr,
        message: &[u8],
    ) -> Result<usize, DnsError> {
        let Some(dns) = self.policy.dns().filter(|_| self.trusts(resolver)) else {
            bump(&mut self.counters.dns_untrusted);
            return Err(DnsError::Untrusted);
        };
        let (min_ttl, max_ttl, local_answers) = (dns.min_ttl, dns.max_ttl, dns.local_answers);
        let answer = Answer::parse(message).inspect_err(|_| bump(&mut self.counters.dns_refused))?;
        bump(&mut self.counters.dns_read);
        let ttl = Duration::from_secs(answer.ttl.into()).max(min_ttl).min(max_ttl);
        let mut pinned = 0_usize;
        for address in &answer.addresses {
            let address = self.policy.judged(*address);
            // Whatever the policy makes of a translator's address, what is behind it counts here.
            if !local_answers && is_local(judged_address(address, EmbeddedIpv4::AsIpv4)) {
                bump(&mut self.counters.pins_refused);
                continue;
            }
            self.pin(now, address, &answer.names, now.saturating_add(ttl));
            pinned = pinned.saturating_add(1);
        }
        Ok(pinned)
    }

    fn pin(&mut self, now: Duration, address: IpAddr, names: &[HostName], lapses: Duration) {
        for name in names {
            let evicted = self.pins.add(now, address, name, lapses, &self.policy);
            self.counters.pins_evicted = self.counters.pins_evicted.wrapping_add(evicted as u64);
        }
    }

    /// Asks for `want` bytes of the limit on bytes. What is granted is charged.
    pub fn take_bytes(&mut self, now: Duration, want: u64) -> Grant {
        let (bytes, retry_at) = match &mut self.bytes {
            None => (want, None),
            Some(bucket) => {
                let bytes = bucket.take(now, want);
                let rest = want.saturating_sub(bytes);
                // Not before an eighth of the burst is there, so that a waiter is not woken for each byte.
                let worthwhile = rest.min(bucket.rate().burst.div_ceil(8));
                (bytes, (rest > 0).then(|| bucket.when(worthwhile)))
            }
        };
        self.counters.bytes_granted = self.counters.bytes_granted.wrapping_add(bytes);
        Grant { bytes, retry_at }
    }

    /// Takes back bytes that were granted and not used.
    pub fn give_back_bytes(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.give_back(bytes);
        }
        self.counters.bytes_granted = self.counters.bytes_granted.wrapping_sub(bytes);
    }

    /// True if there is a limit on bytes, so that [`take_bytes`](Self::take_bytes) has to be asked.
    pub fn limits_bytes(&self) -> bool {
        self.bytes.is_some()
    }

    /// True if what this resolver says is to be shown to [`observe_dns`](Self::observe_dns). False for all if
    /// no rule has a name.
    pub fn trusts(&self, resolver: SocketAddr) -> bool {
        self.policy.dns().is_some_and(|dns| dns.resolvers.iter().any(|known| same(*known, resolver)))
    }

    /// Installs another policy in place of the current one, at once and as a whole, and gives the keys of
    /// the open flows that must be closed, in their order.
    ///
    /// A flow stays if the new policy would let it out to the same place. Names keep what they know: pins
    /// survive, a flow that was allowed for a name is judged by that name even if the pin has lapsed, and one
    /// whose name was not checked when it opened is closed if the new policy asks for a check. What was used
    /// up of a limit stays used up. Hits count from 0 again.
    pub fn replace<'a, K>(
        &mut self,
        now: Duration,
        policy: Policy,
        open: impl IntoIterator<Item = (K, &'a OpenFlow)>,
    ) -> Vec<K> {
        let limits = policy.limits();
        self.connections = adapt(self.connections, limits.connections, now);
        self.bytes = adapt(self.bytes, limits.bytes, now);
        self.hits = RuleHits::new(policy.rules().len());
        self.policy = policy;
        self.pins.adopt(&self.policy);
        self.generation = self.generation.wrapping_add(1);
        let closing: Vec<K> =
            open.into_iter().filter(|(_, open)| !self.keeps(now, open)).map(|(key, _)| key).collect();
        let counter = &mut self.counters.closed_by_replacement;
        *counter = counter.wrapping_add(closing.len() as u64);
        closing
    }

    /// Whether the policy, new since the flow was opened, lets it stay.
    fn keeps(&self, now: Duration, open: &OpenFlow) -> bool {
        let decision = self.policy.decide_with(&open.flow, |address, rule_of| {
            let own = open.host.as_ref();
            let own = own.and_then(|name| Some((rule_of(self.policy.node_of(name)?), name)));
            let pinned = self.pins.first_rule(now, address, rule_of);
            let first = own.into_iter().chain(pinned).min_by_key(|(id, _)| *id)?;
            Some((first.0, first.1.clone()))
        });
        let name_is_known = decision.check.is_none() || decision.host == open.host;
        decision.verdict == open.verdict && name_is_known
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How often the policy was replaced.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How often each rule decided since this policy was installed; a clone shows it to others.
    pub fn rule_hits(&self) -> &RuleHits {
        &self.hits
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last decisions.
    pub fn log(&self) -> &DecisionLog {
        &self.log
    }

    /// How many addresses have names pinned to them. At most
    /// [`MAX_PINNED_ADDRESSES`](crate::MAX_PINNED_ADDRESSES).
    pub fn pinned_addresses(&self) -> usize {
        self.pins.len()
    }
}

/// The denial of a flow that `opened` allowed.
fn failed_check(opened: &Decision, judged: Decision, name: Result<HostName, InspectError>) -> Decision {
    let reason = match (opened.reason, &name) {
        (Reason::Rule(rule), Ok(_)) => Reason::NameCheck(rule, crate::flow::NameCheckFailure::Mismatch),
        (Reason::Rule(rule), Err(error)) => Reason::NameCheck(rule, error.failure()),
        _ => judged.reason,
    };
    Decision { host: name.ok(), ..Decision::deny(reason) }
}

/// Whether two sockets are the same place.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && judged_address(a.ip(), EmbeddedIpv4::AsIpv6) == judged_address(b.ip(), EmbeddedIpv4::AsIpv6)
}

/// A limit's bucket after its rate changed.
fn adapt(bucket: Option<TokenBucket>, rate: Option<Rate>, now: Duration) -> Option<TokenBucket> {
    let rate = rate?;
    Some(bucket.map_or(TokenBucket::full(rate, now), |bucket| bucket.at_rate(rate, now)))
}

#[cfg(test)]
mod tests;
