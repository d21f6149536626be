//! What tells the target of a redirect where a flow was meant to go.

use std::net::{IpAddr, SocketAddr};

/// Magic of redirect headers unless a policy says otherwise: `PRLN`, or the number in the environment variable
/// `PURLIN_REDIRECT_MAGIC` when this crate was compiled.
///
/// Sender and target must agree on it. No public text names the value other implementations use, so there is
/// none to be compatible with by default.
pub const DEFAULT_REDIRECT_MAGIC: u32 = match option_env!("PURLIN_REDIRECT_MAGIC") {
    Some(text) => number(text.as_bytes()),
    None => 0x5052_4c4e,
};

/// Length of the header of an IPv4 destination in bytes.
pub const REDIRECT_HEADER_LEN: usize = 12;
/// Length of the header of an IPv6 destination in bytes.
pub const REDIRECT_HEADER_V6_LEN: usize = 24;

/// How a redirect's target is told the original destination.
///
/// The header is the first thing on a connection, before any byte of the guest, and once; UDP carries it as a
/// datagram of its own before the first one of each flow. Its fields are big-endian:
///
/// | bytes | IPv4 destination (12 bytes) | IPv6 destination (24 bytes) |
/// |---|---|---|
/// | 0–3 | `magic` | `magic_v6` |
/// | 4–7 | address | port, then two zero bytes |
/// | 8–11 | port, then two zero bytes | address, to byte 23 |
///
/// An IPv4 address in IPv6 clothes counts as IPv4, as in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectHeader {
    /// First four bytes for an IPv4 destination.
    pub magic: u32,
    /// First four bytes for an IPv6 destination; must differ from `magic`. Without it, redirecting such a
    /// flow is denying it: a target that expects 12 bytes must never get 24.
    pub magic_v6: Option<u32>,
}

impl Default for RedirectHeader {
    /// [`DEFAULT_REDIRECT_MAGIC`], and no header for IPv6.
    fn default() -> Self {
        Self { magic: DEFAULT_REDIRECT_MAGIC, magic_v6: None }
    }
}

/// The bytes of a redirect header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectBytes {
    bytes: [u8; REDIRECT_HEADER_V6_LEN],
    len: usize,
}

impl RedirectBytes {
    /// All of them.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl RedirectHeader {
    /// The header for a destination; `None` if there is none for its family.
    pub fn bytes(&self, original: SocketAddr) -> Option<RedirectBytes> {
        let port = original.port().to_be_bytes().into_iter().chain([0; 2]);
        let mut bytes = [0; REDIRECT_HEADER_V6_LEN];
        let fill = |bytes: &mut [u8], fields: &mut dyn Iterator<Item = u8>| {
            bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        };
        let len = match original.ip().to_canonical() {
            IpAddr::V4(ip) => {
                fill(&mut bytes, &mut self.magic.to_be_bytes().into_iter().chain(ip.octets()).chain(port));
                REDIRECT_HEADER_LEN
            }
            IpAddr::V6(ip) => {
                let magic = self.magic_v6?.to_be_bytes();
                fill(&mut bytes, &mut magic.into_iter().chain(port).chain(ip.octets()));
                REDIRECT_HEADER_V6_LEN
            }
        };
        Some(RedirectBytes { bytes, len })
    }

    /// The original destination, from what a redirect's target received first. `None` if it is no header of
    /// this kind; too few bytes are none either.
    pub fn parse(&self, received: &[u8]) -> Option<SocketAddr> {
        let (magic, rest) = received.split_first_chunk::<4>()?;
        let magic = u32::from_be_bytes(*magic);
        if magic == self.magic {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            let port = rest.first_chunk::<2>()?;
            rest.get(..4)?;
            return Some(SocketAddr::from((*ip, u16::from_be_bytes(*port))));
        }
        if Some(magic) != self.magic_v6 {
            return None;
        }
        let port = rest.first_chunk::<2>()?;
        let ip = rest.get(4..)?.first_chunk::<16>()?;
        Some(SocketAddr::from((*ip, u16::from_be_bytes(*port))))
    }
}

/// A decimal number, or hexadecimal after `0x`.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "evaluated while compiling, where an overflow is an error"
)]
#[expect(clippy::indexing_slicing, reason = "the same")]
#[expect(clippy::panic, reason = "the same")]
const fn number(text: &[u8]) -> u32 {
    let hex = text.len() > 2 && text[0] == b'0' && text[1] == b'x';
    let (mut at, base) = if hex { (2, 16) } else { (0, 10) };
    let mut value = 0_u32;
    while at < text.len() {
        let digit = match text[at] {
            c @ b'0'..=b'9' => c - b'0',
            c @ b'a'..=b'f' if hex => c - b'a' + 10,
            _ => panic!("PURLIN_REDIRECT_MAGIC is not a number"),
        };
        value = value * base + digit as u32;
        at += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn layout() {
        let header = RedirectHeader { magic: 0x0102_0304, magic_v6: None };
        let v4 = header.bytes(addr("10.20.30.40:443")).unwrap();
        assert_eq!(v4.as_bytes(), [1, 2, 3, 4, 10, 20, 30, 40, 1, 0xbb, 0, 0]);
        assert_eq!(header.bytes(addr("[::ffff:10.20.30.40]:443")), Some(v4));
        assert_eq!(header.bytes(addr("[2001:db8::1]:443")), None);
        let header = RedirectHeader { magic: 1, magic_v6: Some(2) };
        let v6 = header.bytes(addr("[2001:db8::1]:443")).unwrap();
        let want = [0, 0, 0, 2, 1, 0xbb, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(v6.as_bytes(), want);
    }

    #[test]
    fn a_target_reads_what_was_written() {
        let header = RedirectHeader { magic: 1, magic_v6: Some(2) };
        for original in ["10.20.30.40:443", "[2001:db8::1]:53"].map(addr) {
            let bytes = header.bytes(original).unwrap();
            assert_eq!(header.parse(bytes.as_bytes()), Some(original));
            assert_eq!(header.parse(&[bytes.as_bytes(), b"GET /"].concat()), Some(original));
            for short in 0..bytes.as_bytes().len() {
                assert_eq!(header.parse(&bytes.as_bytes()[..short]), None, "{short}");
            }
            assert_eq!(RedirectHeader { magic: 3, magic_v6: None }.parse(bytes.as_bytes()), None);
        }
    }

    #[test]
    fn magics_from_the_environment() {
        assert_eq!((number(b"0"), number(b"12345"), number(b"0x5052ff0a")), (0, 12345, 0x5052_ff0a));
    }
}
