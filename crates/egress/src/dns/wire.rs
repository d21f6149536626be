//! Reading the pieces of a DNS message (RFC 1035 §4.1).

use super::DnsError;
use crate::host::HostName;

/// Longest name on the wire, length octets included (RFC 1035 §2.3.4).
const MAX_WIRE_NAME: usize = 255;
/// Labels that fit in that.
const MAX_LABELS: usize = 127;

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
    /// Ends always: a pointer must point before everything of this name that was read so far, and there are no more pointers
    /// than a name can have labels.
    pub(super) fn name(&mut self) -> Result<Option<HostName>, DnsError> {
        let mut text = Vec::new();
        let mut wire_len = 1_usize;
        let mut is_host = true;
        let mut reader = *self;
        let mut lowest = self.at;
        let mut jumps = 0_usize;
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
                    if jumps == 0 {
                        self.at = reader.at;
                    }
                    jumps = jumps.saturating_add(1);
                    if target >= lowest || jumps > MAX_LABELS {
                        return Err(DnsError::Name { at });
                    }
                    lowest = target;
                    reader.at = target;
                }
                _ => return Err(DnsError::Name { at }),
            }
        }
        if jumps == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pointers, each to the one before it, the first to the root name, and the position of the last.
    fn chain(pointers: u16) -> (Vec<u8>, usize) {
        let mut message = vec![0];
        let (mut at, mut target) = (1, 0_u16);
        for _ in 0..pointers {
            message.extend((0xc000 | target).to_be_bytes());
            (target, at) = (at, at + 2);
        }
        (message, target.into())
    }

    #[test]
    fn a_chain_of_pointers_has_an_end() {
        for (pointers, good) in [(1, true), (127, true), (128, false), (8000, false)] {
            let (message, last) = chain(pointers);
            let mut cursor = Cursor::new(&message);
            cursor.at = last;
            assert_eq!(cursor.name().is_ok(), good, "{pointers} pointers");
            assert!(!good || cursor.at == last + 2, "{pointers} pointers");
        }
    }
}
