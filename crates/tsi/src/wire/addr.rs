//! Linux socket addresses as a guest writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use thiserror::Error;

use super::{errno, u16_at};

/// Address families TSI knows (`AF_*` of Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Family {
    /// AF_UNIX.
    Unix = 1,
    /// AF_INET.
    V4 = 2,
    /// AF_INET6.
    V6 = 10,
}

impl Family {
    /// The family of this number.
    pub fn from_raw(raw: u16) -> Option<Self> {
        match raw {
            1 => Some(Family::Unix),
            2 => Some(Family::V4),
            10 => Some(Family::V6),
            _ => None,
        }
    }
}

/// Longest name in a unix address (`sizeof(sun_path)` in Linux).
const UNIX_NAME_MAX: usize = 108;
/// The family field.
const FAMILY_LEN: usize = 2;
const V4_LEN: usize = 16;
const V6_LEN: usize = 28;

/// Name of a unix socket.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixAddr(Box<[u8]>);

impl UnixAddr {
    /// A name as it stands in `sun_path`: a path without its NUL, a NUL and an abstract name, or nothing.
    /// `None` above 107 bytes for a path and 108 for an abstract name.
    pub fn new(name: &[u8]) -> Option<Self> {
        let limit = if name.first() == Some(&0) { UNIX_NAME_MAX } else { UNIX_NAME_MAX - 1 };
        (name.len() <= limit).then(|| UnixAddr(name.into()))
    }

    /// The path; `None` for abstract and unnamed addresses.
    pub fn path(&self) -> Option<&[u8]> {
        self.0.first().is_some_and(|&b| b != 0).then_some(&*self.0)
    }

    /// The abstract name, without its leading NUL.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        self.0.strip_prefix(&[0])
    }

    /// As in `sun_path`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.0.escape_ascii())
    }
}

/// A checked socket address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SockAddr {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A unix socket.
    Unix(UnixAddr),
}

/// Why bytes are no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddrError {
    /// No such family here.
    #[error("address family {0}")]
    Family(u16),
    /// The length is not one of the family.
    #[error("{len} bytes of address")]
    Length {
        /// Length found.
        len: usize,
    },
}

impl AddrError {
    /// What `connect(2)` answers.
    pub fn errno(self) -> i32 {
        match self {
            AddrError::Family(_) => errno::EAFNOSUPPORT,
            AddrError::Length { .. } => errno::EINVAL,
        }
    }
}

impl SockAddr {
    /// Reads a `sockaddr` of exactly `bytes.len()` bytes. Scope ids name interfaces of the guest and are
    /// dropped, like flow labels.
    ///
    /// # Errors
    ///
    /// [`AddrError`] for families other than [`Family`], and for any length but the family's (for unix: 2
    /// to 110).
    pub fn parse(bytes: &[u8]) -> Result<Self, AddrError> {
        let len = bytes.len();
        let bad_length = AddrError::Length { len };
        let raw = u16_at(bytes, 0).ok_or(bad_length)?;
        let family = Family::from_raw(raw).ok_or(AddrError::Family(raw))?;
        let rest = bytes.get(FAMILY_LEN..).unwrap_or_default();
        match family {
            Family::V4 if len == V4_LEN => parse_v4(rest).ok_or(bad_length),
            Family::V6 if len == V6_LEN => parse_v6(rest).ok_or(bad_length),
            Family::Unix => parse_unix(rest).ok_or(bad_length),
            _ => Err(bad_length),
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        match self {
            SockAddr::Inet(SocketAddr::V4(_)) => Family::V4,
            SockAddr::Inet(SocketAddr::V6(_)) => Family::V6,
            SockAddr::Unix(_) => Family::Unix,
        }
    }

    /// Address and port, unless it is a unix address.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            SockAddr::Inet(addr) => Some(*addr),
            SockAddr::Unix(_) => None,
        }
    }

    /// The wildcard address of a family, port 0; an unnamed unix address.
    pub fn unspecified(family: Family) -> Self {
        match family {
            Family::V4 => SockAddr::Inet((Ipv4Addr::UNSPECIFIED, 0).into()),
            Family::V6 => SockAddr::Inet((Ipv6Addr::UNSPECIFIED, 0).into()),
            Family::Unix => SockAddr::Unix(UnixAddr(Box::default())),
        }
    }

    /// Writes it as Linux does; the length returned is what the guest demands of the family.
    pub fn emit(&self, out: &mut [u8; 128]) -> u32 {
        let mut bytes = Vec::with_capacity(V6_LEN);
        bytes.extend_from_slice(&(self.family() as u16).to_le_bytes());
        match self {
            SockAddr::Inet(addr) => {
                bytes.extend_from_slice(&addr.port().to_be_bytes());
                match addr.ip() {
                    IpAddr::V4(ip) => {
                        bytes.extend_from_slice(&ip.octets());
                        bytes.extend_from_slice(&[0; 8]);
                    }
                    IpAddr::V6(ip) => {
                        bytes.extend_from_slice(&[0; 4]);
                        bytes.extend_from_slice(&ip.octets());
                        bytes.extend_from_slice(&[0; 4]);
                    }
                }
            }
            SockAddr::Unix(name) => {
                bytes.extend_from_slice(name.as_bytes());
                // What Linux reports for a path ends with a NUL.
                bytes.extend(name.path().map(|_| 0));
            }
        }
        for (to, from) in out.iter_mut().zip(&bytes) {
            *to = *from;
        }
        // At most 110.
        bytes.len() as u32
    }
}

fn parse_v4(rest: &[u8]) -> Option<SockAddr> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let ip = rest.first_chunk::<4>()?;
    let addr = SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(*port));
    Some(SockAddr::Inet(addr.into()))
}

fn parse_v6(rest: &[u8]) -> Option<SockAddr> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (_flow, rest) = rest.split_first_chunk::<4>()?;
    let ip = rest.first_chunk::<16>()?;
    let addr = SocketAddrV6::new(Ipv6Addr::from(*ip), u16::from_be_bytes(*port), 0, 0);
    Some(SockAddr::Inet(addr.into()))
}

/// A path ends at its first NUL; an abstract name has the length given.
fn parse_unix(name: &[u8]) -> Option<SockAddr> {
    let name = match name.first() {
        Some(0) | None => name,
        Some(_) => name.split(|&b| b == 0).next().unwrap_or_default(),
    };
    UnixAddr::new(name).map(SockAddr::Unix)
}

impl From<SocketAddr> for SockAddr {
    fn from(addr: SocketAddr) -> Self {
        SockAddr::Inet(addr)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(family: u16, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        for (to, from) in out.iter_mut().zip(family.to_le_bytes()) {
            *to = from;
        }
        out
    }

    #[test]
    fn lengths_per_family() {
        let table = [
            (2, 16, true),
            (2, 15, false),
            (2, 17, false),
            (2, 2, false),
            (10, 28, true),
            (10, 27, false),
            (10, 29, false),
            (1, 2, true),
            (1, 110, true),
            (1, 111, false),
            (1, 128, false),
            (1, 1, false),
            (1, 0, false),
            (3, 16, false),
            (0, 16, false),
        ];
        for (family, len, want) in table {
            assert_eq!(SockAddr::parse(&bytes(family, len)).is_ok(), want, "family {family}, {len} bytes");
        }
        assert_eq!(SockAddr::parse(&bytes(9, 16)), Err(AddrError::Family(9)));
    }

    #[test]
    fn names_of_unix_sockets() {
        let parse = |name: &[u8]| match SockAddr::parse(&[&[1, 0], name].concat()).unwrap() {
            SockAddr::Unix(addr) => addr,
            SockAddr::Inet(_) => panic!("not unix"),
        };
        assert_eq!(parse(b"/a/b\0rest").path(), Some(&b"/a/b"[..]));
        assert_eq!(parse(b"/a/b").path(), Some(&b"/a/b"[..]));
        assert_eq!(parse(b"\0name").abstract_name(), Some(&b"name"[..]));
        assert_eq!(parse(b"\0name").path(), None);
        assert_eq!(parse(b"").path(), None);
        assert!(UnixAddr::new(&[b'a'; 108]).is_none());
    }

    proptest! {
        #[test]
        fn inet_addresses_survive(addr: SocketAddr) {
            let addr = match addr {
                SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0).into(),
                v4 => v4,
            };
            let mut out = [0; 128];
            let len = SockAddr::Inet(addr).emit(&mut out);
            prop_assert_eq!(len, if addr.is_ipv4() { 16 } else { 28 });
            prop_assert_eq!(SockAddr::parse(&out[..len as usize]), Ok(SockAddr::Inet(addr)));
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SockAddr::parse(&bytes);
        }
    }
}
