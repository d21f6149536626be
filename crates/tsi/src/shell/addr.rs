//! Socket addresses between the core and the operating system.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

use crate::wire::{Family, SockAddr, UnixAddr};

/// As system calls take it.
pub(super) fn to_os(addr: &SockAddr) -> io::Result<SocketAddrAny> {
    match addr {
        SockAddr::Inet(addr) => Ok((*addr).into()),
        SockAddr::Unix(name) => Ok(unix_to_os(name)?.into()),
    }
}

fn unix_to_os(name: &UnixAddr) -> io::Result<SocketAddrUnix> {
    match (name.path(), name.abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path),
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name),
        (None, None) => Ok(SocketAddrUnix::new_unnamed()),
    }
}

/// As the core knows it; `None` for other families.
pub(super) fn from_os(addr: SocketAddrAny) -> Option<SockAddr> {
    if addr.address_family() == AddressFamily::UNIX {
        let unix = SocketAddrUnix::try_from(addr).ok()?;
        let name = match (unix.path_bytes(), unix.abstract_name()) {
            (Some(path), _) => path.to_vec(),
            (None, Some(name)) => [&[0], name].concat(),
            (None, None) => Vec::new(),
        };
        return UnixAddr::new(&name).map(SockAddr::Unix);
    }
    SocketAddr::try_from(addr).ok().map(SockAddr::Inet)
}

/// The file of a unix address with a path.
pub(super) fn file_of(addr: &SockAddr) -> Option<PathBuf> {
    match addr {
        SockAddr::Unix(name) => name.path().map(|path| OsStr::from_bytes(path).into()),
        SockAddr::Inet(_) => None,
    }
}

pub(super) fn family(family: Family) -> AddressFamily {
    match family {
        Family::Unix => AddressFamily::UNIX,
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    }
}
