//! What a policy says beside its rules.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::document::Value;
use super::fields::Fields;
use crate::config::{DnsConfig, Limits, Rate};
use crate::error::{PolicyError, Problem};
use crate::floor::Floor;
use crate::net::Cidr;
use crate::redirect::RedirectHeader;

/// Longest lifetime that may be asked for: one week, the most a resolver may keep (RFC 8767 §4).
const MAX_TTL_SECONDS: u64 = 7 * 24 * 3600;
/// The port of DNS.
const DNS: u16 = 53;

/// The fields of a section, with its path for errors.
struct Section {
    path: String,
    fields: Fields,
}

impl Section {
    fn new(path: impl Into<String>, value: Value) -> Result<Self, PolicyError> {
        let path = path.into();
        match value.object() {
            Ok(fields) => Ok(Self { path, fields: Fields::new(fields) }),
            Err(problem) => Err(PolicyError::field(path, problem)),
        }
    }

    fn fault(&self, field: &str, problem: Problem) -> PolicyError {
        PolicyError::field(format!("{}.{field}", self.path), problem)
    }

    /// An optional field, read by `read`.
    fn read<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(Value) -> Result<T, Problem>,
    ) -> Result<Option<T>, PolicyError> {
        let value = self.fields.optional(field).map_err(|problem| self.fault(field, problem))?;
        value.map(read).transpose().map_err(|problem| self.fault(field, problem))
    }

    /// An optional array, whose elements are read by `read`.
    fn list<T>(
        &mut self,
        field: &str,
        read: impl Fn(Value) -> Result<T, Problem>,
    ) -> Result<Vec<T>, PolicyError> {
        let values = self.read(field, Value::array)?.unwrap_or_default();
        let element =
            |(index, value)| read(value).map_err(|problem| self.fault(&format!("{field}[{index}]"), problem));
        values.into_iter().enumerate().map(element).collect()
    }

    /// Refuses fields that were not read.
    fn finish(self) -> Result<(), PolicyError> {
        match self.fields.unknown() {
            Some(name) => Err(self.fault(&name, Problem::Unknown)),
            None => Ok(()),
        }
    }
}

pub(super) fn dns(value: Value) -> Result<DnsConfig, PolicyError> {
    let mut section = Section::new("dns", value)?;
    let defaults = DnsConfig::default();
    let seconds = |value: Value| value.integer(0, MAX_TTL_SECONDS).map(Duration::from_secs);
    let config = DnsConfig {
        resolvers: section.list("resolvers", resolver)?,
        min_ttl: section.read("min_ttl", seconds)?.unwrap_or(defaults.min_ttl),
        max_ttl: section.read("max_ttl", seconds)?.unwrap_or(defaults.max_ttl),
        local_answers: section.read("local_answers", Value::boolean)?.unwrap_or(defaults.local_answers),
    };
    section.finish()?;
    Ok(config)
}

fn resolver(value: Value) -> Result<SocketAddr, Problem> {
    let text = value.text()?;
    let with_port = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS)).or_else(|_| text.parse());
    with_port.map_err(|_| Problem::Expected { expected: "an address, with or without a port" })
}

pub(super) fn floor(value: Value) -> Result<Floor, PolicyError> {
    let mut section = Section::new("floor", value)?;
    let floor = Floor {
        loopback: section.read("loopback", Value::boolean)?.unwrap_or(false),
        private: section.read("private", Value::boolean)?.unwrap_or(false),
        networks: section.list("networks", network)?,
    };
    section.finish()?;
    Ok(floor)
}

fn network(value: Value) -> Result<Cidr, Problem> {
    let expected = Problem::Expected { expected: "a network, as in 192.0.2.0/24" };
    let text = value.text()?;
    let parsed = text.split_once('/').and_then(|(base, len)| {
        let len = Some(len).filter(|len| len.bytes().all(|b| b.is_ascii_digit()))?;
        Cidr::new(base.parse().ok()?, len.parse().ok()?)
    });
    parsed.ok_or(expected)
}

pub(super) fn redirect_header(value: Value) -> Result<RedirectHeader, PolicyError> {
    let mut section = Section::new("redirect_header", value)?;
    let magic =
        |value: Value| value.integer(0, u32::MAX.into()).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let header = RedirectHeader {
        magic: section.read("magic", magic)?.unwrap_or(RedirectHeader::default().magic),
        magic_v6: section.read("magic_v6", magic)?,
    };
    section.finish()?;
    Ok(header)
}

pub(super) fn limits(value: Value) -> Result<Limits, PolicyError> {
    let mut section = Section::new("limits", value)?;
    let limits =
        Limits { connections: rate(&mut section, "connections")?, bytes: rate(&mut section, "bytes")? };
    section.finish()?;
    Ok(limits)
}

fn rate(section: &mut Section, field: &str) -> Result<Option<Rate>, PolicyError> {
    let Some(value) = section.read(field, Ok)? else { return Ok(None) };
    let mut rate = Section::new(format!("{}.{field}", section.path), value)?;
    let number = |value: Value| value.integer(1, u64::MAX);
    let per_second =
        rate.read("per_second", number)?.ok_or_else(|| rate.fault("per_second", Problem::Missing))?;
    let burst = rate.read("burst", number)?.unwrap_or(per_second);
    rate.finish()?;
    Ok(Some(Rate { per_second, burst }))
}
