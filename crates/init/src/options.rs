//! What the host asks of the guest besides the workload, by environment words.
//!
//! Each word is read by itself: what is not understood is a [`Warning`] and left out, and the boot goes on. The `AGX`
//! words are those of a fork of libkrun; the `PURLIN` ones mean the same and come first. `PURLIN` words are removed from
//! the workload's environment, the others stay, as they do under libkrun's own init.
//!
//! ```
//! use purlin_init::{env::Environment, options::Options};
//!
//! let mut env = Environment::new();
//! env.set(c"PURLIN_VIRTIOFS_MOUNTS=work:/srv/work:ro,nothing".into()).unwrap();
//! let (options, warnings) = Options::take(&mut env);
//! assert_eq!(options.mounts[0].target.as_c_str(), c"/srv/work");
//! assert_eq!(warnings[0].text(), "PURLIN_VIRTIOFS_MOUNTS: not tag:path[:ro], skipped: nothing");
//! ```

use alloc::ffi::CString;
use alloc::vec::Vec;

use crate::abi;
use crate::ca::CaInstall;
use crate::config::Warning;
use crate::env::Environment;
use crate::mounts::{self, FsType, MountRequest};
use crate::net::Settings;

const ENV_BLOCK_DEVICE: &str = "KRUN_BLOCK_ROOT_DEVICE";
const ENV_BLOCK_TYPE: &str = "KRUN_BLOCK_ROOT_FSTYPE";
const ENV_BLOCK_OPTIONS: &str = "KRUN_BLOCK_ROOT_OPTIONS";
const ENV_DHCP: &str = "KRUN_DHCP";
const ENV_AGX_SHARES: &str = "AGX_VIRTIOFS_MOUNTS";
const ENV_AGX_STATIC_IP: &str = "AGX_NETSTACK_STATIC_IP";
const ENV_AGX_CA_SOURCE: &str = "AGX_MITM_CA_SOURCE";
const ENV_AGX_CA_PATH: &str = "AGX_MITM_CA_PATH";
const ENV_CONFIG: &str = "KRUN_CONFIG";

/// The configuration file, unless the environment says otherwise. Nothing is done if it is not there.
pub const DEFAULT_CONFIG: &core::ffi::CStr = c"/.krun_config.json";

/// Where a block root is mounted before it becomes the root.
pub const NEW_ROOT: &core::ffi::CStr = c"/newroot";

/// How the network card's interface gets its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Not by this program.
    #[default]
    None,
    /// From a server.
    Dhcp,
    /// From the host's words.
    Static(Settings),
}

/// A configuration file's path, and whether it was asked for, so that its absence is worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPath {
    /// Where it is.
    pub path: CString,
    /// The environment names it.
    pub asked: bool,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A disk that becomes the root, mounted at [`NEW_ROOT`] first.
    pub block_root: Option<MountRequest>,
    /// The network card's interface.
    pub network: Network,
    /// Shares, then disks.
    pub mounts: Vec<MountRequest>,
    /// The certificate authority to trust.
    pub ca: CaInstall,
    /// The configuration file.
    pub config: ConfigPath,
}

impl Options {
    /// Takes the words out of `env`.
    pub fn take(env: &mut Environment) -> (Self, Vec<Warning>) {
        let mut warnings = Vec::new();
        let block_root = block_root(env, &mut warnings);
        let network = network(env, &mut warnings);
        let mut mounts = Vec::new();
        let shares = [(abi::ENV_VIRTIOFS_MOUNTS, true), (ENV_AGX_SHARES, false)];
        for (name, ours) in shares {
            let list = if ours { env.remove(name) } else { env.get(name).map(CString::from) };
            add_mounts(&mut mounts, name, list, mounts::share, &mut warnings);
        }
        let name = abi::ENV_DISK_MOUNTS;
        add_mounts(&mut mounts, name, env.remove(name), mounts::disk, &mut warnings);
        let options = Self {
            block_root,
            network,
            mounts,
            ca: ca(env, &mut warnings),
            config: match env.get(ENV_CONFIG).filter(|path| !path.is_empty()) {
                Some(path) => ConfigPath { path: path.into(), asked: true },
                None => ConfigPath { path: DEFAULT_CONFIG.into(), asked: false },
            },
        };
        (options, warnings)
    }
}

fn warn(warnings: &mut Vec<Warning>, name: &'static str, item: &[u8], why: &'static str) {
    warnings.push(Warning::Variable { name, item: item.to_vec(), why });
}

fn block_root(env: &Environment, warnings: &mut Vec<Warning>) -> Option<MountRequest> {
    let text = |name| env.get(name).unwrap_or_default().to_bytes();
    let source = env.get(ENV_BLOCK_DEVICE).filter(|device| !device.is_empty())?.into();
    let (flags, data) = mounts::options(text(ENV_BLOCK_OPTIONS));
    let kind = mounts::fs_type(text(ENV_BLOCK_TYPE)).unwrap_or_else(|why| {
        warn(warnings, ENV_BLOCK_TYPE, text(ENV_BLOCK_TYPE), why);
        FsType::Probe
    });
    Some(MountRequest { source, target: NEW_ROOT.into(), kind, flags, data })
}

fn network(env: &mut Environment, warnings: &mut Vec<Warning>) -> Network {
    let ours = env.remove(abi::ENV_STATIC_IP).map(|text| (abi::ENV_STATIC_IP, text));
    let theirs = || env.get(ENV_AGX_STATIC_IP).map(|text| (ENV_AGX_STATIC_IP, CString::from(text)));
    if let Some((name, text)) = ours.or_else(theirs).filter(|(_, text)| !text.is_empty()) {
        match Settings::parse(text.as_bytes()) {
            Ok(settings) => return Network::Static(settings),
            Err(why) => warn(warnings, name, text.as_bytes(), why),
        }
    }
    match env.get(ENV_DHCP) {
        Some(text) if text == c"1" => Network::Dhcp,
        Some(text) if !text.is_empty() && text != c"0" => {
            warn(warnings, ENV_DHCP, text.to_bytes(), "neither 0 nor 1");
            Network::None
        }
        _ => Network::None,
    }
}

fn add_mounts(
    mounts: &mut Vec<MountRequest>,
    name: &'static str,
    list: Option<CString>,
    read: impl Fn(&[u8]) -> Result<MountRequest, &'static str>,
    warnings: &mut Vec<Warning>,
) {
    let list = list.unwrap_or_default();
    let items = list.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    for item in items.filter(|item| !item.is_empty()) {
        match read(item) {
            Ok(mount) if mounts.contains(&mount) => {}
            Ok(mount) => mounts.push(mount),
            Err(why) => warn(warnings, name, item, why),
        }
    }
}

fn ca(env: &mut Environment, warnings: &mut Vec<Warning>) -> CaInstall {
    let mut word = |ours: &'static str, theirs: &'static str| {
        let found = env.remove(ours).map(|text| (ours, text));
        let found = found.or_else(|| env.get(theirs).map(|text| (theirs, text.into())));
        found.and_then(|(name, text)| path(Some(text), name, warnings))
    };
    let source = word(abi::ENV_CA_SOURCE, ENV_AGX_CA_SOURCE);
    let target = word(abi::ENV_CA_PATH, ENV_AGX_CA_PATH);
    let asked = source.is_some();
    let default = CaInstall::default();
    CaInstall { source: source.unwrap_or(default.source), asked, target: target.unwrap_or(default.target) }
}

/// An absolute path; an empty one is none.
fn path(text: Option<CString>, name: &'static str, warnings: &mut Vec<Warning>) -> Option<CString> {
    let text = text.filter(|text| !text.is_empty())?;
    if text.as_bytes().starts_with(b"/") {
        return Some(text);
    }
    warn(warnings, name, text.as_bytes(), "the path is not absolute");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn take(entries: &[&str]) -> (Options, Vec<Warning>, Vec<CString>) {
        let mut env = Environment::new();
        for entry in entries {
            env.set(CString::new(*entry).unwrap()).unwrap();
        }
        let (options, warnings) = Options::take(&mut env);
        (options, warnings, env.entries().to_vec())
    }

    fn variable(name: &'static str, item: &str, why: &'static str) -> Warning {
        Warning::Variable { name, item: item.as_bytes().to_vec(), why }
    }

    #[test]
    fn nothing_is_asked_for() {
        let (options, warnings, left) =
            take(&["A=1", "KRUN_DHCP=0", "AGX_NETSTACK_STATIC_IP=", "KRUN_CONFIG="]);
        assert_eq!((options.block_root, options.network, options.mounts), (None, Network::None, Vec::new()));
        assert_eq!(options.ca, CaInstall::default());
        assert_eq!(options.config, ConfigPath { path: DEFAULT_CONFIG.into(), asked: false });
        assert_eq!((warnings, left.len()), (Vec::new(), 4));
    }

    #[test]
    fn everything_is_asked_for() {
        let (options, warnings, left) = take(&[
            "KRUN_BLOCK_ROOT_DEVICE=/dev/vda",
            "KRUN_BLOCK_ROOT_FSTYPE=ext4",
            "KRUN_BLOCK_ROOT_OPTIONS=noatime,data=ordered",
            "KRUN_DHCP=1",
            "PURLIN_VIRTIOFS_MOUNTS=a:/a,b:/b:ro",
            "AGX_VIRTIOFS_MOUNTS=c:/c, a:/a,",
            "PURLIN_DISK_MOUNTS=/dev/vdb::/d:ro",
            "PURLIN_CA_SOURCE=/c/ca.pem",
            "AGX_MITM_CA_SOURCE=/no",
            "AGX_MITM_CA_PATH=/usr/share/x.crt",
            "KRUN_CONFIG=/c.json",
        ]);
        assert_eq!(warnings, []);
        let root = options.block_root.unwrap();
        assert_eq!((root.source, root.target), (c"/dev/vda".to_owned(), c"/newroot".to_owned()));
        assert_eq!((root.flags, root.data), (mounts::flags::NOATIME, Some(c"data=ordered".to_owned())));
        assert_eq!(root.kind, FsType::Named(c"ext4".to_owned()));
        assert_eq!(options.network, Network::Dhcp);
        let targets: Vec<_> =
            options.mounts.iter().map(|mount| (mount.target.clone(), mount.flags)).collect();
        let expected = [(c"/a", 0), (c"/b", 1), (c"/c", 0), (c"/d", 1)];
        assert_eq!(targets, expected.map(|(target, flags)| (target.to_owned(), flags)));
        assert_eq!((options.ca.source, options.ca.asked), (c"/c/ca.pem".to_owned(), true));
        assert_eq!(options.ca.target, c"/usr/share/x.crt".to_owned());
        assert_eq!(options.config, ConfigPath { path: c"/c.json".to_owned(), asked: true });
        assert!(left.iter().all(|entry| !entry.as_bytes().starts_with(b"PURLIN_")), "{left:?}");
        assert_eq!(left.len(), 8);
    }

    #[test]
    fn a_static_address_comes_before_a_server_and_ours_before_theirs() {
        let address = |entries: &[&str]| match take(entries).0.network {
            Network::Static(settings) => Some(settings.address),
            _ => None,
        };
        let (ours, theirs) =
            ("PURLIN_STATIC_IP=1.2.3.4/24:1.2.3.1", "AGX_NETSTACK_STATIC_IP=5.6.7.8/24:5.6.7.1");
        assert_eq!(address(&[theirs, ours, "KRUN_DHCP=1"]), Some([1, 2, 3, 4]));
        assert_eq!(address(&[theirs]), Some([5, 6, 7, 8]));
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_is_used() {
        let (options, warnings, _) = take(&[
            "KRUN_DHCP=yes",
            "PURLIN_STATIC_IP=1.2.3.4",
            "AGX_VIRTIOFS_MOUNTS=bad,c:/c,d:relative",
            "PURLIN_DISK_MOUNTS=/dev/vdb:/data",
            "AGX_MITM_CA_PATH=relative",
            "KRUN_CONFIG=here.json",
        ]);
        let expected = [
            variable("PURLIN_STATIC_IP", "1.2.3.4", "not address/prefix:router[:dns]"),
            variable("KRUN_DHCP", "yes", "neither 0 nor 1"),
            variable("AGX_VIRTIOFS_MOUNTS", "bad", "not tag:path[:ro]"),
            variable("AGX_VIRTIOFS_MOUNTS", "d:relative", "the path is not absolute"),
            variable("PURLIN_DISK_MOUNTS", "/dev/vdb:/data", "not device:type:path[:ro]"),
            variable("AGX_MITM_CA_PATH", "relative", "the path is not absolute"),
        ];
        assert_eq!(warnings, expected);
        assert_eq!(options.mounts.len(), 1);
        assert_eq!(options.ca, CaInstall::default());
        assert_eq!(
            options.config,
            ConfigPath { path: c"here.json".to_owned(), asked: true },
            "beside the root"
        );
        let (options, _, _) = take(&["PURLIN_STATIC_IP=x", "KRUN_DHCP=1"]);
        assert_eq!(options.network, Network::Dhcp, "a server is asked if the words make no sense");
    }
}
