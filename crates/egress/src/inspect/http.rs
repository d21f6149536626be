//! The host of an HTTP/1 request (RFC 9112 §3.2).

use super::{InspectError, Look, MAX_INSPECTED};
use crate::host::HostName;

/// Most header fields of a request.
const MAX_HEADERS: usize = 100;
/// Longest end of a head that earlier bytes can hold a part of.
const END_OVERLAP: usize = 3;

/// Looks for the host in the first bytes of a stream, of which the first `seen` were looked at before.
pub(super) fn look(stream: &[u8], seen: usize) -> Result<Look, InspectError> {
    // Empty lines before a request are for old servers to skip (RFC 9112 §2.2); no client starts with one.
    if matches!(stream.first(), Some(b'\r' | b'\n')) {
        return Err(InspectError::Protocol);
    }
    // A whole parse costs the length of the stream, so one that cannot succeed is worth it only each time
    // the stream has doubled, to find out early that it is not HTTP.
    let fresh = stream.get(seen.saturating_sub(END_OVERLAP)..).unwrap_or_default();
    let doubled = seen == 0 || stream.len().ilog2() > seen.ilog2();
    if !ends_head(fresh) && !doubled && stream.len() < MAX_INSPECTED {
        return Ok(Look::Need(stream.len().saturating_add(1)));
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(stream) {
        Ok(httparse::Status::Complete(_)) => host(&request).map(Look::Name),
        Ok(httparse::Status::Partial) => Ok(Look::Need(stream.len().saturating_add(1))),
        Err(_) => Err(InspectError::Protocol),
    }
}

/// Whether an empty line is in `bytes`, with the line ends that httparse takes.
fn ends_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|w| w == b"\n\n") || bytes.windows(3).any(|w| w == b"\n\r\n")
}

fn host(request: &httparse::Request<'_, '_>) -> Result<HostName, InspectError> {
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let field = match (hosts.next(), hosts.next()) {
        (Some(header), None) => name_of(header.value)?,
        (None, _) => return Err(InspectError::NoName),
        (Some(_), Some(_)) => return Err(InspectError::BadName),
    };
    // A target in absolute form overrides the field (RFC 9112 §3.2.2); other forms carry no host, except
    // that of CONNECT, which asks for a tunnel to anywhere.
    let target = request.path.unwrap_or_default();
    if target.starts_with('/') || target == "*" {
        return Ok(field);
    }
    let (_, rest) = target.split_once("://").ok_or(InspectError::BadName)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if name_of(authority.as_bytes())? == field { Ok(field) } else { Err(InspectError::BadName) }
}

/// The name of `name[:port]`. User information is refused.
fn name_of(authority: &[u8]) -> Result<HostName, InspectError> {
    let mut parts = authority.trim_ascii().split(|byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let port_is_number = parts.next().is_none_or(|port| port.iter().all(u8::is_ascii_digit));
    if name.is_empty() {
        return Err(InspectError::NoName);
    }
    if !port_is_number || parts.next().is_some() {
        return Err(InspectError::BadName);
    }
    HostName::from_ascii(name).map_err(|_| InspectError::BadName)
}
