//! One rule.

use std::net::{IpAddr, SocketAddrV4};

use super::document::Value;
use super::fields::Fields;
use crate::error::{PolicyError, Problem};
use crate::host::HostPattern;
use crate::net::Cidr;
use crate::rule::{PortRange, Protocol, Rule, Target, Verdict};

/// A field's name and what is wrong with it.
type Fault = (String, Problem);

/// Names the field a problem is in.
fn at(field: &str) -> impl Fn(Problem) -> Fault {
    move |problem| (field.to_owned(), problem)
}

/// Reads the rule at `index`.
pub(super) fn read(index: usize, value: Value) -> Result<Rule, PolicyError> {
    let Value::Object(fields) = value else {
        return Err(PolicyError::rule(index, "rule", Problem::Expected { expected: "an object" }));
    };
    from_fields(Fields::new(fields)).map_err(|(field, problem)| PolicyError::rule(index, field, problem))
}

fn from_fields(mut fields: Fields) -> Result<Rule, Fault> {
    let target = target(&mut fields)?;
    let ports = fields.optional("port_range").and_then(ports).map_err(at("port_range"))?;
    let protocol = fields.optional("protocol").and_then(protocol).map_err(at("protocol"))?;
    let verdict = verdict(&mut fields)?;
    match fields.unknown() {
        Some(name) => Err((name, Problem::Unknown)),
        None => Ok(Rule { target, ports, protocol, verdict }),
    }
}

fn target(fields: &mut Fields) -> Result<Target, Fault> {
    let base = fields.optional("base").map_err(at("base"))?;
    let prefix_len = fields.optional("prefix_len").map_err(at("prefix_len"))?;
    let Some(host) = fields.optional("host").map_err(at("host"))? else {
        let base = base.ok_or(Problem::Missing).and_then(address).map_err(at("base"))?;
        let prefix_len = prefix_len.ok_or(Problem::Missing).and_then(|len| prefix(len, base));
        return prefix_len.map(Target::Network).map_err(at("prefix_len"));
    };
    for (field, other) in [("base", base), ("prefix_len", prefix_len)] {
        if other.is_some() {
            return Err(at(field)(Problem::Conflict { with: "host" }));
        }
    }
    let pattern = host.text().and_then(|text| Ok(HostPattern::parse(&text)?));
    pattern.map(Target::Host).map_err(at("host"))
}

fn address(value: Value) -> Result<IpAddr, Problem> {
    let expected = Problem::Expected { expected: "an IPv4 or IPv6 address" };
    value.text()?.parse().map_err(|_| expected)
}

fn prefix(value: Value, base: IpAddr) -> Result<Cidr, Problem> {
    let width = if base.is_ipv4() { 32 } else { 128 };
    let len = value.integer(0, u64::MAX)?;
    let network = u8::try_from(len).ok().and_then(|len| Cidr::new(base, len));
    network.ok_or(Problem::PrefixOverWidth { len, width })
}

fn ports(value: Option<Value>) -> Result<PortRange, Problem> {
    let Some(value) = value else { return Ok(PortRange::ALL) };
    let expected = Problem::Expected { expected: "null or an array of two ports" };
    let Value::Array(ends) = value else { return Err(expected) };
    let [first, last] = <[Value; 2]>::try_from(ends).map_err(|_| expected)?;
    let (first, last) = (port(first)?, port(last)?);
    PortRange::new(first, last).ok_or(Problem::ReversedPorts { first, last })
}

fn port(value: Value) -> Result<u16, Problem> {
    let out_of_range = Problem::Range { min: 0, max: u16::MAX.into() };
    u16::try_from(value.integer(0, u16::MAX.into())?).map_err(|_| out_of_range)
}

fn protocol(value: Option<Value>) -> Result<Option<Protocol>, Problem> {
    let Some(value) = value else { return Ok(None) };
    match value.text()?.as_str() {
        "any" => Ok(None),
        "tcp" => Ok(Some(Protocol::Tcp)),
        "udp" => Ok(Some(Protocol::Udp)),
        _ => Err(Problem::Expected { expected: r#""tcp", "udp" or "any""# }),
    }
}

fn verdict(fields: &mut Fields) -> Result<Verdict, Fault> {
    let verdict = fields.required("verdict").and_then(Value::text).map_err(at("verdict"))?;
    let target = fields.optional("redirect_target").map_err(at("redirect_target"))?;
    let verdict = match verdict.as_str() {
        "allow" => Verdict::Allow,
        "deny" => Verdict::Deny,
        "redirect" => {
            let to = target.ok_or(Problem::Missing).and_then(redirect_target);
            return to.map(Verdict::Redirect).map_err(at("redirect_target"));
        }
        _ => {
            let expected = r#""allow", "deny" or "redirect""#;
            return Err(at("verdict")(Problem::Expected { expected }));
        }
    };
    match target {
        Some(_) => Err(at("redirect_target")(Problem::Conflict { with: "a verdict other than redirect" })),
        None => Ok(verdict),
    }
}

fn redirect_target(value: Value) -> Result<SocketAddrV4, Problem> {
    let expected = Problem::Expected { expected: "an IPv4 address and a port, as in 127.0.0.1:15001" };
    value.text()?.parse().map_err(|_| expected)
}
