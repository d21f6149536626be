//! What tells the target of a redirect where a flow was meant to go.

use std::net::SocketAddrV4;

/// Length of a redirect header in bytes.
pub const REDIRECT_HEADER_LEN: usize = 12;

/// The bytes a redirect's target is sent before anything the guest sends: magic, the original IPv4 address,
/// the original port and two zero bytes, all big-endian.
///
/// A TCP connection carries it once, as its first bytes; UDP as a datagram of its own before the first one
/// of each flow. `magic` is what sender and target agreed on; it has no value of its own.
pub fn redirect_header(magic: u32, original: SocketAddrV4) -> [u8; REDIRECT_HEADER_LEN] {
    let mut header = [0; REDIRECT_HEADER_LEN];
    let fields =
        magic.to_be_bytes().into_iter().chain(original.ip().octets()).chain(original.port().to_be_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let header = redirect_header(0x0102_0304, "10.20.30.40:443".parse().unwrap());
        assert_eq!(header, [1, 2, 3, 4, 10, 20, 30, 40, 1, 0xbb, 0, 0]);
    }
}
