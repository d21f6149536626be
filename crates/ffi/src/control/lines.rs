//! From a stream of bytes to lines of bounded length. Pure.

use super::MAX_LINE;

/// What came between two line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Not blank, without its line end.
    Text(Vec<u8>),
    /// Longer than [`MAX_LINE`]; none of it is kept.
    TooLong,
}

/// Holds at most one line and the byte that shows that it is too long.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Inside a line that is too long.
    skipping: bool,
}

impl Lines {
    /// How many bytes may be added. Never 0 once [`Lines::next`] has given `None`.
    pub fn room(&self) -> usize {
        (MAX_LINE + 1).saturating_sub(self.buffer.len())
    }

    /// Adds bytes, no more than there is room for.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes.iter().take(self.room()));
    }

    /// The next line, if all of it is there. Blank lines are left out.
    pub fn next(&mut self) -> Option<Line> {
        while let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let rest = self.buffer.split_off(at.saturating_add(1));
            let line = std::mem::replace(&mut self.buffer, rest);
            if !std::mem::take(&mut self.skipping) && !line.trim_ascii().is_empty() {
                return Some(Line::Text(line.trim_ascii().to_vec()));
            }
        }
        if self.skipping {
            self.buffer.clear();
        } else if self.buffer.len() > MAX_LINE {
            self.buffer.clear();
            self.skipping = true;
            return Some(Line::TooLong);
        }
        None
    }

    /// The rest of a stream that ended: a line without its end.
    pub fn finish(&mut self) -> Option<Line> {
        let rest = std::mem::take(&mut self.buffer);
        let blank = rest.trim_ascii().is_empty();
        if std::mem::take(&mut self.skipping) || blank {
            return None;
        }
        Some(Line::Text(rest.trim_ascii().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of a stream that arrives in pieces of this size.
    fn split(stream: &[u8], piece: usize) -> Vec<Line> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut rest = stream;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece.min(lines.room()).min(rest.len()));
            assert!(!now.is_empty(), "there is room after next() gave None");
            lines.push(now);
            rest = later;
            while let Some(line) = lines.next() {
                found.push(line);
            }
        }
        found.extend(lines.finish());
        assert_eq!(lines.finish(), None);
        found
    }

    fn text(line: impl AsRef<[u8]>) -> Line {
        Line::Text(line.as_ref().to_vec())
    }

    #[test]
    fn table() {
        let long = vec![b'x'; MAX_LINE];
        let longer = vec![b'x'; MAX_LINE + 1];
        let table: [(Vec<u8>, Vec<Line>); 9] = [
            (b"".to_vec(), vec![]),
            (b"\n\r\n  \n".to_vec(), vec![]),
            (b"a\nb\r\n".to_vec(), vec![text("a"), text("b")]),
            (b"a\nrest".to_vec(), vec![text("a"), text("rest")]),
            ([&long[..], b"\nb"].concat(), vec![text(&long), text("b")]),
            ([&longer[..], b"\nb\n"].concat(), vec![Line::TooLong, text("b")]),
            ([&longer[..], &longer, b"yy\nb\n"].concat(), vec![Line::TooLong, text("b")]),
            ([&longer[..], b"\n", &longer].concat(), vec![Line::TooLong, Line::TooLong]),
            ([&longer[..], b"without an end"].concat(), vec![Line::TooLong]),
        ];
        for (stream, expected) in table {
            for piece in [1, 2, 7, 4096, usize::MAX] {
                assert_eq!(split(&stream, piece), expected, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_one_line() {
        let mut lines = Lines::default();
        for _ in 0..3 {
            lines.push(&[b'x'; 3 * MAX_LINE]);
            assert!(lines.buffer.len() <= MAX_LINE + 1);
            while lines.next().is_some() {}
            assert!(lines.room() > 0);
        }
    }
}
