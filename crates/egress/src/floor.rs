//! What no rule can open.

use std::net::{IpAddr, Ipv6Addr};

use crate::net::{Cidr, EmbeddedIpv4, judged_network};

/// Cloud metadata services: whoever may ask them becomes the host in the eyes of its cloud. The link-local
/// one is common to all large clouds, the other is Amazon's for IPv6 (EC2 user guide, "Instance metadata").
pub const METADATA: [Cidr; 2] =
    [Cidr::v4(169, 254, 169, 254, 32), Cidr::v6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128)];

/// Loopback networks (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3), with "this network" (RFC 6890), of which Linux
/// takes the first address for loopback.
pub const LOOPBACK: [Cidr; 3] =
    [Cidr::v4(127, 0, 0, 0, 8), Cidr::v4(0, 0, 0, 0, 8), Cidr::v6(Ipv6Addr::LOCALHOST, 128)];

/// Networks that are nobody's on the public internet: private (RFC 1918), shared (RFC 6598), link-local
/// (RFC 3927, RFC 4291 §2.5.6), unique local (RFC 4193).
pub const PRIVATE: [Cidr; 7] = [
    Cidr::v4(10, 0, 0, 0, 8),
    Cidr::v4(172, 16, 0, 0, 12),
    Cidr::v4(192, 168, 0, 0, 16),
    Cidr::v4(100, 64, 0, 0, 10),
    Cidr::v4(169, 254, 0, 0, 16),
    Cidr::v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    Cidr::v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
];

/// Destinations denied before any rule is looked at. [`METADATA`] always belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Also [`LOOPBACK`]: the services that listen on the host's own loopback.
    pub loopback: bool,
    /// Also [`PRIVATE`].
    pub private: bool,
    /// Also these. At most [`MAX_FLOOR_NETWORKS`](crate::MAX_FLOOR_NETWORKS).
    pub networks: Vec<Cidr>,
}

impl Floor {
    /// Everything in the floor, in the order in which it decides.
    pub(crate) fn all(&self) -> Vec<Cidr> {
        let loopback = LOOPBACK.iter().filter(|_| self.loopback);
        let private = PRIVATE.iter().filter(|_| self.private);
        METADATA.iter().chain(&self.networks).chain(loopback).chain(private).copied().collect()
    }

    /// Whether even a redirect may not have this target. Loopback and private networks do not count:
    /// that is where an operator's proxy is.
    pub(crate) fn bars_target(&self, target: IpAddr) -> bool {
        METADATA.iter().chain(&self.networks).any(|network| network.contains(target))
    }

    /// The floor as destinations are judged; the index of a network that cannot be.
    pub(crate) fn judged(&self, embedded: EmbeddedIpv4) -> Result<Self, usize> {
        let judged = |(index, network): (usize, &Cidr)| judged_network(*network, embedded).map_err(|_| index);
        let networks = self.networks.iter().enumerate().map(judged).collect::<Result<_, _>>()?;
        Ok(Self { networks, ..*self })
    }
}

/// Whether an address is one that a name on the public internet has no business to have.
pub(crate) fn is_local(address: IpAddr) -> bool {
    LOOPBACK.iter().chain(&PRIVATE).any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_have_no_host_bits() {
        for network in METADATA.iter().chain(&LOOPBACK).chain(&PRIVATE) {
            assert_eq!(Cidr::new(network.base(), network.prefix_len()), Some(*network));
        }
        assert_eq!(Floor::default().all(), METADATA);
    }
}
