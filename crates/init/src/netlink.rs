//! The two rtnetlink messages that PID 1 needs (Linux `netlink(7)`, `rtnetlink(7)`).
//!
//! Netlink, and not an `AF_INET` socket's ioctls, because a kernel with `tsi_hijack` turns every inet socket into a TSI
//! socket, whose creation is a conversation with the host.

use alloc::vec::Vec;

use crate::errno::Errno;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_CREATE: u16 = 0x400;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;

/// A request that gives an interface an IPv4 address; the kernel answers it with a message for [`result`].
pub fn new_address(interface: u32, address: [u8; 4], prefix: u8) -> Vec<u8> {
    const LENGTH: u32 = 16 + 8 + 8 + 8;
    let mut message = Vec::with_capacity(40);
    message.extend_from_slice(&LENGTH.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWADDR.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE).to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence and port: one request at a time needs neither
    message.extend_from_slice(&[AF_INET, prefix, 0, 0]); // flags 0, scope universe
    message.extend_from_slice(&interface.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        message.extend_from_slice(&8_u16.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&address);
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
    fn address_request() {
        let expected = [
            40, 0, 0, 0, 20, 0, 0x05, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, // header
            2, 24, 0, 0, 3, 0, 0, 0, // ifaddrmsg
            8, 0, 2, 0, 203, 0, 113, 1, // IFA_LOCAL
            8, 0, 1, 0, 203, 0, 113, 1, // IFA_ADDRESS
        ];
        assert_eq!(new_address(3, [203, 0, 113, 1], 24), expected);
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
