//! Requests of the guest's TSI sockets and their replies.
//!
//! A request is a datagram whose destination port says which one it is. A reply goes from that port to the
//! port the request came from; the guest blocks until it is there, and does not check whose reply it is.

use super::addr::{AddrError, Family, SockAddr};
use super::port::control;
use super::{u16_at, u32_at};

/// Bytes of the longest request that are looked at; longer ones may be cut.
pub const MAX_REQUEST: usize = 144;
/// Every reply has this size, so that one that arrives late and is taken for another is all zeros where it
/// matters. The guest cuts it to what it asked for.
pub const REPLY_LEN: usize = 136;

/// Longest address area in a request.
const ADDR_AREA: u32 = 128;

/// What a TSI socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum SocketType {
    /// SOCK_STREAM.
    Stream = 1,
    /// SOCK_DGRAM.
    Datagram = 2,
}

/// A request, checked. `port` is the guest's port of the socket meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A socket of this kind will be used. No reply.
    Create {
        /// Guest's port.
        port: u32,
        /// Family and type, unless there is no such socket.
        socket: Option<(Family, SocketType)>,
    },
    /// Connect.
    Connect {
        /// Guest's port.
        port: u32,
        /// Where to.
        addr: Result<SockAddr, AddrError>,
    },
    /// Tell an address.
    GetName {
        /// Guest's port.
        port: u32,
        /// Host's port.
        host_port: u32,
        /// The peer's address; the socket's own otherwise.
        peer: bool,
    },
    /// Sets the destination of the datagrams that follow. No reply.
    SendTo {
        /// Guest's port.
        port: u32,
        /// Where to.
        addr: Result<SockAddr, AddrError>,
    },
    /// Listen.
    Listen {
        /// Guest's port.
        port: u32,
        /// Guest's port that connections go to.
        vm_port: u32,
        /// As in `listen(2)`.
        backlog: i32,
        /// Where.
        addr: Result<SockAddr, AddrError>,
    },
    /// Wait for a connection.
    Accept {
        /// Guest's port.
        port: u32,
        /// Answer at once if there is none.
        nonblocking: bool,
    },
    /// The socket was closed. No reply.
    Release {
        /// Guest's port.
        port: u32,
        /// Host's port.
        host_port: u32,
    },
}

/// A request that ends too early; if its kind has a reply, the sender must get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short;

/// O_NONBLOCK in the guest's ABI.
const O_NONBLOCK: u32 = 0x800;

impl Request {
    /// Reads the request a datagram to host port `dst_port` carries. Bytes behind the fields are ignored.
    ///
    /// # Errors
    ///
    /// [`Short`]. Ports that carry no request also give it.
    pub fn parse(dst_port: u32, bytes: &[u8]) -> Result<Self, Short> {
        let word = |at| u32_at(bytes, at).ok_or(Short);
        let port = word(0)?;
        match dst_port {
            control::CREATE => {
                let half = |at| u16_at(bytes, at).ok_or(Short);
                let (family, kind) = (Family::from_raw(half(4)?), half(6)?);
                let kind = match kind {
                    1 => Some(SocketType::Stream),
                    2 => Some(SocketType::Datagram),
                    _ => None,
                };
                Ok(Request::Create { port, socket: family.zip(kind) })
            }
            control::CONNECT => Ok(Request::Connect { port, addr: addr_at(bytes, 4)? }),
            control::GETNAME => Ok(Request::GetName { port, host_port: word(4)?, peer: word(8)? != 0 }),
            control::SENDTO_ADDR => Ok(Request::SendTo { port, addr: addr_at(bytes, 4)? }),
            control::LISTEN => {
                let (vm_port, backlog) = (word(4)?, word(8)?.cast_signed());
                Ok(Request::Listen { port, vm_port, backlog, addr: addr_at(bytes, 12)? })
            }
            control::ACCEPT => Ok(Request::Accept { port, nonblocking: word(4)? & O_NONBLOCK != 0 }),
            control::RELEASE => Ok(Request::Release { port, host_port: word(4)? }),
            _ => Err(Short),
        }
    }
}

/// Length field at `at`, address behind it.
fn addr_at(bytes: &[u8], at: usize) -> Result<Result<SockAddr, AddrError>, Short> {
    let len = u32_at(bytes, at).ok_or(Short)?;
    let rest = bytes.get(at + 4..).unwrap_or_default();
    let bad = AddrError::Length { len: len as usize };
    Ok(match rest.get(..len as usize) {
        Some(addr) if len <= ADDR_AREA => SockAddr::parse(addr),
        _ => Err(bad),
    })
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// 0 or a negative error number.
    Result(i32),
    /// Success of GETNAME.
    Name(SockAddr),
}

impl Reply {
    /// All bytes of it.
    pub fn emit(&self) -> [u8; REPLY_LEN] {
        let mut out = [0; REPLY_LEN];
        match self {
            Reply::Result(value) => {
                if let Some(to) = out.first_chunk_mut() {
                    *to = value.to_le_bytes();
                }
            }
            Reply::Name(addr) => {
                let Some((_result, rest)) = out.split_first_chunk_mut::<4>() else { return out };
                let Some((len, area)) = rest.split_first_chunk_mut::<4>() else { return out };
                if let Some(area) = area.first_chunk_mut() {
                    *len = addr.emit(area).to_le_bytes();
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| b.is_ascii_hexdigit()).collect();
        digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn requests_as_a_guest_sends_them() {
        let mut connect = hex("78563412 10000000 0200 0050 5db8d822 0000000000000000");
        connect.resize(136, 0xaa);
        let addr = SockAddr::Inet("93.184.216.34:80".parse().unwrap());
        let table = [
            (
                1024,
                hex("78563412 0200 0100"),
                Request::Create { port: 0x1234_5678, socket: Some((Family::V4, SocketType::Stream)) },
            ),
            (
                1024,
                hex("78563412 0a00 0200 1100"),
                Request::Create { port: 0x1234_5678, socket: Some((Family::V6, SocketType::Datagram)) },
            ),
            (1024, hex("78563412 0300 0200"), Request::Create { port: 0x1234_5678, socket: None }),
            (1024, hex("78563412 0200 0300"), Request::Create { port: 0x1234_5678, socket: None }),
            (1025, connect.clone(), Request::Connect { port: 0x1234_5678, addr: Ok(addr.clone()) }),
            (1027, connect, Request::SendTo { port: 0x1234_5678, addr: Ok(addr.clone()) }),
            (
                1026,
                hex("01000000 6c020000 02000000"),
                Request::GetName { port: 1, host_port: 620, peer: true },
            ),
            (
                1029,
                hex("01000000 01000000 ffffffff 10000000 0200 0050 5db8d822 0000000000000000"),
                Request::Listen { port: 1, vm_port: 1, backlog: -1, addr: Ok(addr) },
            ),
            (1030, hex("01000000 02080000"), Request::Accept { port: 1, nonblocking: true }),
            (1030, hex("01000000 02000000"), Request::Accept { port: 1, nonblocking: false }),
            (1031, hex("00000000 6c020000"), Request::Release { port: 0, host_port: 620 }),
        ];
        for (port, bytes, want) in table {
            assert_eq!(Request::parse(port, &bytes), Ok(want), "{port}");
        }
    }

    #[test]
    fn fixed_fields_must_be_there() {
        let least = [(1024, 8), (1025, 8), (1026, 12), (1027, 8), (1029, 16), (1030, 8), (1031, 8)];
        for (port, least) in least {
            for len in 0..200 {
                let parsed = Request::parse(port, &vec![0; len]);
                assert_eq!(parsed.is_ok(), len >= least, "port {port}, {len} bytes");
            }
        }
        assert_eq!(Request::parse(1028, &[0; 64]), Err(Short));
    }

    #[test]
    fn lying_address_lengths() {
        for (len, area) in [(17, 16), (128, 127), (129, 200), (u32::MAX, 128)] {
            let mut bytes = vec![0; 4];
            bytes.extend_from_slice(&u32::to_le_bytes(len));
            bytes.extend_from_slice(&vec![2; area]);
            let want = Request::Connect { port: 0, addr: Err(AddrError::Length { len: len as usize }) };
            assert_eq!(Request::parse(1025, &bytes), Ok(want));
        }
    }

    #[test]
    fn replies() {
        assert_eq!(Reply::Result(-111).emit()[..8], hex("91ffffff 00000000"));
        let name = Reply::Name(SockAddr::Inet("1.2.3.4:80".parse().unwrap())).emit();
        assert_eq!(name[..24], hex("00000000 10000000 0200 0050 01020304 0000000000000000"));
        let name = Reply::Name(SockAddr::Inet("[::1]:80".parse().unwrap())).emit();
        assert_eq!(name[4..12], hex("1c000000 0a00 0050"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(port in 1020u32..1040, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(port, &bytes);
        }
    }
}
