//! Strings and their escapes.

use alloc::vec::Vec;

use super::{JsonError, Reader};

impl Reader<'_> {
    /// A string; the reader is at its opening quote.
    pub(super) fn string(&mut self) -> Result<Vec<u8>, JsonError> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let plain = self.rest();
            let count =
                plain.iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count();
            out.extend_from_slice(plain.get(..count).unwrap_or_default());
            self.at += count;
            match self.next() {
                Some(b'"') => return Ok(out),
                Some(b'\\') => self.escape(&mut out)?,
                Some(_) => {
                    self.at -= 1;
                    return Err(self.error("a control character in a string"));
                }
                None => return Err(self.error("a string without end")),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let byte = match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.character()?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.error("no such escape"));
            }
        };
        out.push(byte);
        Ok(())
    }

    /// One `\u` escape, or two that are a surrogate pair.
    fn character(&mut self) -> Result<char, JsonError> {
        let first = self.hex()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.rest().starts_with(b"\\u") {
                    return Err(self.error("half of a surrogate pair"));
                }
                self.at += 2;
                let second = self.hex()?;
                let low = second.checked_sub(0xdc00).filter(|&low| low < 0x400);
                let Some(low) = low else { return Err(self.error("half of a surrogate pair")) };
                0x1_0000 + ((first - 0xd800) << 10) + low
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| self.error("half of a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.error("not four hexadecimal digits")) };
            self.at += 1;
            code = code << 4 | digit;
        }
        Ok(code)
    }
}
