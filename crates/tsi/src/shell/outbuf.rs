//! Bytes a socket did not take yet.

/// A queue of bytes: a preamble that nobody counts, then stream data.
#[derive(Debug, Default)]
pub(super) struct OutBuf {
    bytes: Vec<u8>,
    start: usize,
    /// Bytes at the front that are preamble.
    uncounted: usize,
}

/// Room kept when the queue is empty. An idle connection costs no more than 4 KiB, whatever it has been through.
const KEEP: usize = 2 << 10;

impl OutBuf {
    pub fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The same, with at most `limit` bytes of stream data.
    pub fn pending_within(&self, limit: usize) -> &[u8] {
        let pending = self.pending();
        let len = self.uncounted.saturating_add(limit).min(pending.len());
        pending.get(..len).unwrap_or_default()
    }

    /// Appends bytes that are not counted; only before any other.
    pub fn push_preamble(&mut self, bytes: &[u8]) {
        self.uncounted += bytes.len();
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `len` bytes that `fill` writes.
    pub fn push_with<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let end = self.bytes.len();
        self.bytes.resize(end + len, 0);
        fill(self.bytes.get_mut(end..).unwrap_or_default())
    }

    /// The socket took `n` bytes. How many of them were stream data.
    pub fn advance(&mut self, n: usize) -> usize {
        let preamble = n.min(self.uncounted);
        self.uncounted -= preamble;
        self.start += n;
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            self.start = 0;
        }
        n - preamble
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_the_preamble_is_not_counted() {
        let mut out = OutBuf::default();
        out.push_preamble(b"head");
        for part in [&b"abc"[..], b"defgh"] {
            out.push_with(part.len(), |to| {
                to.copy_from_slice(part);
                Ok::<(), ()>(())
            })
            .unwrap();
        }
        assert_eq!(out.pending(), b"headabcdefgh");
        assert_eq!((out.pending_within(0), out.pending_within(3)), (&b"head"[..], &b"headabc"[..]));
        assert_eq!((out.advance(2), out.advance(3), out.advance(4)), (0, 1, 4));
        assert_eq!(out.pending(), b"fgh");
        out.push_with(1, |to| {
            to.fill(b'i');
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(out.pending(), b"fghi");
        assert_eq!((out.advance(4), out.is_empty()), (4, true));
    }

    /// The muxer's part, at most 1 KiB, is counted by `tests/memory.rs`.
    #[test]
    fn an_idle_connection_is_small_also_after_a_stall() {
        let mut out = OutBuf::default();
        out.push_with(256 << 10, |_| Ok::<(), ()>(())).unwrap();
        out.advance(256 << 10);
        assert!(out.bytes.capacity() + size_of::<Option<crate::shell::sockets::Sock>>() <= 3 << 10);
    }
}
