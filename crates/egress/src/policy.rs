//! A policy, compiled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::compiled::{AddressTable, NO_RULE, NameTable, Networks, NodeId, Patterns, PortRule, RuleId};
use crate::config::{DnsConfig, Limits, MAX_FLOOR_NETWORKS, MAX_RESOLVERS, MAX_RULES, PolicyConfig};
use crate::error::{PolicyError, Problem};
use crate::floor::Floor;
use crate::flow::{Decision, Flow, NameCheck, Reason};
use crate::host::HostName;
use crate::net::{Cidr, EmbeddedIpv4, embedded_v4, judged_address, judged_network, mask_v4, mask_v6};
use crate::redirect::{RedirectBytes, RedirectHeader};
use crate::rule::{PortRange, Protocol, Rule, Target, Verdict};

/// The port of HTTPS, and of QUIC.
const HTTPS: u16 = 443;
/// The port of HTTP.
const HTTP: u16 = 80;

/// A compiled policy.
///
/// Immutable, cheap to clone, and shared freely between threads: compile it anywhere, then hand it to the
/// owner of an [`Egress`](crate::Egress).
#[derive(Clone, Debug)]
pub struct Policy(Option<Arc<Compiled>>);

/// The tables. The floor is compiled in front of the rules: its entries have the lowest numbers.
#[derive(Debug)]
struct Compiled {
    rules: Vec<Rule>,
    floor: Vec<Cidr>,
    v4: AddressTable<u32>,
    v6: AddressTable<u128>,
    names: Option<NameTable>,
    dns: DnsConfig,
    limits: Limits,
    embedded: EmbeddedIpv4,
    redirect: RedirectHeader,
}

/// What a rule says, in short: the lowest bits of its number, so that most decisions need no look at the rule.
#[derive(Clone, Copy)]
enum Said {
    Deny = 0,
    Allow = 1,
    Redirect = 2,
    /// Denied, by a network of the floor.
    Floor = 3,
}

impl Said {
    /// Bits of a rule's number that are not its place.
    const BITS: u32 = 2;

    const fn of(rule: &Rule) -> Self {
        match rule.verdict {
            Verdict::Deny => Self::Deny,
            Verdict::Allow => Self::Allow,
            Verdict::Redirect(_) => Self::Redirect,
        }
    }

    /// The number of the rule at `place`, of the floor and the rules together, which says this.
    const fn at(self, place: u32) -> RuleId {
        place << Self::BITS | self as u32
    }

    /// Whether a rule number says this.
    const fn by(self, id: RuleId) -> bool {
        id != NO_RULE && id & ((1 << Self::BITS) - 1) == self as u32
    }
}

const _: () = assert!((MAX_RULES + 2 * MAX_FLOOR_NETWORKS) << Said::BITS < NO_RULE as usize);

impl Policy {
    /// The policy of a machine that was given none: everything is allowed, without a floor or limits.
    pub const fn unrestricted() -> Self {
        Self(None)
    }

    /// Compiles a policy. Time and memory are about linear in the number of rules (some 100 ms and 40 MB
    /// for 100,000 networks without optimisation of the rules).
    ///
    /// # Errors
    ///
    /// [`PolicyError::Rule`] and [`PolicyError::Field`] for what no policy may say; see [`Problem`].
    pub fn compile(config: PolicyConfig) -> Result<Self, PolicyError> {
        let floor = check_config(&config)?.all();
        let mut tables = Tables::default();
        for (id, network) in (0..).zip(&floor) {
            tables.add_floor(*network, Said::Floor.at(id));
        }
        for ((index, rule), place) in config.rules.iter().enumerate().zip(floor.len()..) {
            // Within `MAX_RULES` and `MAX_FLOOR_NETWORKS`.
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            tables
                .add_rule(rule, Said::of(rule).at(place), config.embedded_ipv4)
                .map_err(|p| PolicyError::rule(index, "base", p))?;
        }
        Ok(Self(Some(Arc::new(Compiled {
            rules: config.rules,
            floor,
            v4: tables.v4.build(),
            v6: tables.v6.build(),
            names: tables.names.build(),
            dns: config.dns,
            limits: config.limits,
            embedded: config.embedded_ipv4,
            redirect: config.redirect_header,
        }))))
    }

    /// Reads and compiles a policy in JSON: see [`PolicyConfig::from_json`].
    ///
    /// # Errors
    ///
    /// See [`PolicyError`].
    pub fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        Self::compile(PolicyConfig::from_json(json)?)
    }

    /// Decides by addresses alone, as if no name had ever been resolved.
    ///
    /// Nothing is counted or logged; [`Egress::decide`](crate::Egress::decide) does that, and knows names.
    pub fn decide(&self, flow: &Flow) -> Decision {
        self.decide_with(flow, |_, _| None)
    }

    /// The rules, in their order. None for [`unrestricted`](Self::unrestricted).
    pub fn rules(&self) -> &[Rule] {
        self.0.as_ref().map_or(&[], |compiled| &compiled.rules)
    }

    /// What a redirect's target is sent before anything of a flow with this destination. `None` if there is no
    /// header for it; such a flow is not redirected.
    pub fn redirect_header(&self, destination: SocketAddr) -> Option<RedirectBytes> {
        let compiled = self.0.as_deref()?;
        let judged = judged_address(destination.ip(), compiled.embedded);
        compiled.redirect.bytes(SocketAddr::new(judged, destination.port()))
    }

    /// Where host names come from.
    pub(crate) fn dns(&self) -> Option<&DnsConfig> {
        self.0.as_ref().map(|compiled| &compiled.dns)
    }

    /// How much the guest may do.
    pub(crate) fn limits(&self) -> Limits {
        self.0.as_ref().map_or(Limits::default(), |compiled| compiled.limits)
    }

    /// The host pattern a name falls under.
    pub(crate) fn node_of(&self, name: &HostName) -> Option<NodeId> {
        self.0.as_ref()?.names.as_ref()?.node(name)
    }

    /// The address by which a destination is judged.
    pub(crate) fn judged(&self, address: IpAddr) -> IpAddr {
        judged_address(address, self.0.as_ref().map_or(EmbeddedIpv4::AsIpv6, |compiled| compiled.embedded))
    }

    /// Decides, with `names` as the source of the first rule that matches by name: it is given the judged
    /// address and a function from a pattern to its first rule.
    pub(crate) fn decide_with(
        &self,
        flow: &Flow,
        names: impl FnOnce(IpAddr, &dyn Fn(NodeId) -> RuleId) -> Option<(RuleId, HostName)>,
    ) -> Decision {
        let Some(compiled) = self.0.as_deref() else {
            return Decision::new(Verdict::Allow, Reason::NoPolicy);
        };
        let address = judged_address(flow.destination.ip(), compiled.embedded);
        let (protocol, port) = (flow.protocol, flow.destination.port());
        let by_address = compiled.by_address(address, protocol, port);
        let by_name = compiled.names.as_ref().and_then(|table| {
            let named = names(address, &|node| table.first_rule(node, protocol, port));
            named.filter(|(id, _)| *id < by_address)
        });
        match by_name {
            Some((id, host)) => compiled.decision(id, flow, address, Some(host)),
            None => compiled.decision(by_address, flow, address, None),
        }
    }
}

impl Compiled {
    fn by_address(&self, address: IpAddr, protocol: Protocol, port: u16) -> RuleId {
        match address {
            IpAddr::V4(a) => self.v4.first_rule(a.to_bits(), protocol, port),
            IpAddr::V6(a) => {
                let own = self.v6.first_rule(a.to_bits(), protocol, port);
                // Judged as IPv6, but the floor holds for what a translator makes of it.
                let inside = embedded_v4(a).map(|v4| self.v4.first_rule(v4.to_bits(), protocol, port));
                inside.filter(|id| Said::Floor.by(*id)).map_or(own, |id| id.min(own))
            }
        }
    }

    /// What the rule with this number means for a flow.
    fn decision(&self, id: RuleId, flow: &Flow, judged: IpAddr, host: Option<HostName>) -> Decision {
        let place = (id >> Said::BITS) as usize;
        let index = place.wrapping_sub(self.floor.len());
        if host.is_none() && (Said::Deny.by(id) || Said::Allow.by(id)) {
            // The two usual answers, in one piece: a processor cannot guess which it is.
            let verdict = if Said::Deny.by(id) { Verdict::Deny } else { Verdict::Allow };
            return Decision::new(verdict, Reason::Rule(index));
        }
        if let Some(network) = self.floor.get(place) {
            return Decision::deny(Reason::Floor(*network));
        }
        let Some(rule) = self.rules.get(index) else { return Decision::deny(Reason::NoRule) };
        let by_name = host.is_some();
        let mut decision = Decision { host, ..Decision::new(rule.verdict, Reason::Rule(index)) };
        match (rule.verdict, flow.protocol, flow.destination.port()) {
            (Verdict::Redirect(_), _, _) if judged.is_ipv6() && self.redirect.magic_v6.is_none() => {
                decision.verdict = Verdict::Deny;
                decision.reason = Reason::RedirectNeedsIpv4(index);
            }
            (Verdict::Allow, Protocol::Udp, HTTPS) if by_name && rule.protocol.is_none() => {
                decision.verdict = Verdict::Deny;
                decision.reason = Reason::UncheckedName(index);
            }
            (Verdict::Allow, Protocol::Tcp, HTTPS) if by_name => decision.check = Some(NameCheck::Tls),
            (Verdict::Allow, Protocol::Tcp, HTTP) if by_name => decision.check = Some(NameCheck::Http),
            _ => {}
        }
        decision
    }
}

/// The tables as they are filled.
struct Tables {
    v4: Networks<u32>,
    v6: Networks<u128>,
    names: Patterns,
}

impl Default for Tables {
    fn default() -> Self {
        Self { v4: Networks::new(), v6: Networks::new(), names: Patterns::default() }
    }
}

impl Tables {
    fn add_floor(&mut self, network: Cidr, id: RuleId) {
        for protocol in Protocol::ALL {
            self.add_network(network, protocol, port_rule(PortRange::ALL, id));
        }
    }

    fn add_rule(&mut self, rule: &Rule, id: RuleId, embedded: EmbeddedIpv4) -> Result<(), Problem> {
        let entry = port_rule(rule.ports, id);
        for protocol in Protocol::ALL.into_iter().filter(|p| rule.covers(*p)) {
            match &rule.target {
                Target::Network(network) => {
                    let network = judged_network(*network, embedded).map_err(|_| Problem::NeverJudged)?;
                    self.add_network(network, protocol, entry);
                }
                Target::Host(pattern) => self.names.add(pattern, protocol, entry),
            }
        }
        Ok(())
    }

    fn add_network(&mut self, network: Cidr, protocol: Protocol, rule: PortRule) {
        match network.base() {
            IpAddr::V4(base) => {
                let first = base.to_bits();
                self.v4.add(first, first | !mask_v4(network.prefix_len()), protocol, rule);
            }
            IpAddr::V6(base) => {
                let first = base.to_bits();
                self.v6.add(first, first | !mask_v6(network.prefix_len()), protocol, rule);
            }
        }
    }
}

fn port_rule(ports: PortRange, id: RuleId) -> PortRule {
    PortRule { first: ports.first(), last: ports.last(), id }
}

/// Checks what the types leave open. Gives the floor as destinations are judged.
fn check_config(config: &PolicyConfig) -> Result<Floor, PolicyError> {
    check_count("rules", config.rules.len(), MAX_RULES)?;
    check_count("floor.networks", config.floor.networks.len(), MAX_FLOOR_NETWORKS)?;
    check_count("dns.resolvers", config.dns.resolvers.len(), MAX_RESOLVERS)?;
    if config.dns.min_ttl > config.dns.max_ttl {
        let problem = Problem::Expected { expected: "at least min_ttl" };
        return Err(PolicyError::field("dns.max_ttl", problem));
    }
    for (field, rate) in
        [("limits.connections", config.limits.connections), ("limits.bytes", config.limits.bytes)]
    {
        if rate.is_some_and(|rate| rate.per_second == 0 || rate.burst == 0) {
            return Err(PolicyError::field(field, Problem::Range { min: 1, max: u64::MAX }));
        }
    }
    if config.redirect_header.magic_v6 == Some(config.redirect_header.magic) {
        let problem = Problem::Expected { expected: "a number other than magic" };
        return Err(PolicyError::field("redirect_header.magic_v6", problem));
    }
    let floor = config
        .floor
        .judged(config.embedded_ipv4)
        .map_err(|index| PolicyError::field(format!("floor.networks[{index}]"), Problem::NeverJudged))?;
    for (index, rule) in config.rules.iter().enumerate() {
        check_rule(rule, &floor, &config.dns.resolvers)
            .map_err(|(field, problem)| PolicyError::rule(index, field, problem))?;
    }
    Ok(floor)
}

fn check_count(field: &str, count: usize, max: usize) -> Result<(), PolicyError> {
    if count > max {
        return Err(PolicyError::field(field, Problem::TooMany { count, max }));
    }
    Ok(())
}

fn check_rule(rule: &Rule, floor: &Floor, resolvers: &[SocketAddr]) -> Result<(), (&'static str, Problem)> {
    if matches!(rule.target, Target::Host(_)) && resolvers.is_empty() {
        return Err(("host", Problem::NoResolver));
    }
    match rule.verdict {
        Verdict::Redirect(to)
            if floor.bars_target(judged_address((*to.ip()).into(), EmbeddedIpv4::AsIpv4)) =>
        {
            Err(("redirect_target", Problem::TargetInFloor))
        }
        Verdict::Redirect(to) if to.port() == 0 => {
            Err(("redirect_target", Problem::Expected { expected: "a port other than 0" }))
        }
        _ => Ok(()),
    }
}
