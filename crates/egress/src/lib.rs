//! Egress policy for virtual machines: which destinations a guest may reach, without doing any IO.
//!
//! A [`Policy`] is a list of rules compiled for lookup: networks, ports, protocols and host names on one
//! side; allow, deny or redirect on the other. The first rule that matches decides; where none does, the
//! answer is deny. An [`Egress`] is one machine's policy with all that changes while it runs: the names its
//! DNS answers gave to addresses, rate limits, counters and a log. Bytes, addresses and time come in as
//! arguments, decisions go out; sockets and clocks are the caller's.
//!
//! ```
//! use std::time::Duration;
//! use purlin_egress::{Egress, Flow, Policy, Reason, Verdict};
//!
//! let policy = Policy::from_json(br#"{"rules":[
//!     {"prefix_len": 8, "base": "10.0.0.0", "port_range": [443, 443], "verdict": "allow"},
//!     {"prefix_len": 0, "base": "0.0.0.0", "port_range": [80, 80],
//!      "verdict": "redirect", "redirect_target": "127.0.0.1:15001"}]}"#)?;
//!
//! let now = Duration::ZERO;
//! let mut egress = Egress::new(policy, now);
//!
//! let inside = egress.decide(now, &Flow::tcp(([10, 1, 2, 3], 443)));
//! assert_eq!((inside.verdict, inside.reason), (Verdict::Allow, Reason::Rule(0)));
//!
//! // An IPv4 address in IPv6 clothes is judged by the same rules.
//! let mapped = "[::ffff:10.1.2.3]:22".parse::<std::net::SocketAddr>()?;
//! let other_port = egress.decide(now, &Flow::tcp(mapped));
//! assert_eq!((other_port.verdict, other_port.reason), (Verdict::Deny, Reason::NoRule));
//!
//! for entry in egress.log().since(0) {
//!     println!("{entry}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Names
//!
//! A rule may name a host (`example.com`) or everything below one (`*.example.com`). A guest connects to
//! addresses, so such a rule matches an address if a resolver that the policy trusts gave it to this guest
//! for such a name: the caller shows every answer to [`Egress::observe_dns`]. One address serves many names,
//! so on TCP ports 443 and 80 the connection must also say the name: the decision asks for a [`NameCheck`],
//! an [`Inspector`] finds the name in the first bytes, and [`Egress::check_name`] has the last word.
//!
//! Not covered: the name inside an encrypted ClientHello (the outer one is checked), later requests of an
//! HTTP connection, and names on other ports, which rest on DNS alone. QUIC cannot be checked and is denied
//! for names unless a rule says UDP.
//!
//! # What no rule can open
//!
//! The [`Floor`]: metadata services always, loopback, private and other networks if the policy asks.
//! Addresses are judged by where the host would really connect to; see [`judged_address`].
//!
//! # Threads, errors, hostile input
//!
//! Everything is `Send`; a [`Policy`] is also immutable and cheap to clone, so it is compiled where there is
//! time and handed to the thread that owns the [`Egress`]. Rules, DNS messages and first bytes are all taken
//! for hostile: they are parsed with checked lengths and bounded memory, and bad ones give an error.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod compiled;
mod config;
mod counters;
mod dns;
mod egress;
mod error;
mod floor;
mod flow;
mod hits;
mod host;
mod inspect;
mod json;
mod limit;
mod log;
mod net;
mod policy;
mod redirect;
mod rule;

#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod reference;
#[doc(hidden)]
pub mod testing;

pub use config::{
    DnsConfig, Limits, MAX_FLOOR_NETWORKS, MAX_JSON_DEPTH, MAX_JSON_LEN, MAX_JSON_RULES, MAX_RESOLVERS,
    MAX_RULES, PolicyConfig, Rate,
};
pub use counters::Counters;
pub use dns::{
    Answer, DnsError, DnsStream, MAX_ADDRESSES, MAX_ALIASES, MAX_NAMES_PER_ADDRESS, MAX_PINNED_ADDRESSES,
    NAME_CHECK_GRACE,
};
pub use egress::{Egress, Grant, OpenFlow};
pub use error::{PolicyError, Problem};
pub use floor::{Floor, LOOPBACK, METADATA, PRIVATE};
pub use flow::{Decision, Flow, NameCheck, NameCheckFailure, Reason};
pub use hits::RuleHits;
pub use host::{HostName, HostNameError, HostPattern, MAX_NAME_LEN};
pub use inspect::{InspectError, Inspection, Inspector, MAX_INSPECTED};
pub use log::{DEFAULT_LOG_CAPACITY, DecisionLog, LogEntry};
pub use net::{Cidr, EmbeddedIpv4, judged_address};
pub use policy::Policy;
pub use redirect::{
    DEFAULT_REDIRECT_MAGIC, REDIRECT_HEADER_LEN, REDIRECT_HEADER_V6_LEN, RedirectBytes, RedirectHeader,
};
pub use rule::{PortRange, Protocol, Rule, Target, Verdict};
