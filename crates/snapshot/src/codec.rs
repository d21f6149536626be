//! Field encoding: fixed-width little-endian integers and length-prefixed byte strings.
//!
//! The one file that knows how fields become bytes.

use thiserror::Error;

/// Why a payload could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The section belongs to another component.
    #[error("section kind {found:#x} where {expected:#x} was expected")]
    Kind {
        /// The kind asked for.
        expected: u32,
        /// The kind found.
        found: u32,
    },
    /// The section was written by a newer (or no) version.
    #[error("section kind {kind:#x} has version {found}; versions 1 to {newest} are readable")]
    Version {
        /// The section's kind.
        kind: u32,
        /// Newest version the reader understands.
        newest: u16,
        /// Version found.
        found: u16,
    },
    /// The payload ends inside a field.
    #[error("field {field}: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// Name of the field.
        field: &'static str,
        /// Bytes the field needs.
        wanted: u64,
        /// Bytes that were left.
        left: u64,
    },
    /// A length exceeds its limit.
    #[error("field {field}: length {len} exceeds the limit of {limit}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Length found.
        len: u64,
        /// Largest length allowed.
        limit: u64,
    },
    /// A value is outside its range.
    #[error("field {field}: value {value:#x} is not valid")]
    Value {
        /// Name of the field.
        field: &'static str,
        /// Value found.
        value: u64,
    },
    /// Bytes remain after the last field.
    #[error("{left} bytes after the last field")]
    Leftover {
        /// How many.
        left: u64,
    },
}

/// Builds a payload field by field.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, v: bool) {
        self.u8(u8::from(v));
    }

    /// Two bytes.
    pub fn u16(&mut self, v: u16) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, v: u32) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, v: u64) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// A byte string: its length in four bytes, then the bytes.
    ///
    /// A string of 4 GiB or more, which no section may hold, is cut to that length.
    pub fn bytes(&mut self, v: &[u8]) {
        let len = u32::try_from(v.len()).unwrap_or(u32::MAX);
        self.u32(len);
        self.out.extend(v.iter().take(len as usize));
    }

    /// A UTF-8 string, as [`Writer::bytes`].
    pub fn str(&mut self, v: &str) {
        self.bytes(v.as_bytes());
    }

    /// The payload.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

/// Takes a payload apart, field by field, in the order it was written.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Reader { rest: payload }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated {
            field,
            wanted: len as u64,
            left: self.rest.len() as u64,
        })?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] at the end of the payload; so for all integer fields.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    /// One byte that must be 0 or 1.
    ///
    /// # Errors
    ///
    /// As [`Reader::u8`], and [`DecodeError::Value`] for any other byte.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            v => Err(DecodeError::Value { field, value: v.into() }),
        }
    }

    /// Two bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::u8`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Four bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::u8`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::u8`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count of items that follow, at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`Reader::u8`], and [`DecodeError::TooLong`] above `limit`.
    pub fn count(&mut self, field: &'static str, limit: u32) -> Result<u32, DecodeError> {
        let n = self.u32(field)?;
        if n > limit {
            return Err(DecodeError::TooLong { field, len: n.into(), limit: limit.into() });
        }
        Ok(n)
    }

    /// A byte string of at most `limit` bytes, borrowed from the payload.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] above `limit`, [`DecodeError::Truncated`] if the payload ends first.
    pub fn bytes(&mut self, field: &'static str, limit: u32) -> Result<&'a [u8], DecodeError> {
        let len = self.count(field, limit)?;
        self.take(field, len as usize)
    }

    /// A UTF-8 string of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::bytes`], and [`DecodeError::Value`] (with the offset of the first bad byte) if it
    /// is not UTF-8.
    pub fn str(&mut self, field: &'static str, limit: u32) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field, limit)?)
            .map_err(|e| DecodeError::Value { field, value: e.valid_up_to() as u64 })
    }

    /// Ends decoding.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Leftover`] if a field was not read: the writer knew something the reader does not.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Leftover { left: left as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let mut w = Writer::new();
        w.u8(0x12);
        w.bool(true);
        w.u16(0x3456);
        w.u32(0x789a_bcde);
        w.u64(0x0102_0304_0506_0708);
        w.str("hé");
        assert_eq!(
            w.into_bytes(),
            [
                0x12, 1, 0x56, 0x34, 0xde, 0xbc, 0x9a, 0x78, 8, 7, 6, 5, 4, 3, 2, 1, 3, 0, 0, 0, b'h', 0xc3,
                0xa9
            ]
        );
    }

    #[test]
    fn lying_lengths_and_values_are_named() {
        let huge = [0xff, 0xff, 0xff, 0x7f, 1];
        assert_eq!(
            Reader::new(&huge).bytes("blob", 8),
            Err(DecodeError::TooLong { field: "blob", len: 0x7fff_ffff, limit: 8 })
        );
        assert_eq!(
            Reader::new(&huge).bytes("blob", u32::MAX),
            Err(DecodeError::Truncated { field: "blob", wanted: 0x7fff_ffff, left: 1 })
        );
        assert_eq!(Reader::new(&[2]).bool("on"), Err(DecodeError::Value { field: "on", value: 2 }));
        assert_eq!(
            Reader::new(&[1, 0, 0, 0, 0xff]).str("s", 4),
            Err(DecodeError::Value { field: "s", value: 0 })
        );
        assert_eq!(Reader::new(&[0; 3]).finish(), Err(DecodeError::Leftover { left: 3 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u8, b: bool, c: u16, d: u32, e: u64, f: Vec<u8>, g: String) {
            let mut w = Writer::new();
            w.u8(a); w.bool(b); w.u16(c); w.u32(d); w.u64(e); w.bytes(&f); w.str(&g);
            let bytes = w.into_bytes();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.u8("a"), Ok(a));
            prop_assert_eq!(r.bool("b"), Ok(b));
            prop_assert_eq!(r.u16("c"), Ok(c));
            prop_assert_eq!(r.u32("d"), Ok(d));
            prop_assert_eq!(r.u64("e"), Ok(e));
            prop_assert_eq!(r.bytes("f", u32::MAX), Ok(&f[..]));
            prop_assert_eq!(r.str("g", u32::MAX), Ok(&g[..]));
            prop_assert_eq!(r.finish(), Ok(()));
            for cut in 0..bytes.len() {
                let mut r = Reader::new(&bytes[..cut]);
                let all = r.u8("a").and_then(|_| r.bool("b")).and_then(|_| r.u16("c"))
                    .and_then(|_| r.u32("d")).and_then(|_| r.u64("e"))
                    .and_then(|_| r.bytes("f", u32::MAX).map(|_| ()))
                    .and_then(|_| r.str("g", u32::MAX).map(|_| ()));
                prop_assert!(all.is_err(), "cut at {} was accepted", cut);
            }
        }
    }
}
