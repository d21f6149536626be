//! Messages and numbers for tests, benches and examples.

use std::net::IpAddr;

/// What a record of a made-up DNS answer holds.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// An A or AAAA record.
    Address(IpAddr),
    /// A CNAME record.
    Alias(&'a str),
}

/// A DNS answer to a question for `question`, with records of (owner, seconds to live, data). Owners that
/// equal the question are compressed.
pub fn dns_answer(question: &str, records: &[(&str, u32, Data<'_>)]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
    let mut message = Vec::new();
    for field in [0x1234, 0x8180, 1, count, 0, 0_u16] {
        message.extend(field.to_be_bytes());
    }
    message.extend(wire_name(question));
    message.extend([0, 1, 0, 1]);
    for (owner, ttl, data) in records {
        message.extend(if *owner == question { vec![0xc0, 12] } else { wire_name(owner) });
        let (kind, data) = match data {
            Data::Address(IpAddr::V4(a)) => (1_u16, a.octets().to_vec()),
            Data::Address(IpAddr::V6(a)) => (28, a.octets().to_vec()),
            Data::Alias(name) => (5, wire_name(name)),
        };
        message.extend(kind.to_be_bytes());
        message.extend(1_u16.to_be_bytes());
        message.extend(ttl.to_be_bytes());
        message.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        message.extend(data);
    }
    message
}

/// A name as DNS writes it, uncompressed.
pub fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels.flat_map(|l| u8::try_from(l.len()).into_iter().chain(l.bytes())).collect();
    wire.push(0);
    wire
}

/// A TLS ClientHello in one record, with these extensions as (type, data).
pub fn client_hello_with(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), vector16(data)].concat())
        .collect();
    let body = [
        &[3, 3][..],
        &[7; 32],            // random
        &[0],                // session
        &[0, 2, 0x13, 0x01], // one cipher suite
        &[1, 0],             // no compression
        &vector16(&extensions),
    ]
    .concat();
    let mut handshake = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
    if let Some(kind) = handshake.first_mut() {
        *kind = 1;
    }
    handshake.extend(body);
    [&[22, 3, 1][..], &vector16(&handshake)].concat()
}

/// A TLS ClientHello for a server name.
pub fn client_hello(name: &str) -> Vec<u8> {
    client_hello_with(&[(0x2b, vec![2, 3, 4]), (0, server_name(name))])
}

/// The data of a server name extension.
pub fn server_name(name: &str) -> Vec<u8> {
    vector16(&[&[0][..], &vector16(name.as_bytes())].concat())
}

/// Bytes behind their length of two bytes.
pub fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()[..], bytes].concat()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the options.
    pub fn pick<T: Copy, const N: usize>(&mut self, options: [T; N]) -> T {
        const { assert!(N > 0) };
        let place = usize::try_from(self.below(N as u64)).unwrap_or(0);
        #[allow(clippy::indexing_slicing, reason = "a place below N")]
        options[place]
    }
}
