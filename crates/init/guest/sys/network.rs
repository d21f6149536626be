//! Interfaces, and sockets on them.

use super::{Fd, O_CLOEXEC, Result, call, flag, new_fd};
use crate::arch::number as nr;

/// A netlink socket for routing; network device ioctls work on it as on any socket.
pub fn route_socket() -> Result<Fd> {
    const AF_NETLINK: usize = 16;
    const SOCK_RAW: usize = 3;
    // SAFETY: no pointers.
    unsafe { call(nr::SOCKET, [AF_NETLINK, SOCK_RAW | O_CLOEXEC, 0, 0, 0, 0]) }.map(new_fd)
}

/// `struct ifreq`: a name of at most 15 bytes, then a union.
type InterfaceRequest = [u8; 40];

fn interface_request(socket: &Fd, request: usize, argument: &mut InterfaceRequest) -> Result<()> {
    // SAFETY: the requests used here read and write one `struct ifreq`.
    unsafe { call(nr::IOCTL, [socket.argument(), request, argument.as_mut_ptr() as usize, 0, 0, 0]) }
        .map(drop)
}

fn named(interface: &str) -> InterfaceRequest {
    let mut argument = [0; 40];
    for (to, from) in argument.iter_mut().zip(interface.bytes().take(15)) {
        *to = from;
    }
    argument
}

pub fn link_up(socket: &Fd, interface: &str) -> Result<()> {
    const SIOCGIFFLAGS: usize = 0x8913;
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP: u8 = 1;
    let mut argument = named(interface);
    interface_request(socket, SIOCGIFFLAGS, &mut argument)?;
    argument[16] |= IFF_UP; // the flags are the union's first two bytes, little endian
    interface_request(socket, SIOCSIFFLAGS, &mut argument)
}

pub fn interface_index(socket: &Fd, interface: &str) -> Result<u32> {
    const SIOCGIFINDEX: usize = 0x8933;
    let mut argument = named(interface);
    interface_request(socket, SIOCGIFINDEX, &mut argument)?;
    Ok(u32::from_ne_bytes([argument[16], argument[17], argument[18], argument[19]]))
}

/// Sets an interface's largest packet.
pub fn set_mtu(socket: &Fd, interface: &str, mtu: u32) -> Result<()> {
    const SIOCSIFMTU: usize = 0x8922;
    let mut argument = named(interface);
    for (to, from) in argument.iter_mut().skip(16).zip(mtu.to_ne_bytes()) {
        *to = from;
    }
    interface_request(socket, SIOCSIFMTU, &mut argument)
}

/// An interface's hardware address.
pub fn hardware_address(socket: &Fd, interface: &str) -> Result<[u8; 6]> {
    const SIOCGIFHWADDR: usize = 0x8927;
    let mut argument = named(interface);
    interface_request(socket, SIOCGIFHWADDR, &mut argument)?;
    // `struct sockaddr`: two bytes of family, then the address.
    let at = |index: usize| argument.get(18 + index).copied().unwrap_or(0);
    Ok([at(0), at(1), at(2), at(3), at(4), at(5)])
}

/// A datagram socket that sends and receives on one interface only, from `port`.
pub fn datagram_socket(interface: &str, port: u16) -> Result<Fd> {
    const AF_INET: usize = 2;
    const SOCK_DGRAM: usize = 2;
    const SO_REUSEADDR: usize = 2;
    const SO_BROADCAST: usize = 6;
    const SO_BINDTODEVICE: usize = 25;
    // SAFETY: no pointers.
    let socket = unsafe { call(nr::SOCKET, [AF_INET, SOCK_DGRAM | flag::NONBLOCK | O_CLOEXEC, 0, 0, 0, 0]) };
    let socket = socket.map(new_fd)?;
    set_option(&socket, SO_REUSEADDR, &1_i32.to_ne_bytes())?;
    set_option(&socket, SO_BROADCAST, &1_i32.to_ne_bytes())?;
    set_option(&socket, SO_BINDTODEVICE, interface.as_bytes())?;
    let address = socket_address([0; 4], port);
    // SAFETY: the kernel reads one `struct sockaddr_in`.
    unsafe { call(nr::BIND, [socket.argument(), address.as_ptr() as usize, address.len(), 0, 0, 0]) }?;
    Ok(socket)
}

fn set_option(socket: &Fd, option: usize, value: &[u8]) -> Result<()> {
    const SOL_SOCKET: usize = 1;
    let arguments = [socket.argument(), SOL_SOCKET, option, value.as_ptr() as usize, value.len(), 0];
    // SAFETY: the kernel reads the slice.
    unsafe { call(nr::SETSOCKOPT, arguments) }.map(drop)
}

/// `struct sockaddr_in`.
fn socket_address([a, b, c, d]: [u8; 4], port: u16) -> [u8; 16] {
    let [low, high] = port.to_be_bytes();
    [2, 0, low, high, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Sends a datagram.
pub fn send_to(socket: &Fd, bytes: &[u8], to: [u8; 4], port: u16) -> Result<()> {
    let address = socket_address(to, port);
    let (place, length) = (address.as_ptr() as usize, address.len());
    let arguments = [socket.argument(), bytes.as_ptr() as usize, bytes.len(), 0, place, length];
    // SAFETY: the kernel reads the slice and one `struct sockaddr_in`.
    unsafe { call(nr::SENDTO, arguments) }.map(drop)
}

/// Receives a datagram, and whose it is.
pub fn receive_from<'a>(socket: &Fd, buffer: &'a mut [u8]) -> Result<(&'a [u8], [u8; 4])> {
    let (mut address, mut length) = ([0_u8; 16], 16_u32);
    let (place, room) = (address.as_mut_ptr() as usize, core::ptr::from_mut(&mut length) as usize);
    let arguments = [socket.argument(), buffer.as_mut_ptr() as usize, buffer.len(), 0, place, room];
    // SAFETY: the kernel writes at most the buffer's length, at most 16 bytes of address, and their number.
    let count = unsafe { call(nr::RECVFROM, arguments) }?;
    let [_, _, _, _, a, b, c, d, ..] = address;
    Ok((buffer.get(..count).unwrap_or_default(), [a, b, c, d]))
}

/// Sends a message to the kernel and waits for its answer, which comes at once.
pub fn netlink_exchange<'a>(socket: &Fd, message: &[u8], answer: &'a mut [u8]) -> Result<&'a [u8]> {
    // SAFETY: the kernel reads the slice; no address.
    unsafe { call(nr::SENDTO, [socket.argument(), message.as_ptr() as usize, message.len(), 0, 0, 0]) }?;
    // SAFETY: the kernel writes at most the buffer's length; no address.
    let length = unsafe {
        call(nr::RECVFROM, [socket.argument(), answer.as_mut_ptr() as usize, answer.len(), 0, 0, 0])
    }?;
    Ok(answer.get(..length).unwrap_or_default())
}
