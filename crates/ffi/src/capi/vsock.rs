//! Sockets between guest and host, and the guest's network through them (TSI).

use std::collections::BTreeMap;
use std::path::Path;

use purlin_egress::Policy;
use purlin_tsi::wire::TSI_PORT;
use purlin_tsi::{PortMap, TsiFlags, Unmapped};

use super::context::Context;
use super::control::check_socket_path;
use super::guard::{Failure, done};
use super::pointers::{CBool, CText, CTextList};
use super::table;
use crate::config::{Network, TsiConfig, VmConfig, VsockPort};

/// What the calls here asked for.
#[derive(Debug)]
pub(super) struct VsockCalls {
    device: Device,
    ports: BTreeMap<u32, VsockPort>,
    /// (host, guest); `None` is all.
    map: Option<Vec<(u16, u16)>>,
    expose_unmapped: bool,
    /// See [`super::egress`].
    pub egress: Policy,
}

/// Whether there is a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Device {
    /// One with TSI.
    #[default]
    Implicit,
    Disabled,
    Explicit(TsiFlags),
}

impl Default for VsockCalls {
    fn default() -> Self {
        VsockCalls {
            device: Device::default(),
            ports: BTreeMap::new(),
            map: None,
            expose_unmapped: false,
            egress: Policy::unrestricted(),
        }
    }
}

impl VsockCalls {
    /// Adds the device, if there is to be one.
    pub fn apply(self, config: VmConfig) -> Result<VmConfig, Failure> {
        let flags = match self.device {
            Device::Disabled => return Ok(config),
            Device::Implicit => TsiFlags::HIJACK_INET,
            Device::Explicit(flags) => flags,
        };
        let map = match self.map {
            None => PortMap::all(),
            Some(pairs) => PortMap::only(pairs).map_err(|e| Failure::invalid(e.to_string()))?.unmapped(
                match self.expose_unmapped {
                    true => Unmapped::SameNumber,
                    false => Unmapped::Private,
                },
            ),
        };
        let network = Network::Tsi(TsiConfig::new().flags(flags).ports(map).egress(self.egress));
        Ok(self.ports.into_values().fold(config.network(network), VmConfig::vsock_port))
    }
}

/// No vsock device.
#[unsafe(no_mangle)]
pub extern "C" fn krun_disable_implicit_vsock(ctx_id: u32) -> i32 {
    done(|| table::update(ctx_id, |context| context.vsock.device = Device::Disabled))
}

/// A vsock device in place of the implicit one, which must have been disabled.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_vsock(ctx_id: u32, tsi_features: u32) -> i32 {
    done(|| {
        let unknown = || Failure::invalid(format!("tsi_features: {tsi_features:#x} has unknown bits"));
        let flags = TsiFlags::from_bits(tsi_features).ok_or_else(unknown)?;
        table::with(ctx_id, |context| {
            let text = match context.vsock.device {
                Device::Disabled => {
                    context.vsock.device = Device::Explicit(flags);
                    return Ok(());
                }
                Device::Implicit => {
                    "there is an implicit vsock device; call krun_disable_implicit_vsock first"
                }
                Device::Explicit(_) => "there is a vsock device already",
            };
            Err(Failure::new(libc::EEXIST, text))
        })
    })
}

/// A vsock port on a Unix socket that something else listens on.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_vsock_port(ctx_id: u32, port: u32, c_filepath: CText) -> i32 {
    krun_add_vsock_port2(ctx_id, port, c_filepath, 0)
}

/// The same, with a choice of who listens.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_vsock_port2(ctx_id: u32, port: u32, c_filepath: CText, listen: CBool) -> i32 {
    done(|| {
        let path = c_filepath.required("c_filepath")?;
        check_socket_path(&path)?;
        if port == TSI_PORT {
            return Err(Failure::invalid(format!("port: {TSI_PORT} is used by TSI")));
        }
        let entry = if listen != 0 {
            check_unused(Path::new(&path))?;
            VsockPort::host_connects(port, path)
        } else {
            VsockPort::guest_connects(port, path)
        };
        table::with(ctx_id, |context| {
            check_enabled(context)?;
            context.vsock.ports.insert(port, entry);
            Ok(())
        })
    })
}

/// Which ports of the guest are exposed, and as which of the host. NULL is as if it had not been called; an
/// empty list exposes nothing.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_port_map(ctx_id: u32, port_map: CTextList) -> i32 {
    done(|| {
        let Some(list) = port_map.optional("port_map")? else {
            return table::update(ctx_id, |context| context.vsock.map = None);
        };
        let map = parse_port_map(&list)?;
        table::with(ctx_id, |context| {
            check_enabled(context)?;
            context.vsock.map = Some(map);
            Ok(())
        })
    })
}

/// Whether ports that the port map does not name are exposed under their own numbers, as libkrun 1.19.7 does
/// whatever its header says.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_expose_unmapped_ports(ctx_id: u32, enable: CBool) -> i32 {
    done(|| table::update(ctx_id, |context| context.vsock.expose_unmapped = enable != 0))
}

fn check_enabled(context: &Context) -> Result<(), Failure> {
    if context.vsock.device == Device::Disabled {
        return Err(Failure::new(libc::ENODEV, "the machine has no vsock device"));
    }
    Ok(())
}

fn check_unused(path: &Path) -> Result<(), Failure> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::new(libc::EEXIST, format!("c_filepath: {path:?} exists"))),
        Err(e) => Err(Failure::invalid(format!("c_filepath: {path:?}: {e}"))),
    }
}

/// `host:guest` each, no port twice on one side.
fn parse_port_map(list: &[String]) -> Result<Vec<(u16, u16)>, Failure> {
    let mut map = Vec::new();
    for entry in list {
        let bad = |what| Failure::invalid(format!("port_map: {entry:?} {what}"));
        let (host, guest) = entry.split_once(':').ok_or_else(|| bad("is not HOST:GUEST"))?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad("has no port numbers"));
        map.push((port(host)?, port(guest)?));
        if PortMap::only(map.iter().copied()).is_err() {
            return Err(bad("has a port that was given before"));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_maps() {
        let table: [(&[&str], bool); 16] = [
            (&[], true),
            (&["80:80"], true),
            (&["8080:80", "8081:81"], true),
            (&["80:81", "81:80"], true),
            (&["0:0"], true),
            (&["+1:65535"], true),
            (&["80"], false),
            (&[""], false),
            (&[":"], false),
            (&["80:"], false),
            (&["80:80:80"], false),
            (&["65536:1"], false),
            (&["-1:1"], false),
            (&[" 1:1"], false),
            (&["1:80", "2:80"], false),
            (&["80:1", "80:2"], false),
        ];
        for (list, good) in table {
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(parse_port_map(&list).is_ok(), good, "{list:?}");
        }
    }
}
