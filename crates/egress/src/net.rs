//! Networks, and the address a destination is judged by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address prefix of one family.
///
/// Host bits are cleared, so two values that cover the same addresses are equal. A network of one family
/// never contains an address of the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    base: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// The network of `prefix_len` leading bits of `base`; `None` if `prefix_len` is over 32 (IPv4) or
    /// 128 (IPv6).
    pub const fn new(base: IpAddr, prefix_len: u8) -> Option<Self> {
        match base {
            IpAddr::V4(a) => {
                if prefix_len > 32 {
                    return None;
                }
                let bits = a.to_bits() & mask_v4(prefix_len);
                Some(Self { base: IpAddr::V4(Ipv4Addr::from_bits(bits)), prefix_len })
            }
            IpAddr::V6(a) => {
                if prefix_len > 128 {
                    return None;
                }
                let bits = a.to_bits() & mask_v6(prefix_len);
                Some(Self { base: IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix_len })
            }
        }
    }

    /// The network of a single address.
    pub const fn host(address: IpAddr) -> Self {
        let prefix_len = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { base: address, prefix_len }
    }

    pub(crate) const fn v4(a: u8, b: u8, c: u8, d: u8, prefix_len: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix_len }
    }

    pub(crate) const fn v6(base: Ipv6Addr, prefix_len: u8) -> Self {
        Self { base: IpAddr::V6(base), prefix_len }
    }

    /// The first address.
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// How many leading bits the addresses share: 0..=32 or 0..=128.
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `address`, taken literally, lies in this network.
    pub const fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => a.to_bits() & mask_v4(self.prefix_len) == n.to_bits(),
            (IpAddr::V6(n), IpAddr::V6(a)) => a.to_bits() & mask_v6(self.prefix_len) == n.to_bits(),
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

/// The leading `len` bits set; `len` of 32 and more sets all.
pub(crate) const fn mask_v4(len: u8) -> u32 {
    match u32::MAX.checked_shr(len as u32) {
        Some(host) => !host,
        None => u32::MAX,
    }
}

/// The leading `len` bits set; `len` of 128 and more sets all.
pub(crate) const fn mask_v6(len: u8) -> u128 {
    match u128::MAX.checked_shr(len as u32) {
        Some(host) => !host,
        None => u128::MAX,
    }
}

/// IPv4-mapped IPv6 addresses, `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
const MAPPED: Cidr = Cidr::v6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// The well-known NAT64 prefix (RFC 6052 §2.1): the last 32 bits are an IPv4 address.
const NAT64: Cidr = Cidr::v6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// 6to4 (RFC 3056 §2): bits 16 to 47 are an IPv4 address.
const SIX_TO_FOUR: Cidr = Cidr::v6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Whether addresses that a translator or tunnel turns into IPv4 are judged as IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmbeddedIpv4 {
    /// `64:ff9b::/96` (NAT64) and `2002::/16` (6to4) are judged by the IPv4 address inside.
    #[default]
    AsIpv4,
    /// They are IPv6 addresses like any other. The floor still looks at the IPv4 address inside.
    AsIpv6,
}

/// The address by which a destination is judged, which is where the host would connect to:
///
/// - IPv4-mapped IPv6 is IPv4, always;
/// - NAT64 and 6to4 are IPv4 if `embedded` says so;
/// - the unspecified addresses are loopback: Linux connects there when asked for `0.0.0.0` or `::`.
pub fn judged_address(address: IpAddr, embedded: EmbeddedIpv4) -> IpAddr {
    let address = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(a) => match (tail_v4(a), embedded_v4(a), embedded) {
            (Some(v4), _, _) | (None, Some(v4), EmbeddedIpv4::AsIpv4) => IpAddr::V4(v4),
            _ => address,
        },
    };
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}

/// The address inside an IPv4-mapped one.
fn tail_v4(a: Ipv6Addr) -> Option<Ipv4Addr> {
    MAPPED.contains(IpAddr::V6(a)).then(|| low_v4(a.to_bits()))
}

/// The IPv4 address inside a NAT64 or 6to4 address.
pub(crate) fn embedded_v4(a: Ipv6Addr) -> Option<Ipv4Addr> {
    let whole = IpAddr::V6(a);
    if NAT64.contains(whole) {
        Some(low_v4(a.to_bits()))
    } else if SIX_TO_FOUR.contains(whole) {
        Some(low_v4(a.to_bits() >> 80))
    } else {
        None
    }
}

/// The last 32 bits as an address.
fn low_v4(bits: u128) -> Ipv4Addr {
    let [.., a, b, c, d] = bits.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

/// A network by which no destination is ever judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeverJudged;

/// The network as it must be written to match what [`judged_address`] gives: an IPv6 network inside one
/// that is judged as IPv4 becomes that IPv4 network.
///
/// # Errors
///
/// [`NeverJudged`] for a part of a single 6to4 site, which no IPv4 network stands for.
pub(crate) fn judged_network(network: Cidr, embedded: EmbeddedIpv4) -> Result<Cidr, NeverJudged> {
    let IpAddr::V6(base) = network.base else { return Ok(network) };
    let looks_through = embedded == EmbeddedIpv4::AsIpv4;
    let (outer, inner) = if let Some(v4) = tail_v4(base) {
        (MAPPED, v4)
    } else if let (Some(v4), true) = (embedded_v4(base), looks_through) {
        (if NAT64.contains(network.base) { NAT64 } else { SIX_TO_FOUR }, v4)
    } else {
        return Ok(network);
    };
    match network.prefix_len.checked_sub(outer.prefix_len) {
        None => Ok(network),
        Some(len) => Cidr::new(IpAddr::V4(inner), len).ok_or(NeverJudged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn net(s: &str) -> Cidr {
        let (base, len) = s.split_once('/').unwrap();
        Cidr::new(ip(base), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn networks_clear_host_bits_and_keep_families_apart() {
        for (text, inside, outside) in [
            (
                "10.1.2.3/8",
                &["10.0.0.0", "10.255.255.255"][..],
                &["11.0.0.0", "::a00:0", "9.255.255.255"][..],
            ),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "::1"]),
            ("::/0", &["::", "ffff::1"], &["0.0.0.0", "1.2.3.4"]),
            ("192.0.2.1/32", &["192.0.2.1"], &["192.0.2.0", "192.0.2.2"]),
            ("2001:db8::ff/127", &["2001:db8::fe", "2001:db8::ff"], &["2001:db8::100", "2001:db8::fd"]),
            ("fe80::1/128", &["fe80::1"], &["fe80::", "fe80::2"]),
        ] {
            let network = net(text);
            for a in inside {
                assert!(network.contains(ip(a)), "{a} in {text}");
            }
            for a in outside {
                assert!(!network.contains(ip(a)), "{a} not in {text}");
            }
        }
        assert_eq!(net("10.1.2.3/8"), net("10.0.0.0/8"));
        assert_eq!(Cidr::new(ip("10.0.0.0"), 33), None);
        assert_eq!(Cidr::new(ip("::"), 129), None);
        assert_eq!(net("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn judged_addresses() {
        use EmbeddedIpv4::{AsIpv4, AsIpv6};
        for (given, embedded, judged) in [
            ("10.0.0.1", AsIpv4, "10.0.0.1"),
            ("::ffff:10.0.0.1", AsIpv4, "10.0.0.1"),
            ("::ffff:10.0.0.1", AsIpv6, "10.0.0.1"),
            ("64:ff9b::10.0.0.1", AsIpv4, "10.0.0.1"),
            ("64:ff9b::10.0.0.1", AsIpv6, "64:ff9b::10.0.0.1"),
            ("64:ff9b:1::10.0.0.1", AsIpv4, "64:ff9b:1::10.0.0.1"),
            ("2002:0a00:0001::1", AsIpv4, "10.0.0.1"),
            ("2002:0a00:0001::1", AsIpv6, "2002:0a00:0001::1"),
            ("::10.0.0.1", AsIpv4, "::10.0.0.1"),
            ("0.0.0.0", AsIpv4, "127.0.0.1"),
            ("::ffff:0.0.0.0", AsIpv4, "127.0.0.1"),
            ("64:ff9b::", AsIpv4, "127.0.0.1"),
            ("::", AsIpv4, "::1"),
        ] {
            assert_eq!(judged_address(ip(given), embedded), ip(judged), "{given} {embedded:?}");
        }
    }

    #[test]
    fn judged_networks() {
        use EmbeddedIpv4::{AsIpv4, AsIpv6};
        for (given, embedded, judged) in [
            ("::/0", AsIpv4, Some("::/0")),
            ("::ffff:10.0.0.0/104", AsIpv4, Some("10.0.0.0/8")),
            ("::ffff:10.0.0.0/104", AsIpv6, Some("10.0.0.0/8")),
            ("::ffff:0:0/96", AsIpv4, Some("0.0.0.0/0")),
            ("::fffe:0:0/95", AsIpv4, Some("::fffe:0:0/95")),
            ("64:ff9b::/96", AsIpv4, Some("0.0.0.0/0")),
            ("64:ff9b::/96", AsIpv6, Some("64:ff9b::/96")),
            ("64:ff9b::/32", AsIpv4, Some("64:ff9b::/32")),
            ("2002:0a00::/24", AsIpv4, Some("10.0.0.0/8")),
            ("2002:0a00:0001::/48", AsIpv4, Some("10.0.0.1/32")),
            ("2002:0a00:0001::/49", AsIpv4, None),
            ("2002:0a00:0001::/49", AsIpv6, Some("2002:0a00:0001::/49")),
        ] {
            assert_eq!(judged_network(net(given), embedded).ok(), judged.map(net), "{given} {embedded:?}");
        }
    }
}
