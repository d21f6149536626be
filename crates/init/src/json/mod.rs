//! A small reader of JSON (RFC 8259) for the configuration file.
//!
//! Bounded: at most [`MAX_VALUES`] values, nested at most [`MAX_DEPTH`] deep, and memory for a small multiple of the
//! text. It is written here because the guest program is compiled without cargo, so without other crates.

use alloc::vec::Vec;
use core::fmt;

mod string;
#[cfg(test)]
mod tests;

/// Most values in a text, keys not counted.
pub const MAX_VALUES: usize = 1 << 16;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// A value. Strings are UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number; its value if it is written as an integer from 0 that fits.
    Number(Option<u64>),
    /// A string, unescaped.
    String(Vec<u8>),
    /// An array.
    Array(Vec<Value>),
    /// An object: keys in the order of the text, repeated ones too.
    Object(Vec<(Vec<u8>, Value)>),
}

/// Why a text is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Where, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl core::error::Error for JsonError {}

/// Reads a whole text.
///
/// # Errors
///
/// [`JsonError`] if it is not one JSON value with nothing but blanks around it, not UTF-8, or over a bound.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    if let Err(error) = core::str::from_utf8(text) {
        return Err(JsonError { offset: error.valid_up_to(), what: "not UTF-8" });
    }
    let mut reader = Reader { text, at: 0, values: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at == text.len() { Ok(value) } else { Err(reader.error("more text after the value")) }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { offset: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte behind blanks, if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.blanks();
        if self.values >= MAX_VALUES {
            return Err(self.error("too many values"));
        }
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deep"));
        }
        self.values += 1;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, JsonError> {
        let words: [(&[u8], Value); 3] =
            [(b"null", Value::Null), (b"true", Value::Bool(true)), (b"false", Value::Bool(false))];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("no value"))
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.error("neither , nor ]"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("no key"));
            }
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.error("no : after the key"));
            }
            members.push((key, self.value(depth + 1)?));
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.take(b',') {
                return Err(self.error("neither , nor }"));
            }
        }
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        rest.get(..count).unwrap_or_default()
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let mut plain = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
            plain = false;
        }
        let start = self.at;
        let whole = self.digits();
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with(b"0")) {
            self.at = start;
            return Err(self.error("not a number"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            plain = false;
            if self.digits().is_empty() {
                return Err(self.error("no digits after the point"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            plain = false;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits().is_empty() {
                return Err(self.error("no digits in the exponent"));
            }
        }
        Ok(Value::Number(if plain { crate::rlimit::number(whole) } else { None }))
    }
}
