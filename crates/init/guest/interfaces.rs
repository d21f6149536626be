//! Steps on network interfaces.

use core::ffi::CStr;

use crate::cmdline;
use crate::errno::Errno;
use crate::files::tolerate;
use crate::net::Address;
use crate::netlink;
use crate::plan::{HIJACK_ADDRESS, HIJACK_INTERFACE, HIJACK_PREFIX, HIJACK_WORD};
use crate::sys::{self, Result};

/// The resolver's file.
pub const RESOLVER: &CStr = c"/etc/resolv.conf";

/// Longest kernel command line, bytes.
const MAX_CMDLINE: usize = 64 << 10;

pub fn link_up(interface: &str) -> Result<()> {
    sys::link_up(&sys::route_socket()?, interface)
}

pub fn set_mtu(interface: &str, mtu: u32) -> Result<()> {
    sys::set_mtu(&sys::route_socket()?, interface, mtu)
}

pub fn add_address(interface: &str, address: Address, prefix: u8) -> Result<()> {
    tolerate(Errno::EXIST, route(interface, |index| netlink::new_address(index, address, prefix)))
}

pub fn delete_address(interface: &str, address: Address, prefix: u8) -> Result<()> {
    route(interface, |index| netlink::delete_address(index, address, prefix))
}

pub fn add_router(interface: &str, router: Address, onlink: bool) -> Result<()> {
    route(interface, |index| netlink::default_route(index, router, onlink))
}

/// If the kernel was told to hijack sockets, gives a dummy interface an address.
pub fn hijack() -> Result<()> {
    let line = sys::read_file(c"/proc/cmdline", MAX_CMDLINE)?;
    if !cmdline::has_word(&line, HIJACK_WORD.as_bytes()) {
        return Ok(());
    }
    link_up(HIJACK_INTERFACE)?;
    add_address(HIJACK_INTERFACE, HIJACK_ADDRESS, HIJACK_PREFIX)
}

/// One request about an interface, and its answer.
fn route(interface: &str, request: impl FnOnce(u32) -> alloc::vec::Vec<u8>) -> Result<()> {
    let socket = sys::route_socket()?;
    let index = sys::interface_index(&socket, interface)?;
    let mut answer = [0; 256];
    netlink::result(sys::netlink_exchange(&socket, &request(index), &mut answer)?)
}
