//! How the guest reaches the outside, and sockets between guest and host.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use purlin_egress::Policy;
use purlin_tsi::shell::VsockConfig;
use purlin_tsi::wire::UnixAddr;
use purlin_tsi::{Dial, Limits, MuxerConfig, PortMap, TsiFlags, UnixPort};

use super::ConfigError;

/// The guest's network.
#[derive(Debug, Clone, Default)]
#[expect(clippy::large_enum_variant, reason = "there is one per machine, and it is moved once")]
#[non_exhaustive]
pub enum Network {
    /// None.
    #[default]
    None,
    /// Transparent socket impersonation: the guest's sockets are the host's. Needs libkrunfw's kernel.
    Tsi(TsiConfig),
}

/// What the guest's sockets may do.
#[derive(Clone)]
pub struct TsiConfig {
    flags: TsiFlags,
    ports: PortMap,
    egress: Policy,
    unix_listen_roots: Vec<PathBuf>,
    limits: Limits,
}

impl Default for TsiConfig {
    fn default() -> Self {
        TsiConfig {
            flags: TsiFlags::HIJACK_INET,
            ports: PortMap::all(),
            egress: Policy::unrestricted(),
            unix_listen_roots: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for TsiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsiConfig")
            .field("flags", &self.flags)
            .field("ports", &self.ports)
            .field("rules", &self.egress.rules().len())
            .finish_non_exhaustive()
    }
}

impl TsiConfig {
    /// TCP and UDP of all programs, every listening port under its own number, no policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which sockets. Default [`TsiFlags::HIJACK_INET`].
    pub fn flags(mut self, flags: TsiFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Which of the guest's listening ports are opened on the host. Default all, under their own numbers.
    pub fn ports(mut self, ports: PortMap) -> Self {
        self.ports = ports;
        self
    }

    /// Decides where TCP and UDP may go. Default: everywhere. [`Vm::egress`](crate::Vm::egress) replaces it
    /// while the machine runs.
    pub fn egress(mut self, policy: Policy) -> Self {
        self.egress = policy;
        self
    }

    /// A host directory in which the guest may listen on unix sockets. Default none.
    pub fn unix_listen_root(mut self, dir: impl Into<PathBuf>) -> Self {
        self.unix_listen_roots.push(dir.into());
        self
    }

    /// Caps.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// A vsock port of the guest that is a unix socket on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsockPort {
    pub(crate) port: u32,
    pub(crate) path: PathBuf,
    pub(crate) dial: Dial,
}

impl VsockPort {
    /// The guest connects to the port; somebody else listens on `path`.
    pub fn guest_connects(port: u32, path: impl Into<PathBuf>) -> Self {
        VsockPort { port, path: path.into(), dial: Dial::Guest }
    }

    /// Host programs connect to `path`, which is made when the machine is built and removed when it ends; each
    /// connection goes to the guest's listener on the port.
    pub fn host_connects(port: u32, path: impl Into<PathBuf>) -> Self {
        VsockPort { port, path: path.into(), dial: Dial::Host }
    }

    fn unix_port(&self) -> Option<UnixPort> {
        let path = UnixAddr::new(self.path.as_os_str().as_bytes()).filter(|a| a.path().is_some())?;
        Some(UnixPort { port: self.port, path, dial: self.dial })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.unix_port() {
            Some(_) => Ok(()),
            None => {
                let value = format!("{:?}", self.path);
                Err(ConfigError::field("vsock_port", value, "use a path of 1 to 107 bytes"))
            }
        }
    }
}

impl Network {
    /// Words for the guest's kernel.
    pub(crate) fn kernel_words(&self) -> Vec<&'static str> {
        match self {
            Network::None => Vec::new(),
            Network::Tsi(tsi) => tsi.flags.kernel_words().collect(),
        }
    }

    /// The device for this network and these ports, if one is needed.
    pub(crate) fn vsock(&self, ports: &[VsockPort], boot_grace: Option<Duration>) -> Option<VsockConfig> {
        let mut muxer = MuxerConfig::default();
        let mut egress = Policy::unrestricted();
        match self {
            Network::None if ports.is_empty() => return None,
            Network::None => {}
            Network::Tsi(tsi) => {
                muxer.tsi = tsi.flags;
                muxer.port_map = tsi.ports.clone();
                muxer.limits = tsi.limits.clone();
                muxer.unix_listen_roots = tsi.unix_listen_roots.iter().map(|dir| root(dir)).collect();
                egress.clone_from(&tsi.egress);
            }
        }
        muxer.unix_ports = ports.iter().filter_map(VsockPort::unix_port).collect();
        muxer.boot_grace = boot_grace.unwrap_or(muxer.boot_grace);
        let mut config = VsockConfig::new(muxer);
        config.egress = egress;
        Some(config)
    }
}

/// Ends in a slash.
fn root(dir: &Path) -> Vec<u8> {
    let mut bytes = dir.as_os_str().as_bytes().to_vec();
    if bytes.last() != Some(&b'/') {
        bytes.push(b'/');
    }
    bytes
}
