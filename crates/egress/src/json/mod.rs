//! Policies in JSON.
//!
//! ```json
//! {"rules": [
//!   {"prefix_len": 8, "base": "10.0.0.0", "port_range": null, "verdict": "allow"},
//!   {"prefix_len": 0, "base": "0.0.0.0", "port_range": [443, 443],
//!    "verdict": "redirect", "redirect_target": "127.0.0.1:15001"},
//!   {"host": "*.example.com", "port_range": [443, 443], "protocol": "tcp", "verdict": "allow"}],
//!  "dns": {"resolvers": ["9.9.9.9"], "min_ttl": 60, "max_ttl": 3600, "local_answers": false},
//!  "floor": {"loopback": true, "private": true, "networks": ["192.0.2.0/24"]},
//!  "limits": {"connections": {"per_second": 50, "burst": 200}, "bytes": {"per_second": 1000000}},
//!  "embedded_ipv4": true,
//!  "redirect_header": {"magic": 1347570766, "magic_v6": 1347570742}}
//! ```
//!
//! A rule's fields:
//!
//! | field | type | |
//! |---|---|---|
//! | `base` | string | IPv4 or IPv6 address; host bits are ignored. Required without `host` |
//! | `prefix_len` | integer | 0 to 32 or 128. Required without `host` |
//! | `port_range` | null or `[lo, hi]` | inclusive; absent means null, every port |
//! | `verdict` | `"allow"`, `"deny"`, `"redirect"` | required |
//! | `redirect_target` | `"ipv4:port"` | with verdict `redirect`, and only then |
//! | `protocol` | null, `"any"`, `"tcp"`, `"udp"` | extension; absent means any |
//! | `host` | string | extension; `name` or `*.suffix`, instead of `base` and `prefix_len` |
//!
//! The other fields of the policy are extensions too, and optional; the example shows all of them. Unknown
//! fields are refused in a rule and inside the sections, and ignored at the top. Numbers are
//! integers; nothing is rounded or cut. A resolver without a port means port 53; a rate without a burst
//! allows one second's worth at once.

mod document;
mod fields;
mod rule;
mod sections;

use crate::config::{MAX_JSON_LEN, MAX_JSON_RULES, PolicyConfig};
use crate::error::{PolicyError, Problem};
use crate::net::EmbeddedIpv4;
use document::{Document, Value};
use fields::Fields;

impl PolicyConfig {
    /// Reads a policy from JSON (the fields are listed in the crate's README).
    ///
    /// # Errors
    ///
    /// [`PolicyError::TooLong`] over [`MAX_JSON_LEN`] bytes; [`PolicyError::Json`] for bad JSON, bad UTF-8,
    /// nesting over [`MAX_JSON_DEPTH`](crate::MAX_JSON_DEPTH) and trailing text, with line and column; [`PolicyError::Rule`] with
    /// the rule's index and the field for a bad rule; [`PolicyError::Field`] for the rest.
    pub fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        if json.len() > MAX_JSON_LEN {
            return Err(PolicyError::TooLong { len: json.len() });
        }
        let Document(value) = serde_json::from_slice(json)?;
        let Value::Object(fields) = value else {
            return Err(PolicyError::field("policy", Problem::Expected { expected: "an object" }));
        };
        from_fields(Fields::new(fields))
    }
}

fn from_fields(mut fields: Fields) -> Result<PolicyConfig, PolicyError> {
    let at = |field: &'static str| move |problem| PolicyError::field(field, problem);
    let rules = fields.required("rules").map_err(at("rules"))?;
    let dns = fields.optional("dns").map_err(at("dns"))?;
    let floor = fields.optional("floor").map_err(at("floor"))?;
    let limits = fields.optional("limits").map_err(at("limits"))?;
    let header = fields.optional("redirect_header").map_err(at("redirect_header"))?;
    let embedded = fields.optional("embedded_ipv4").map_err(at("embedded_ipv4"))?;
    let embedded = embedded.map(|v| v.boolean()).transpose().map_err(at("embedded_ipv4"))?;
    Ok(PolicyConfig {
        rules: rules_from(rules)?,
        dns: dns.map(sections::dns).transpose()?.unwrap_or_default(),
        floor: floor.map(sections::floor).transpose()?.unwrap_or_default(),
        limits: limits.map(sections::limits).transpose()?.unwrap_or_default(),
        embedded_ipv4: match embedded {
            None | Some(true) => EmbeddedIpv4::AsIpv4,
            Some(false) => EmbeddedIpv4::AsIpv6,
        },
        redirect_header: header.map(sections::redirect_header).transpose()?.unwrap_or_default(),
    })
}

fn rules_from(rules: Value) -> Result<Vec<crate::rule::Rule>, PolicyError> {
    let rules = rules.array().map_err(|problem| PolicyError::field("rules", problem))?;
    if rules.len() > MAX_JSON_RULES {
        let problem = Problem::TooMany { count: rules.len(), max: MAX_JSON_RULES };
        return Err(PolicyError::field("rules", problem));
    }
    rules.into_iter().enumerate().map(|(index, value)| rule::read(index, value)).collect()
}

#[cfg(test)]
mod tests;
