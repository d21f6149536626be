//! The few rtnetlink messages that PID 1 needs (Linux `netlink(7)`, `rtnetlink(7)`).
//!
//! Netlink, and not an `AF_INET` socket's ioctls, because a kernel with `tsi_hijack` turns every inet socket into a TSI
//! socket, whose creation is a conversation with the host.

use alloc::vec::Vec;

use crate::errno::Errno;
use crate::net::{self, Address};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;

/// A request that gives an interface an IPv4 address; the kernel answers it with a message for [`result`].
pub fn new_address(interface: u32, address: Address, prefix: u8) -> Vec<u8> {
    let body = address_body(interface, prefix);
    let own = [(IFA_LOCAL, address), (IFA_ADDRESS, address)];
    match net::broadcast(address, prefix) {
        None => request(RTM_NEWADDR, NLM_F_CREATE, &body, &own),
        Some(all) => request(RTM_NEWADDR, NLM_F_CREATE, &body, &[own[0], own[1], (IFA_BROADCAST, all)]),
    }
}

/// A request that takes an IPv4 address from an interface.
pub fn delete_address(interface: u32, address: Address, prefix: u8) -> Vec<u8> {
    request(RTM_DELADDR, 0, &address_body(interface, prefix), &[(IFA_LOCAL, address)])
}

/// A request that sends packets for all other networks to a router; `onlink` if the interface's network does not hold its
/// address. It replaces an earlier one.
pub fn default_route(interface: u32, router: Address, onlink: bool) -> Vec<u8> {
    const RT_TABLE_MAIN: u8 = 254;
    const RTPROT_BOOT: u8 = 3;
    const RTN_UNICAST: u8 = 1;
    const RTNH_F_ONLINK: u32 = 4;
    let mut body = Vec::from([AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST]);
    body.extend_from_slice(&if onlink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
    let attributes = [(RTA_OIF, interface.to_ne_bytes()), (RTA_GATEWAY, router)];
    request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body, &attributes)
}

fn address_body(interface: u32, prefix: u8) -> [u8; 8] {
    let [a, b, c, d] = interface.to_ne_bytes();
    [AF_INET, prefix, 0, 0, a, b, c, d] // flags 0, scope universe
}

fn request(kind: u16, flags: u16, body: &[u8], attributes: &[(u16, [u8; 4])]) -> Vec<u8> {
    const HEADER: usize = 16;
    const ATTRIBUTE: u16 = 8;
    let length = HEADER + body.len() + attributes.len() * usize::from(ATTRIBUTE);
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence and port: one request at a time needs neither
    message.extend_from_slice(body);
    for (kind, value) in attributes {
        message.extend_from_slice(&ATTRIBUTE.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(value);
    }
    message
}

/// What the kernel's answer to a request says.
///
/// # Errors
///
/// The error number in the answer, or `EIO` if it is not an acknowledgement.
pub fn result(answer: &[u8]) -> Result<(), Errno> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(code.checked_neg().map_or(Errno::IO, Errno)),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn address_requests() {
        let expected = [
            48, 0, 0, 0, 20, 0, 0x05, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, // header
            2, 24, 0, 0, 3, 0, 0, 0, // ifaddrmsg
            8, 0, 2, 0, 203, 0, 113, 1, // IFA_LOCAL
            8, 0, 1, 0, 203, 0, 113, 1, // IFA_ADDRESS
            8, 0, 4, 0, 203, 0, 113, 255, // IFA_BROADCAST
        ];
        assert_eq!(new_address(3, [203, 0, 113, 1], 24), expected);
        assert_eq!(new_address(3, [203, 0, 113, 1], 32).len(), 40, "no broadcast address");
        let expected = [
            32, 0, 0, 0, 21, 0, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, // header
            2, 24, 0, 0, 3, 0, 0, 0, // ifaddrmsg
            8, 0, 2, 0, 203, 0, 113, 1, // IFA_LOCAL
        ];
        assert_eq!(delete_address(3, [203, 0, 113, 1], 24), expected);
    }

    #[test]
    fn route_request() {
        let expected = |flags| {
            [
                44, 0, 0, 0, 24, 0, 0x05, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, // header
                2, 0, 0, 0, 254, 3, 0, 1, flags, 0, 0, 0, // rtmsg
                8, 0, 4, 0, 3, 0, 0, 0, // RTA_OIF
                8, 0, 5, 0, 10, 0, 2, 2, // RTA_GATEWAY
            ]
        };
        assert_eq!(default_route(3, [10, 0, 2, 2], false), expected(0));
        assert_eq!(default_route(3, [10, 0, 2, 2], true), expected(4));
    }

    #[test]
    fn answers() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = [0; 36];
            bytes[4..6].copy_from_slice(&kind.to_le_bytes());
            bytes[16..20].copy_from_slice(&code.to_le_bytes());
            bytes
        };
        assert_eq!(result(&answer(2, 0)), Ok(()));
        assert_eq!(result(&answer(2, -17)), Err(Errno::EXIST));
        assert_eq!(result(&answer(2, i32::MIN)), Err(Errno::IO));
        assert_eq!(result(&answer(3, 0)), Err(Errno::IO));
        assert_eq!(result(&[2; 7]), Err(Errno::IO));
        assert_eq!(result(&[]), Err(Errno::IO));
    }
}
