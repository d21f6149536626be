//! What a guest's sockets may do. Plain data.

use std::collections::BTreeMap;
use std::ops::BitOr;
use std::time::Duration;

use thiserror::Error;

use crate::limits::Limits;
use crate::wire::{Family, TSI_PORT, UnixAddr};

/// Which of the guest's sockets may be impersonated (libkrun's `KRUN_TSI_*` bits, and two of our own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TsiFlags(u32);

impl TsiFlags {
    /// No socket: plain vsock only.
    pub const NONE: TsiFlags = TsiFlags(0);
    /// TCP and UDP; the guest kernel takes over ordinary sockets (`tsi_hijack`).
    pub const HIJACK_INET: TsiFlags = TsiFlags(1);
    /// Unix sockets; the guest kernel takes over ordinary sockets (`tsi_hijack_unix`).
    pub const HIJACK_UNIX: TsiFlags = TsiFlags(2);
    /// TCP and UDP of programs that ask for an AF_TSI socket.
    pub const EXPLICIT_INET: TsiFlags = TsiFlags(4);
    /// Unix sockets of programs that ask for an AF_TSI socket.
    pub const EXPLICIT_UNIX: TsiFlags = TsiFlags(8);

    /// Flags from their bits; `None` if one is unknown.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !0xf == 0 { Some(TsiFlags(bits)) } else { None }
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// True if all of `other` is set.
    pub const fn contains(self, other: TsiFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if sockets of this family may be impersonated.
    pub(crate) fn allows(self, family: Family) -> bool {
        let mask = match family {
            Family::Unix => Self::HIJACK_UNIX | Self::EXPLICIT_UNIX,
            Family::V4 | Family::V6 => Self::HIJACK_INET | Self::EXPLICIT_INET,
        };
        self.0 & mask.0 != 0
    }

    /// The words on the guest's kernel command line, to be placed before ` -- `.
    pub fn kernel_words(self) -> impl Iterator<Item = &'static str> {
        let words = [(Self::HIJACK_INET, "tsi_hijack"), (Self::HIJACK_UNIX, "tsi_hijack_unix")];
        words.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, word)| word)
    }
}

impl BitOr for TsiFlags {
    type Output = TsiFlags;

    fn bitor(self, other: TsiFlags) -> TsiFlags {
        TsiFlags(self.0 | other.0)
    }
}

/// What happens to `listen(2)` on guest ports that the port map does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmapped {
    /// They stay inside the guest.
    #[default]
    Private,
    /// They are opened on the host under the same number, as libkrun 1.19.7 does.
    SameNumber,
}

/// Which host ports guest listeners get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMap {
    ports: Option<BTreeMap<u16, u16>>,
    unmapped: Unmapped,
}

impl PortMap {
    /// Every listening port under its own number.
    pub fn all() -> Self {
        Self::default()
    }

    /// These (host, guest) pairs and no other; an empty list exposes nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError::DuplicatePort`] if a host or a guest port is there twice.
    pub fn only(pairs: impl IntoIterator<Item = (u16, u16)>) -> Result<Self, ConfigError> {
        let mut ports = BTreeMap::new();
        for (host, guest) in pairs {
            if ports.values().any(|&h| h == host) {
                return Err(ConfigError::DuplicatePort { side: "host", port: host });
            }
            if ports.insert(guest, host).is_some() {
                return Err(ConfigError::DuplicatePort { side: "guest", port: guest });
            }
        }
        Ok(PortMap { ports: Some(ports), unmapped: Unmapped::Private })
    }

    /// What happens to other ports. Default [`Unmapped::Private`].
    pub fn unmapped(mut self, unmapped: Unmapped) -> Self {
        self.unmapped = unmapped;
        self
    }

    /// The host port of a guest port, if it is to be opened on the host.
    pub fn host_port(&self, guest: u16) -> Option<u16> {
        let Some(ports) = &self.ports else { return Some(guest) };
        let other = (self.unmapped == Unmapped::SameNumber).then_some(guest);
        ports.get(&guest).copied().or(other)
    }
}

/// Which side opens the connections of a mapped vsock port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dial {
    /// The guest connects to the port; the host end is a socket somebody else listens on.
    Guest,
    /// The device listens on the path; each connection goes to the guest's listener on the port.
    Host,
}

/// A vsock port that is a unix socket on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixPort {
    /// The vsock port. Not 620, which TSI uses.
    pub port: u32,
    /// The socket.
    pub path: UnixAddr,
    /// Who connects.
    pub dial: Dial,
}

/// Everything the muxer is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MuxerConfig {
    /// The guest's context id. libkrun's is 3.
    pub cid: u64,
    /// Which sockets may be impersonated.
    pub tsi: TsiFlags,
    /// Host ports of guest listeners.
    pub port_map: PortMap,
    /// Mapped vsock ports; one entry per port.
    pub unix_ports: Vec<UnixPort>,
    /// Directories (each ending in `/`) in which a guest's `listen(2)` on a unix path makes a host socket,
    /// replacing a socket that is there. Default none: such listeners stay inside the guest.
    pub unix_listen_roots: Vec<Vec<u8>>,
    /// Ask before connections and datagrams leave ([`Action::AskPolicy`](crate::Action::AskPolicy)). If
    /// not, everything is allowed.
    pub ask_policy: bool,
    /// How long a host client of a [`Dial::Host`] port is kept while the guest refuses it, because it may
    /// still be booting. Default 30 s.
    pub boot_grace: Duration,
    /// First of the host's ports for connections it opens; should be random, so that a guest does not find
    /// those of the one before.
    pub first_port: u32,
    /// Caps.
    pub limits: Limits,
}

impl Default for MuxerConfig {
    fn default() -> Self {
        MuxerConfig {
            cid: 3,
            tsi: TsiFlags::NONE,
            port_map: PortMap::all(),
            unix_ports: Vec::new(),
            unix_listen_roots: Vec::new(),
            ask_policy: false,
            boot_grace: Duration::from_secs(30),
            first_port: 1 << 30,
            limits: Limits::default(),
        }
    }
}

impl MuxerConfig {
    /// Checks what cannot work.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.cid <= 2 || self.cid >= u64::from(u32::MAX) {
            return Err(ConfigError::Cid(self.cid));
        }
        let mut seen = std::collections::BTreeSet::new();
        for entry in &self.unix_ports {
            if entry.port == TSI_PORT {
                return Err(ConfigError::ReservedPort(entry.port));
            }
            if !seen.insert(entry.port) {
                return Err(ConfigError::DuplicateUnixPort(entry.port));
            }
            if entry.path.path().is_none() {
                return Err(ConfigError::UnixPath(entry.port));
            }
        }
        Ok(())
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Context ids 0 to 2 and from 0xffffffff are taken (virtio 1.2 §5.10.4).
    #[error("context id {0} is reserved; use 3 to 0xfffffffe")]
    Cid(u64),
    /// A port is in the map twice.
    #[error("{side} port {port} is in the port map twice")]
    DuplicatePort {
        /// `host` or `guest`.
        side: &'static str,
        /// The port.
        port: u16,
    },
    /// A vsock port is mapped twice.
    #[error("vsock port {0} is mapped twice")]
    DuplicateUnixPort(u32),
    /// A vsock port that cannot be mapped.
    #[error("vsock port {0} is used by TSI")]
    ReservedPort(u32),
    /// A mapped port without a path.
    #[error("vsock port {0}: the socket has no path")]
    UnixPath(u32),
    /// The two redirect headers begin alike.
    #[error("both redirect headers have the magic {0:#x}")]
    Magic(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let both = TsiFlags::HIJACK_INET | TsiFlags::HIJACK_UNIX;
        assert_eq!(both.kernel_words().collect::<Vec<_>>(), ["tsi_hijack", "tsi_hijack_unix"]);
        let explicit = TsiFlags::EXPLICIT_INET;
        assert_eq!(explicit.kernel_words().count(), 0);
        assert!(explicit.allows(Family::V6) && !explicit.allows(Family::Unix));
        assert_eq!(TsiFlags::from_bits(0x10), None);
        assert_eq!(TsiFlags::from_bits(0xf).map(TsiFlags::bits), Some(0xf));
    }

    #[test]
    fn port_maps() {
        let map = PortMap::only([(18000, 8000)]).unwrap();
        assert_eq!(map.host_port(8000), Some(18000));
        assert_eq!(map.host_port(80), None);
        assert_eq!(map.unmapped(Unmapped::SameNumber).host_port(80), Some(80));
        assert_eq!(PortMap::all().host_port(80), Some(80));
        assert_eq!(PortMap::only([]).unwrap().host_port(80), None);
        assert!(PortMap::only([(1, 2), (1, 3)]).is_err());
        assert!(PortMap::only([(1, 2), (3, 2)]).is_err());
    }

    #[test]
    fn what_cannot_work_is_named() {
        let base = MuxerConfig::default();
        assert_eq!(base.check(), Ok(()));
        assert_eq!(MuxerConfig { cid: 2, ..base.clone() }.check(), Err(ConfigError::Cid(2)));
        let entry = |port| UnixPort { port, path: UnixAddr::new(b"/x").unwrap(), dial: Dial::Guest };
        let ports = |list: &[u32]| MuxerConfig {
            unix_ports: list.iter().map(|&p| entry(p)).collect(),
            ..MuxerConfig::default()
        };
        assert_eq!(ports(&[620]).check(), Err(ConfigError::ReservedPort(620)));
        assert_eq!(ports(&[5, 5]).check(), Err(ConfigError::DuplicateUnixPort(5)));
        assert_eq!(ports(&[5, 6]).check(), Ok(()));
    }
}
