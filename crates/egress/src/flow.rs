//! Flows and what is decided about them.

use std::fmt;
use std::net::SocketAddr;

use crate::host::HostName;
use crate::net::Cidr;
use crate::rule::{Protocol, Verdict};

/// Something a guest wants to send to: a connection, or the datagrams to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The destination as the guest gave it. Judge the same copy that is then connected to.
    pub destination: SocketAddr,
}

impl Flow {
    /// A TCP connection.
    pub fn tcp(destination: impl Into<SocketAddr>) -> Self {
        Self { protocol: Protocol::Tcp, destination: destination.into() }
    }

    /// UDP datagrams.
    pub fn udp(destination: impl Into<SocketAddr>) -> Self {
        Self { protocol: Protocol::Udp, destination: destination.into() }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.destination)
    }
}

/// Why a decision came out as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Allowed: no policy is installed.
    NoPolicy,
    /// Rule `0` of the policy decided (rules count from 0).
    Rule(usize),
    /// Denied: no rule matched.
    NoRule,
    /// Denied: the destination is in this network of the floor.
    Floor(Cidr),
    /// Denied: this rule redirects, but the destination is IPv6, and the policy has no redirect header for it.
    RedirectNeedsIpv4(usize),
    /// Denied: this rule allows a host name for any protocol, but the flow is UDP to port 443, where the
    /// name inside (QUIC) cannot be checked. A rule that says `"protocol": "udp"` allows it.
    UncheckedName(usize),
    /// Denied: too many new connections.
    ConnectionRate,
    /// Denied after the first bytes: this rule allowed the address for a name, and the connection is for
    /// another name, for none, or not of the protocol that its port is for.
    NameCheck(usize, NameCheckFailure),
}

/// How the name check of a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameCheckFailure {
    /// The name is not pinned to the destination, or the policy does not allow it there.
    Mismatch,
    /// There is no name.
    Missing,
    /// The bytes are not the start of TLS (443) or HTTP/1 (80).
    Unreadable,
}

impl Reason {
    /// The index of the rule that decided, if one did.
    pub fn rule(&self) -> Option<usize> {
        match self {
            Self::Rule(index)
            | Self::RedirectNeedsIpv4(index)
            | Self::UncheckedName(index)
            | Self::NameCheck(index, _) => Some(*index),
            Self::NoPolicy | Self::NoRule | Self::Floor(_) | Self::ConnectionRate => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy"),
            Self::Rule(index) => write!(f, "rule {index}"),
            Self::NoRule => f.write_str("no rule"),
            Self::Floor(network) => write!(f, "floor {network}"),
            Self::RedirectNeedsIpv4(index) => write!(f, "rule {index}, redirect needs ipv4"),
            Self::UncheckedName(index) => write!(f, "rule {index}, unchecked name"),
            Self::ConnectionRate => f.write_str("connection rate"),
            Self::NameCheck(index, failure) => write!(
                f,
                "rule {index}, {}",
                match failure {
                    NameCheckFailure::Mismatch => "name mismatch",
                    NameCheckFailure::Missing => "name missing",
                    NameCheckFailure::Unreadable => "name unreadable",
                }
            ),
        }
    }
}

/// What the first bytes of a connection must show before they may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameCheck {
    /// A TLS ClientHello whose server name is checked (port 443).
    Tls,
    /// An HTTP/1 request whose host is checked (port 80).
    Http,
}

/// The answer for one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is to happen.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The name by which the rule matched, if it matched by name.
    pub host: Option<HostName>,
    /// What to check with an [`Inspector`](crate::Inspector) before a byte of the guest goes out. Only
    /// with [`Verdict::Allow`].
    pub check: Option<NameCheck>,
}

impl Decision {
    pub(crate) const fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, host: None, check: None }
    }

    pub(crate) const fn deny(reason: Reason) -> Self {
        Self::new(Verdict::Deny, reason)
    }

    /// Whether the flow may go somewhere, to its destination or to a redirect's target.
    pub fn lets_out(&self) -> bool {
        self.verdict != Verdict::Deny
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.verdict, self.reason)?;
        if let Some(host) = &self.host {
            write!(f, ", {host}")?;
        }
        f.write_str(")")
    }
}
