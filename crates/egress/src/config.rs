//! What a policy is made of, before it is compiled.

use std::net::SocketAddr;
use std::time::Duration;

use crate::floor::Floor;
use crate::net::EmbeddedIpv4;
use crate::redirect::RedirectHeader;
use crate::rule::Rule;

/// Most rules of a policy built in Rust. In JSON the limit is [`MAX_JSON_RULES`].
pub const MAX_RULES: usize = 1 << 20;
/// Longest JSON policy in bytes.
pub const MAX_JSON_LEN: usize = 1 << 20;
/// Most rules in a JSON policy.
pub const MAX_JSON_RULES: usize = 65_536;
/// Deepest nesting of arrays and objects in a JSON policy.
pub const MAX_JSON_DEPTH: usize = 8;
/// Most networks added to the floor.
pub const MAX_FLOOR_NETWORKS: usize = 1024;
/// Most trusted resolvers.
pub const MAX_RESOLVERS: usize = 64;

const _: () = assert!(MAX_JSON_RULES <= MAX_RULES);

/// Everything that makes a policy. The default is no rule at all, which denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyConfig {
    /// The rules; the first that matches decides.
    pub rules: Vec<Rule>,
    /// What no rule can open.
    pub floor: Floor,
    /// Where host names come from.
    pub dns: DnsConfig,
    /// How much the guest may do.
    pub limits: Limits,
    /// How NAT64 and 6to4 addresses are judged.
    pub embedded_ipv4: EmbeddedIpv4,
    /// How targets of redirects learn the original destination.
    pub redirect_header: RedirectHeader,
}

/// Whose answers pin host names to addresses, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Resolvers whose answers count. Without one, rules with a host name are an error. This opens no way
    /// to them: that takes a rule.
    pub resolvers: Vec<SocketAddr>,
    /// A pin lives at least this long, whatever the answer says: resolvers hand out the last seconds of a
    /// cached answer, and programs connect a while after they asked.
    pub min_ttl: Duration,
    /// A pin lives at most this long. At least `min_ttl`.
    pub max_ttl: Duration,
    /// Whether answers may pin a name to a loopback, private or link-local address. Off by default:
    /// otherwise whoever controls the zone of a permitted name opens the host's own network.
    pub local_answers: bool,
}

impl Default for DnsConfig {
    /// No resolvers; pins live one minute to one hour; no local answers.
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            min_ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(3600),
            local_answers: false,
        }
    }
}

/// A rate per second with a burst, as a token bucket that starts full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per second, at least 1.
    pub per_second: u64,
    /// Units available at once, at least 1.
    pub burst: u64,
}

/// Limits per virtual machine; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// New flows that are let out, allowed or redirected. One over it is denied.
    pub connections: Option<Rate>,
    /// Payload bytes, in whichever directions the caller charges. What is over it waits.
    pub bytes: Option<Rate>,
}
