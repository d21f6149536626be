//! Rules: what they match, and what they say.

use std::fmt;
use std::net::SocketAddrV4;

use crate::host::HostPattern;
use crate::net::Cidr;

/// A transport protocol that flows and rules name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both, in the order of their tables.
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An inclusive range of destination ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The ports `first..=last`; `None` if `first` is over `last`.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first > last { None } else { Some(Self { first, last }) }
    }

    /// One port.
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port.
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(&self) -> u16 {
        self.last
    }

    /// Whether `port` is in the range.
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// What a rule matches a destination by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Addresses.
    Network(Cidr),
    /// Addresses that a trusted resolver's answer to the guest gave for such a name.
    Host(HostPattern),
}

/// What is to happen with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes to its destination.
    Allow,
    /// It goes nowhere, and the guest is told that the connection was refused.
    Deny,
    /// It goes to this address instead. The peer there learns the original destination from
    /// [`RedirectHeader`](crate::RedirectHeader).
    Redirect(SocketAddrV4),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny => f.write_str("deny"),
            Self::Redirect(to) => write!(f, "redirect {to}"),
        }
    }
}

/// One rule of a policy. A flow matches it if target, ports and protocol all match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The destinations.
    pub target: Target,
    /// The destination ports.
    pub ports: PortRange,
    /// The protocol; `None` means any.
    pub protocol: Option<Protocol>,
    /// What happens to a flow that matches this rule and none before it.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule for every port and protocol of a network.
    pub const fn network(network: Cidr, verdict: Verdict) -> Self {
        Self { target: Target::Network(network), ports: PortRange::ALL, protocol: None, verdict }
    }

    /// A rule for every port and protocol of a host name or suffix.
    pub const fn host(host: HostPattern, verdict: Verdict) -> Self {
        Self { target: Target::Host(host), ports: PortRange::ALL, protocol: None, verdict }
    }

    /// The same rule for these ports only.
    #[must_use]
    pub fn ports(mut self, ports: PortRange) -> Self {
        self.ports = ports;
        self
    }

    /// The same rule for this protocol only.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    pub(crate) fn covers(&self, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|p| p == protocol)
    }
}
