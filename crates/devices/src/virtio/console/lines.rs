//! Console text as lines for a log: split, bounded, rate-limited. Pure; time is an argument.

use std::time::Instant;

/// Longest line handed on, in bytes; a longer one is split.
pub const MAX_LINE: usize = 1024;
/// Lines handed on at once after a quiet time.
const BURST: u32 = 4096;
/// Lines per second after that.
const RATE: u32 = 512;

/// Takes the text a guest prints on a console.
///
/// Called on the device's loop thread, so it must not block.
pub trait LineSink: Send {
    /// One line, without its end and without control characters other than tab.
    fn line(&mut self, line: &str);

    /// So many lines were left out because the guest printed too fast.
    fn suppressed(&mut self, lines: u64);
}

/// Hands lines to the `log` facade, at level error so that they show under any filter but "off".
#[derive(Debug, Clone, Copy)]
pub struct LogSink {
    /// Target of the records.
    pub target: &'static str,
}

impl LineSink for LogSink {
    fn line(&mut self, line: &str) {
        log::error!(target: self.target, "{line}");
    }

    fn suppressed(&mut self, lines: u64) {
        log::error!(target: self.target, "({lines} lines left out: printed too fast)");
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
    budget: Option<Budget>,
    suppressed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    left: u32,
    since: Instant,
}

impl LineSplitter {
    /// Takes bytes; complete lines go to `sink`.
    pub fn push(&mut self, bytes: &[u8], now: Instant, sink: &mut dyn LineSink) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line(now, sink);
            } else {
                self.partial.push(byte);
                if self.partial.len() >= MAX_LINE {
                    self.end_line(now, sink);
                }
            }
        }
    }

    /// Hands on what there is of an unfinished line.
    pub fn finish(&mut self, now: Instant, sink: &mut dyn LineSink) {
        if !self.partial.is_empty() {
            self.end_line(now, sink);
        }
        if self.suppressed > 0 {
            sink.suppressed(std::mem::take(&mut self.suppressed));
        }
    }

    /// The unfinished line, at most [`MAX_LINE`] bytes.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Puts an unfinished line back, cut to [`MAX_LINE`] bytes.
    pub fn set_partial(&mut self, bytes: &[u8]) {
        self.partial = bytes.iter().copied().take(MAX_LINE - 1).collect();
    }

    fn end_line(&mut self, now: Instant, sink: &mut dyn LineSink) {
        if self.allow(now) {
            if self.suppressed > 0 {
                sink.suppressed(std::mem::take(&mut self.suppressed));
            }
            let text = String::from_utf8_lossy(&self.partial);
            let clean: String = text.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
            sink.line(&clean);
        } else {
            self.suppressed = self.suppressed.saturating_add(1);
        }
        self.partial.clear();
    }

    fn allow(&mut self, now: Instant) -> bool {
        let budget = self.budget.get_or_insert(Budget { left: BURST, since: now });
        let millis = now.saturating_duration_since(budget.since).as_millis();
        let earned = u32::try_from(millis.saturating_mul(RATE.into()) / 1000).unwrap_or(u32::MAX);
        if earned > 0 {
            budget.left = budget.left.saturating_add(earned).min(BURST);
            budget.since = now;
        }
        match budget.left.checked_sub(1) {
            Some(left) => {
                budget.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Default)]
    struct Kept(Vec<String>, u64);

    impl LineSink for Kept {
        fn line(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
        fn suppressed(&mut self, lines: u64) {
            self.1 += lines;
        }
    }

    #[test]
    fn bytes_become_lines() {
        let table: &[(&[&[u8]], &[&str])] = &[
            (&[b"a\nb\n"], &["a", "b"]),
            (&[b"a", b"b\r\n", b"\n"], &["ab", ""]),
            (&[b"\x1b[1mx\ty\x07\n"], &["[1mx\ty"]),
            (&[b"\xff\n"], &["\u{fffd}"]),
            (&[b"end"], &["end"]),
            (&[], &[]),
        ];
        for (input, want) in table {
            let (mut s, mut kept, now) = (LineSplitter::default(), Kept::default(), Instant::now());
            for bytes in *input {
                s.push(bytes, now, &mut kept);
            }
            s.finish(now, &mut kept);
            assert_eq!(kept.0, *want, "{input:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_split() {
        let (mut s, mut kept, now) = (LineSplitter::default(), Kept::default(), Instant::now());
        s.push(&[b'x'; 3 * MAX_LINE + 5], now, &mut kept);
        assert_eq!((kept.0.len(), s.partial().len()), (3, 5));
        assert!(kept.0.iter().all(|l| l.len() == MAX_LINE));
    }

    #[test]
    fn a_flood_is_counted_and_ends() {
        let (mut s, mut kept, now) = (LineSplitter::default(), Kept::default(), Instant::now());
        let total = u64::from(BURST) + 100;
        for _ in 0..total {
            s.push(b"\n", now, &mut kept);
        }
        assert_eq!((kept.0.len() as u64, kept.1), (u64::from(BURST), 0));
        s.push(b"later\n", now + Duration::from_secs(1), &mut kept);
        assert_eq!((kept.0.last().map(String::as_str), kept.1), (Some("later"), 100));
    }
}
