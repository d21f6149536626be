//! What setting up the guest consists of, as a list of steps.
//!
//! A step is data: what to do, which part of the setup it belongs to, and what an error means. A new feature adds
//! steps here and, if nothing fits, one [`Action`] and the few lines in the executor that perform it.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::config::Config;
use crate::control::Stage;
use crate::errno::Errno;

/// Mount flags (`mount(2)`).
mod flags {
    pub(super) const NOSUID: usize = 2;
    pub(super) const NODEV: usize = 4;
    pub(super) const NOEXEC: usize = 8;
    pub(super) const RELATIME: usize = 1 << 21;
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Mount a file system that has no device. Already being mounted there is success.
    Mount(Mount),
    /// Change a file's permission bits.
    ChangeMode(&'static CStr, u32),
    /// Make a symbolic link. Already being there is success.
    Symlink {
        /// What the link holds.
        target: &'static CStr,
        /// Where it is.
        link: &'static CStr,
    },
    /// Share mounts from `/` downwards with later mount namespaces.
    ShareMounts,
    /// Start a session, with descriptor 0 as its controlling terminal.
    NewSession,
    /// Bring an interface up.
    LinkUp(&'static str),
    /// If the kernel was told to hijack sockets, give `dummy0` an address, so that programs see a network.
    HijackInterface,
    /// Set the machine's name.
    SetHostname(CString),
    /// Change the working directory.
    ChangeDirectory(CString),
}

/// The arguments of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file system's type, also given as the source.
    pub kind: &'static CStr,
    /// Where. Made (mode 0755) if it is missing.
    pub target: &'static CStr,
    /// Flags of `mount(2)`.
    pub flags: usize,
    /// Whether the target is known to be missing, so that making it comes first.
    pub fresh: bool,
}

/// What an error of a step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The guest cannot run the workload.
    Fatal,
    /// Worth a line, except this one error.
    WarnExcept(Errno),
    /// Worth a line.
    Warn,
    /// Expected.
    Ignore,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// The part of the setup it belongs to.
    pub stage: Stage,
    /// What an error means.
    pub on_error: OnError,
}

/// Name of the interface for [`Action::HijackInterface`].
pub const HIJACK_INTERFACE: &str = "dummy0";
/// Its address.
pub const HIJACK_ADDRESS: [u8; 4] = [203, 0, 113, 1];
/// Its network prefix, bits.
pub const HIJACK_PREFIX: u8 = 24;
/// The word of the kernel command line that asks for it.
pub const HIJACK_WORD: &str = "tsi_hijack";

/// The steps that every guest needs, first to last. After them `/dev`, `/proc` and `/sys` are there.
pub fn base() -> Vec<Step> {
    use flags::{NODEV, NOEXEC, NOSUID, RELATIME};
    let mount = |kind, target, flags, fresh| {
        step(Stage::Mount, OnError::Fatal, Action::Mount(Mount { kind, target, flags, fresh }))
    };
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
        step(Stage::Mount, OnError::Fatal, Action::ShareMounts),
        step(Stage::System, OnError::Ignore, Action::NewSession),
        step(Stage::Network, OnError::Warn, Action::LinkUp("lo")),
        step(Stage::Network, OnError::WarnExcept(Errno::NODEV), Action::HijackInterface),
    ])
}

/// The steps that depend on what was asked for, first to last. The workload starts after them.
pub fn workload(config: &Config) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.push(step(Stage::System, OnError::Ignore, Action::SetHostname(config.hostname.clone())));
    if let Some(path) = &config.workdir {
        steps.push(step(Stage::WorkingDirectory, OnError::Fatal, Action::ChangeDirectory(path.clone())));
    }
    steps
}

fn step(stage: Stage, on_error: OnError, action: Action) -> Step {
    Step { action, stage, on_error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Environment;
    use alloc::borrow::ToOwned;

    fn mounts() -> Vec<Mount> {
        base()
            .into_iter()
            .filter_map(|step| match step.action {
                Action::Mount(mount) => Some(mount),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn mounts_have_the_flags_of_the_contract() {
        let found: Vec<_> = mounts().iter().map(|mount| (mount.kind, mount.target, mount.flags)).collect();
        let expected = [
            (c"devtmpfs", c"/dev", 0x20_0000),
            (c"proc", c"/proc", 0x20_000e),
            (c"sysfs", c"/sys", 0x20_000e),
            (c"cgroup2", c"/sys/fs/cgroup", 0x20_000e),
            (c"devpts", c"/dev/pts", 0x20_000a),
            (c"tmpfs", c"/dev/shm", 0x20_000a),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_mount_comes_after_the_one_it_lies_in() {
        let mounts = mounts();
        for (index, inner) in mounts.iter().enumerate() {
            for outer in &mounts[index + 1..] {
                assert!(
                    !inner.target.to_bytes().starts_with(outer.target.to_bytes()),
                    "{outer:?} hides {inner:?}"
                );
            }
        }
    }

    #[test]
    fn only_what_the_workload_needs_is_fatal() {
        for step in base() {
            let fatal = matches!(step.action, Action::Mount(_) | Action::ShareMounts);
            assert_eq!(step.on_error == OnError::Fatal, fatal, "{step:?}");
        }
    }

    #[test]
    fn workload_steps() {
        let mut env = Environment::new();
        env.set(c"HOSTNAME=vm".to_owned()).unwrap();
        let (plain, _) = Config::new(Vec::new(), env.clone(), None);
        let hostname = Step {
            action: Action::SetHostname(c"vm".to_owned()),
            stage: Stage::System,
            on_error: OnError::Ignore,
        };
        assert_eq!(workload(&plain), core::slice::from_ref(&hostname));

        env.set(c"KRUN_WORKDIR=/w".to_owned()).unwrap();
        let (config, _) = Config::new(Vec::new(), env, None);
        let directory = Step {
            action: Action::ChangeDirectory(c"/w".to_owned()),
            stage: Stage::WorkingDirectory,
            on_error: OnError::Fatal,
        };
        assert_eq!(workload(&config), [hostname, directory]);
    }
}
