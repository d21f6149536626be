//! Passing output on while reading it.

use std::io::{self, Write};

/// Writes everything to `to` at once and hands each complete line to `on_line`, without its end, which from a terminal is CR LF.
pub struct Tee<W, F> {
    to: W,
    on_line: F,
    partial: Vec<u8>,
}

impl<W: Write, F: FnMut(&str)> Tee<W, F> {
    /// A tee in front of `to`.
    pub fn new(to: W, on_line: F) -> Self {
        Self { to, on_line, partial: Vec::new() }
    }
}

impl<W: Write, F: FnMut(&str)> Write for Tee<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        for byte in bytes.iter().take(count) {
            if *byte == b'\n' {
                let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
                (self.on_line)(&String::from_utf8_lossy(line));
                self.partial.clear();
            } else {
                self.partial.push(*byte);
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_everything_is_passed_on() {
        let mut passed_on = Vec::new();
        let mut lines = Vec::new();
        let mut tee = Tee::new(&mut passed_on, |line: &str| lines.push(line.to_owned()));
        for piece in ["on", "e\ntwo\r\nth", "ree"] {
            tee.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(passed_on, b"one\ntwo\r\nthree");
    }
}
