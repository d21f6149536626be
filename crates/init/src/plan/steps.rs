//! Which steps a guest needs.

use alloc::vec::Vec;

use super::{Action, Mount, OnError, Step};
use crate::config::Config;
use crate::control::Stage;
use crate::errno::Errno;
use crate::mounts::flags::{NODEV, NOEXEC, NOSUID, RELATIME};
use crate::net::{self, INTERFACE, Settings};
use crate::options::{NEW_ROOT, Network, Options};

/// Name of the interface for [`Action::HijackInterface`].
pub const HIJACK_INTERFACE: &str = "dummy0";
/// Its address.
pub const HIJACK_ADDRESS: [u8; 4] = [203, 0, 113, 1];
/// Its network prefix, bits.
pub const HIJACK_PREFIX: u8 = 24;
/// The word of the kernel command line that asks for it.
pub const HIJACK_WORD: &str = "tsi_hijack";

/// The steps that come before anything is known of the workload, first to last. After them `/dev`, `/proc` and `/sys` are
/// there, on the root that stays.
pub fn base(options: &Options) -> Vec<Step> {
    let mut steps = virtual_file_systems();
    if let Some(root) = &options.block_root {
        steps.push(fatal_mount(Action::MountRequest(root.clone())));
        steps.push(fatal_mount(Action::SwitchRoot(NEW_ROOT)));
        steps.extend(virtual_file_systems());
    }
    steps.extend([
        fatal_mount(Action::ShareMounts),
        step(Stage::System, OnError::Ignore, Action::NewSession),
        step(Stage::Network, OnError::Warn, Action::LinkUp("lo")),
        step(Stage::Network, OnError::WarnExcept(Errno::NODEV), Action::HijackInterface),
    ]);
    match &options.network {
        Network::None => {}
        Network::Dhcp => steps.push(step(Stage::Network, OnError::Warn, Action::LinkUp(INTERFACE))),
        Network::Static(settings) => {
            steps.push(step(Stage::Network, OnError::Warn, Action::LinkUp(INTERFACE)));
            steps.extend(network(settings));
        }
    }
    steps
}

fn virtual_file_systems() -> Vec<Step> {
    let mount = |kind, target, flags, fresh| fatal_mount(Action::Mount(Mount { kind, target, flags, fresh }));
    let virtual_fs = NODEV | NOEXEC | NOSUID | RELATIME;
    let device_fs = NOEXEC | NOSUID | RELATIME;
    Vec::from([
        mount(c"devtmpfs", c"/dev", RELATIME, false),
        step(Stage::Mount, OnError::WarnExcept(Errno::NOENT), Action::ChangeMode(c"/dev/kvm", 0o666)),
        mount(c"proc", c"/proc", virtual_fs, false),
        mount(c"sysfs", c"/sys", virtual_fs, false),
        mount(c"cgroup2", c"/sys/fs/cgroup", virtual_fs, false),
        mount(c"devpts", c"/dev/pts", device_fs, true),
        mount(c"tmpfs", c"/dev/shm", device_fs, true),
        step(Stage::Mount, OnError::Ignore, Action::Symlink { target: c"/proc/self/fd", link: c"/dev/fd" }),
    ])
}

/// The steps that give the network card's interface, which is up, its settings. None of them stops a boot.
pub fn network(settings: &Settings) -> Vec<Step> {
    let Settings { address, prefix, router, mtu, dns } = settings;
    let (address, prefix) = (*address, *prefix);
    let mut steps = Vec::new();
    let mut add = |action| steps.push(step(Stage::Network, OnError::Warn, action));
    if let Some(mtu) = mtu {
        add(Action::SetMtu(INTERFACE, *mtu));
    }
    add(Action::AddAddress { interface: INTERFACE, address, prefix });
    if let Some(router) = *router {
        let onlink = !net::same_network(address, router, prefix);
        add(Action::AddRouter { interface: INTERFACE, router, onlink });
    }
    if let Some(file) = net::resolver_file(dns) {
        add(Action::WriteResolver(file));
    }
    steps
}

/// The steps that depend on what was asked for, first to last. The workload starts after them. The certificate may lie on
/// a share.
pub fn workload(config: &Config, options: &Options) -> Vec<Step> {
    let mut steps = Vec::new();
    if !config.tmpfs.is_empty() {
        steps.push(fatal_mount(Action::MountTmpfs(config.tmpfs.clone())));
    }
    let mounts = options.mounts.iter().cloned().map(Action::MountRequest);
    steps.extend(mounts.map(|mount| step(Stage::Mount, OnError::Warn, mount)));
    let ca_missing = if options.ca.asked { OnError::Warn } else { OnError::WarnExcept(Errno::NOENT) };
    steps.push(step(Stage::System, ca_missing, Action::InstallCa(options.ca.clone())));
    steps.push(step(Stage::System, OnError::Ignore, Action::SetHostname(config.hostname.clone())));
    if !config.pid1 {
        steps.push(step(Stage::System, OnError::Ignore, Action::DisableCtrlAltDel));
    }
    if let Some(path) = &config.workdir {
        steps.push(step(Stage::WorkingDirectory, OnError::Fatal, Action::ChangeDirectory(path.clone())));
    }
    steps
}

fn step(stage: Stage, on_error: OnError, action: Action) -> Step {
    Step { action, stage, on_error }
}

fn fatal_mount(action: Action) -> Step {
    step(Stage::Mount, OnError::Fatal, action)
}
