//! Bodies of fuzz targets. Each panics if a property does not hold.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{
    Answer, DnsConfig, DnsStream, Egress, Flow, HostPattern, Inspection, Inspector, MAX_ADDRESSES,
    MAX_ALIASES, MAX_PINNED_ADDRESSES, NameCheck, Policy, PolicyConfig, Protocol, Rule, Target, Verdict,
    reference::Reference,
};

/// Destinations tried with every policy, besides those at the edges of its own rules.
const ANYWHERE: [&str; 8] = [
    "0.0.0.0",
    "255.255.255.255",
    "169.254.169.254",
    "::",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::1",
    "fd00:ec2::254",
];
/// Rules whose edges are tried; beyond that a run would take too long.
const EDGES_TRIED: usize = 64;

/// `egress_policy`: JSON text. What compiles decides as the rules do when read one after another.
pub fn policy(data: &[u8]) {
    let Ok(config) = PolicyConfig::from_json(data) else { return };
    let Ok(policy) = Policy::compile(config.clone()) else { return };
    let reference = Reference::new(&config);
    let anywhere = ANYWHERE.iter().filter_map(|text| text.parse().ok()).map(|ip| (ip, 443));
    let edges = config.rules.iter().take(EDGES_TRIED).flat_map(edges);
    for (address, port) in anywhere.chain(edges) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let flow = Flow { protocol, destination: SocketAddr::new(address, port) };
            assert_eq!(policy.decide(&flow), reference.decide(&flow, &[]), "{flow}");
        }
    }
}

/// The corners of a rule's box of addresses and ports, and of the boxes beside it.
fn edges(rule: &Rule) -> Vec<(IpAddr, u16)> {
    let Target::Network(network) = rule.target else { return Vec::new() };
    let addresses = match network.base() {
        IpAddr::V4(a) => {
            let first = a.to_bits();
            let last = first | u32::MAX.checked_shr(network.prefix_len().into()).unwrap_or(0);
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|a| IpAddr::V4(a.into()))
        }
        IpAddr::V6(a) => {
            let first = a.to_bits();
            let last = first | u128::MAX.checked_shr(network.prefix_len().into()).unwrap_or(0);
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|a| IpAddr::V6(a.into()))
        }
    };
    let (first, last) = (rule.ports.first(), rule.ports.last());
    let ports = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
    addresses.into_iter().flat_map(|a| ports.map(|port| (a, port))).collect()
}

/// `egress_dns`: a DNS message, then the same bytes as a stream.
pub fn dns(data: &[u8]) {
    let resolver = SocketAddr::from(([9, 9, 9, 9], 53));
    let mut egress = egress_with_names(resolver);
    let mut now = Duration::ZERO;
    let mut observe = |message: &[u8]| {
        let parsed = Answer::parse(message);
        let observed = egress.observe_dns(now, resolver, message);
        assert_eq!(parsed.as_ref().err(), observed.as_ref().err());
        if let (Ok(answer), Ok(pinned)) = (parsed, observed) {
            assert!(answer.addresses.len() <= MAX_ADDRESSES && answer.names.len() <= MAX_ALIASES + 1);
            assert!(pinned <= answer.addresses.len() && egress.pinned_addresses() <= MAX_PINNED_ADDRESSES);
            for address in answer.addresses {
                let decision = egress.decide(now, &Flow::tcp((address, 443)));
                assert!(
                    decision.lets_out() == decision.host.is_some(),
                    "only names open anything: {decision}"
                );
            }
        }
        now = now.saturating_add(Duration::from_secs(1));
    };
    observe(data);
    DnsStream::new().push(data, &mut observe);
}

/// An egress that allows every name below `com`.
fn egress_with_names(resolver: SocketAddr) -> Egress {
    let rules =
        HostPattern::parse("*.com").map(|host| Rule::host(host, Verdict::Allow)).into_iter().collect();
    let dns = DnsConfig { resolvers: vec![resolver], ..DnsConfig::default() };
    let config = PolicyConfig { rules, dns, ..PolicyConfig::default() };
    Egress::new(Policy::compile(config).unwrap_or(Policy::unrestricted()), Duration::ZERO)
}

/// `egress_sni`: two bytes that choose the protocol and the size of the pieces, then the first bytes of a
/// connection. A name does not depend on the pieces.
pub fn sni(data: &[u8]) {
    let Some(([choice, size], stream)) = data.split_first_chunk::<2>() else { return };
    let check = if choice & 1 == 0 { NameCheck::Tls } else { NameCheck::Http };
    let whole = Inspector::new(check).push(stream);
    let mut inspector = Inspector::new(check);
    let mut in_pieces = Ok(Inspection::Incomplete);
    for piece in stream.chunks(usize::from(*size).saturating_add(1)) {
        let next = inspector.push(piece);
        if in_pieces != Ok(Inspection::Incomplete) {
            assert_eq!(next, in_pieces, "an outcome stays");
        }
        in_pieces = next;
    }
    match (&whole, &in_pieces) {
        (Ok(Inspection::Name(a)), Ok(Inspection::Name(b))) => assert_eq!(a, b),
        // An error may be noticed later.
        (Err(_), Err(_) | Ok(Inspection::Incomplete)) => {}
        (a, b) => assert_eq!(a, b),
    }
}

#[cfg(test)]
mod tests;
