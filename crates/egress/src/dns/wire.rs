//! Reading the pieces of a DNS message (RFC 1035 §4.1).

use super::DnsError;
use crate::host::HostName;

/// Longest name on the wire, length octets included (RFC 1035 §2.3.4).
const MAX_WIRE_NAME: usize = 255;

/// A position in a message.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DnsError> {
        let rest = self.message.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or(DnsError::Truncated { what })?;
        self.at = self.at.saturating_add(N);
        Ok(*bytes)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, DnsError> {
        self.take(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DnsError> {
        self.take(what).map(u32::from_be_bytes)
    }

    pub(super) fn skip(&mut self, len: usize, what: &'static str) -> Result<(), DnsError> {
        let end = self.at.saturating_add(len);
        if end > self.message.len() {
            return Err(DnsError::Truncated { what });
        }
        self.at = end;
        Ok(())
    }

    /// A name, which may be compressed (RFC 1035 §4.1.4). `None` if it is well formed but not a host name:
    /// the root, or with octets that host names do not have.
    ///
    /// Ends always: a pointer must point before everything of this name that was read so far.
    pub(super) fn name(&mut self) -> Result<Option<HostName>, DnsError> {
        let mut text = Vec::new();
        let mut wire_len = 1_usize;
        let mut is_host = true;
        let mut reader = *self;
        let mut lowest = self.at;
        let mut jumped = false;
        loop {
            let at = reader.at;
            let [len] = reader.take("a name")?;
            match len {
                0 => break,
                1..=63 => {
                    let label = reader.label(len.into())?;
                    wire_len = wire_len.saturating_add(label.len()).saturating_add(1);
                    if wire_len > MAX_WIRE_NAME {
                        return Err(DnsError::Name { at });
                    }
                    // A dot inside a label must not look like two labels.
                    is_host &= !label.contains(&b'.');
                    text.extend_from_slice(label);
                    text.push(b'.');
                }
                0xc0.. => {
                    let [low] = reader.take("a name")?;
                    let target = usize::from(u16::from_be_bytes([len & 0x3f, low]));
                    if !jumped {
                        self.at = reader.at;
                        jumped = true;
                    }
                    if target >= lowest {
                        return Err(DnsError::Name { at });
                    }
                    lowest = target;
                    reader.at = target;
                }
                _ => return Err(DnsError::Name { at }),
            }
        }
        if !jumped {
            self.at = reader.at;
        }
        Ok(if is_host { HostName::from_ascii(&text).ok() } else { None })
    }

    fn label(&mut self, len: usize) -> Result<&'a [u8], DnsError> {
        let start = self.at;
        self.skip(len, "a name")?;
        Ok(self.message.get(start..self.at).unwrap_or_default())
    }
}
