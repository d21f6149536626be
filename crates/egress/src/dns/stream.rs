//! DNS over TCP: messages behind a length of two octets (RFC 1035 §4.2.2).

/// Cuts what a resolver sends over TCP into messages. Holds at most one message, under 64 KiB.
#[derive(Clone, Debug, Default)]
pub struct DnsStream {
    /// The length and what is there of the message.
    partial: Vec<u8>,
}

/// Octets of the length.
const PREFIX: usize = 2;

impl DnsStream {
    /// The start of a stream.
    pub const fn new() -> Self {
        Self { partial: Vec::new() }
    }

    /// Takes the next bytes, however they were cut, and hands each complete message to `message`.
    pub fn push(&mut self, mut bytes: &[u8], mut message: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at_checked(self.wanted()).unwrap_or((bytes, &[]));
            self.partial.extend_from_slice(now);
            bytes = later;
            if self.wanted() == 0 {
                message(self.partial.get(PREFIX..).unwrap_or_default());
                self.partial.clear();
            }
        }
    }

    /// How many bytes the current message lacks, as far as is known.
    fn wanted(&self) -> usize {
        let end = match self.partial.first_chunk::<PREFIX>() {
            Some(len) => usize::from(u16::from_be_bytes(*len)).saturating_add(PREFIX),
            None => PREFIX,
        };
        end.saturating_sub(self.partial.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_messages() {
        let stream = b"\0\x03abc\0\0\0\x01d\x01\x00".iter().copied().chain([7; 256]).collect::<Vec<_>>();
        let expected: Vec<Vec<u8>> = vec![b"abc".to_vec(), vec![], b"d".to_vec(), vec![7; 256]];
        for size in [1, 2, 3, 5, 7, 100, 1000] {
            let mut cutter = DnsStream::new();
            let mut messages = Vec::new();
            stream.chunks(size).for_each(|part| cutter.push(part, |m| messages.push(m.to_vec())));
            assert_eq!(messages, expected, "parts of {size}");
            assert!(cutter.partial.is_empty());
        }
    }
}
