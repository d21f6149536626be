//! What setting up the guest consists of, as a list of steps.
//!
//! A step is data: what to do, which part of the setup it belongs to, and what an error means. A new feature adds
//! steps here and, if nothing fits, one [`Action`] and the few lines in the executor that perform it.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::ca::CaInstall;
use crate::control::Stage;
use crate::errno::Errno;
use crate::mounts::MountRequest;
use crate::net::Address;

mod steps;
#[cfg(test)]
mod tests;

pub use steps::{HIJACK_ADDRESS, HIJACK_INTERFACE, HIJACK_PREFIX, HIJACK_WORD, base, network, workload};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Mount a file system that has no device. Already being mounted there is success.
    Mount(Mount),
    /// Mount what the host asks for.
    MountRequest(MountRequest),
    /// Mount a tmpfs on the first of these that nothing is mounted on.
    MountTmpfs(Vec<CString>),
    /// Make the mount at this place the root.
    SwitchRoot(&'static CStr),
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
    /// Let Ctrl-Alt-Del be a signal for PID 1, which ignores it, instead of a restart without warning.
    DisableCtrlAltDel,
    /// Bring an interface up.
    LinkUp(&'static str),
    /// If the kernel was told to hijack sockets, give `dummy0` an address, so that programs see a network.
    HijackInterface,
    /// Set an interface's largest packet, bytes.
    SetMtu(&'static str, u32),
    /// Give an interface an address.
    AddAddress {
        /// The interface.
        interface: &'static str,
        /// The address.
        address: Address,
        /// Bits of the network's part.
        prefix: u8,
    },
    /// Send packets for other networks to a router.
    AddRouter {
        /// The interface it is at.
        interface: &'static str,
        /// Its address.
        router: Address,
        /// It is there although the interface's network does not hold its address.
        onlink: bool,
    },
    /// Replace the resolver's file.
    WriteResolver(Vec<u8>),
    /// Make programs trust a certificate authority.
    InstallCa(CaInstall),
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
