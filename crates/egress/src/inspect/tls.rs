//! The server name of a TLS ClientHello (RFC 8446 §4.1.2, §5.1; RFC 6066 §3).

use super::{InspectError, Look};
use crate::host::HostName;

/// Most records a ClientHello may be spread over; one is usual.
const MAX_RECORDS: usize = 32;
/// Type, version and length.
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Longest plaintext record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Looks for the server name in the first bytes of a stream.
pub(super) fn look(stream: &[u8]) -> Result<Look, InspectError> {
    let mut hello = Vec::new();
    let mut rest = stream;
    for _ in 0..MAX_RECORDS {
        let consumed = stream.len().saturating_sub(rest.len());
        check_record_start(rest)?;
        let Some((header, body)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            return Ok(Look::Need(consumed.saturating_add(RECORD_HEADER)));
        };
        let [_, _, _, high, low] = *header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len == 0 || len > MAX_RECORD {
            return Err(InspectError::Protocol);
        }
        let there = body.get(..len.min(body.len())).unwrap_or_default();
        hello.extend_from_slice(there);
        let lacking = match client_hello(&hello)? {
            Hello::Body(body) => return server_name(body).map(Look::Name),
            Hello::Lacking(lacking) => lacking.min(len.saturating_sub(there.len())),
        };
        if lacking > 0 {
            return Ok(Look::Need(stream.len().saturating_add(lacking)));
        }
        rest = body.get(len..).unwrap_or_default();
    }
    Err(InspectError::Protocol)
}

/// Refuses what cannot become a handshake record, from its first byte on.
fn check_record_start(bytes: &[u8]) -> Result<(), InspectError> {
    match bytes {
        [] | [HANDSHAKE] | [HANDSHAKE, 3, ..] => Ok(()),
        _ => Err(InspectError::Protocol),
    }
}

/// A ClientHello as far as it is there.
enum Hello<'a> {
    /// Its body, complete.
    Body(&'a [u8]),
    /// At least this many bytes are missing.
    Lacking(usize),
}

/// The ClientHello that `handshake` starts with.
fn client_hello(handshake: &[u8]) -> Result<Hello<'_>, InspectError> {
    if handshake.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(InspectError::Protocol);
    }
    let Some(([_, a, b, c], body)) = handshake.split_first_chunk::<4>() else {
        return Ok(Hello::Lacking(4_usize.saturating_sub(handshake.len())));
    };
    let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if len > super::MAX_INSPECTED {
        return Err(InspectError::TooLong);
    }
    Ok(body.get(..len).map_or(Hello::Lacking(len.saturating_sub(body.len())), Hello::Body))
}

fn server_name(hello: &[u8]) -> Result<HostName, InspectError> {
    let extensions = extensions(hello).ok_or(InspectError::Protocol)?;
    let mut fields = Fields(extensions);
    let mut found = None;
    while !fields.0.is_empty() {
        let (kind, data) = fields.extension().ok_or(InspectError::Protocol)?;
        if kind == SERVER_NAME && found.replace(data).is_some() {
            return Err(InspectError::BadName);
        }
    }
    let list = Fields(found.ok_or(InspectError::NoName)?).only_vector16().ok_or(InspectError::Protocol)?;
    let (kind, name) = Fields(list).only_name().ok_or(InspectError::BadName)?;
    if kind != HOST_NAME {
        return Err(InspectError::BadName);
    }
    HostName::from_ascii(name).map_err(|_| InspectError::BadName)
}

/// The extensions of a ClientHello; empty if it ends before them, as TLS 1.2 allows.
fn extensions(hello: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(hello);
    fields.take(2 + 32)?; // version, random
    let session = fields.vector8()?;
    let ciphers = fields.vector16()?;
    let compression = fields.vector8()?;
    if session.len() > 32 || ciphers.is_empty() || ciphers.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    if fields.0.is_empty() { Some(&[]) } else { fields.only_vector16() }
}

/// Length-prefixed fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().copied().map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }

    fn extension(&mut self) -> Option<(u16, &'a [u8])> {
        Some((self.u16()?, self.vector16()?))
    }

    /// A vector with nothing behind it.
    fn only_vector16(mut self) -> Option<&'a [u8]> {
        self.vector16().filter(|_| self.0.is_empty())
    }

    /// A typed name with nothing behind it.
    fn only_name(mut self) -> Option<(u8, &'a [u8])> {
        Some((self.u8()?, self.vector16()?)).filter(|_| self.0.is_empty())
    }
}
