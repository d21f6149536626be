//! What the compiled policy must agree with: the rules read one after another.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::PolicyConfig;
use crate::flow::{Decision, Flow, NameCheck, Reason};
use crate::host::HostName;
use crate::net::{Cidr, EmbeddedIpv4};
use crate::rule::{Protocol, Target, Verdict};

/// Decides as [`Policy`](crate::Policy) does, slowly and by other means.
#[derive(Debug)]
pub struct Reference<'a> {
    config: &'a PolicyConfig,
    floor: Vec<Cidr>,
}

impl<'a> Reference<'a> {
    /// The reference for a policy.
    pub fn new(config: &'a PolicyConfig) -> Self {
        Self { config, floor: floor(config) }
    }

    /// Decides. `pinned` are the names that the destination is known by.
    pub fn decide(&self, flow: &Flow, pinned: &[HostName]) -> Decision {
        let views = views(flow.destination.ip(), self.config.embedded_ipv4);
        let in_floor = self.floor.iter().find(|n| views.iter().any(|(_, v)| n.contains(*v)));
        match in_floor {
            Some(network) => Decision::deny(Reason::Floor(*network)),
            None => by_rules(self.config, flow, &views, pinned),
        }
    }
}

/// Reads rules until one matches.
fn by_rules(config: &PolicyConfig, flow: &Flow, views: &[(bool, IpAddr)], pinned: &[HostName]) -> Decision {
    for (index, rule) in config.rules.iter().enumerate() {
        let port = flow.destination.port();
        if rule.protocol.is_some_and(|p| p != flow.protocol) || !rule.ports.contains(port) {
            continue;
        }
        let host = match &rule.target {
            Target::Network(network) => {
                if !views.iter().any(|(for_rules, v)| *for_rules && network.contains(*v)) {
                    continue;
                }
                None
            }
            Target::Host(pattern) => match pinned.iter().find(|name| pattern.matches(name)) {
                Some(name) => Some(name.clone()),
                None => continue,
            },
        };
        let by_name = host.is_some();
        let mut decision = Decision { host, ..Decision::new(rule.verdict, Reason::Rule(index)) };
        let can_be_told =
            config.redirect_header.magic_v6.is_some() || views.iter().any(|(own, v)| *own && v.is_ipv4());
        if matches!(rule.verdict, Verdict::Redirect(_)) && !can_be_told {
            (decision.verdict, decision.reason) = (Verdict::Deny, Reason::RedirectNeedsIpv4(index));
        }
        if by_name && rule.verdict == Verdict::Allow {
            match (flow.protocol, port) {
                (Protocol::Tcp, 443) => decision.check = Some(NameCheck::Tls),
                (Protocol::Tcp, 80) => decision.check = Some(NameCheck::Http),
                (Protocol::Udp, 443) if rule.protocol.is_none() => {
                    (decision.verdict, decision.reason) = (Verdict::Deny, Reason::UncheckedName(index));
                }
                _ => {}
            }
        }
        return decision;
    }
    Decision::deny(Reason::NoRule)
}

/// The floor, first what decides first.
fn floor(config: &PolicyConfig) -> Vec<Cidr> {
    let texts = |on: bool, texts: &[&str]| texts.iter().filter(|_| on).map(|t| cidr(t)).collect::<Vec<_>>();
    let mut floor = texts(true, &["169.254.169.254/32", "fd00:ec2::254/128"]);
    floor.extend(&config.floor.networks);
    floor.extend(texts(config.floor.loopback, &["127.0.0.0/8", "0.0.0.0/8", "::1/128"]));
    floor.extend(texts(
        config.floor.private,
        &[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "fe80::/10",
            "fc00::/7",
        ],
    ));
    floor
}

/// The network a constant of this file spells.
fn cidr(text: &str) -> Cidr {
    let parsed =
        text.split_once('/').and_then(|(base, len)| Cidr::new(base.parse().ok()?, len.parse().ok()?));
    parsed.unwrap_or(Cidr::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// The addresses a destination stands for, each with whether rules look at it; the floor looks at all.
fn views(address: IpAddr, embedded: EmbeddedIpv4) -> Vec<(bool, IpAddr)> {
    let loopback = |a: Ipv4Addr| IpAddr::V4(if a.is_unspecified() { Ipv4Addr::LOCALHOST } else { a });
    let v6 = match address {
        IpAddr::V4(a) => return vec![(true, loopback(a))],
        IpAddr::V6(a) => a,
    };
    let [s0, s1, s2, s3, s4, s5, s6, s7] = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let inside = match (s0, s1, s2, s3, s4, s5) {
        (0, 0, 0, 0, 0, 0xffff) => return vec![(true, loopback(join(s6, s7)))],
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(s6, s7)),
        (0x2002, _, _, _, _, _) => Some(join(s1, s2)),
        _ => None,
    };
    match (inside, embedded) {
        (Some(v4), EmbeddedIpv4::AsIpv4) => vec![(true, loopback(v4))],
        (Some(v4), EmbeddedIpv4::AsIpv6) => vec![(true, address), (false, v4.into())],
        (None, _) if v6.is_unspecified() => vec![(true, IpAddr::V6(std::net::Ipv6Addr::LOCALHOST))],
        (None, _) => vec![(true, address)],
    }
}
