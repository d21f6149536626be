//! The header of every packet (virtio 1.2 §5.10.6).

/// Bytes of a header.
pub const HEADER_LEN: usize = 44;
/// Largest payload of one packet in bytes (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE` in Linux).
pub const MAX_PAYLOAD: u32 = 65536;
/// The host's context id (virtio 1.2 §5.10.4).
pub const HOST_CID: u64 = 2;

/// Values of [`Header::kind`].
pub mod kind {
    /// A byte stream.
    pub const STREAM: u16 = 1;
    /// Messages with boundaries. Not offered by this device.
    pub const SEQPACKET: u16 = 2;
    /// Datagrams: libkrunfw's extension of the protocol, which TSI is built on.
    pub const DGRAM: u16 = 3;
}

/// Values of [`Header::op`].
pub mod op {
    /// Opens a connection.
    pub const REQUEST: u16 = 1;
    /// Accepts it.
    pub const RESPONSE: u16 = 2;
    /// Refuses or ends it.
    pub const RST: u16 = 3;
    /// The sender will not receive or send any more; see [`super::shut`].
    pub const SHUTDOWN: u16 = 4;
    /// Payload.
    pub const RW: u16 = 5;
    /// Tells the receive window.
    pub const CREDIT_UPDATE: u16 = 6;
    /// Asks for a CREDIT_UPDATE.
    pub const CREDIT_REQUEST: u16 = 7;
}

/// Flags of a SHUTDOWN.
pub mod shut {
    /// The sender receives no more.
    pub const RECEIVE: u32 = 1;
    /// The sender sends no more.
    pub const SEND: u32 = 2;
    /// Both.
    pub const BOTH: u32 = 3;
}

/// A packet header; plain and, when it came from a guest, untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Sender's context id.
    pub src_cid: u64,
    /// Receiver's context id.
    pub dst_cid: u64,
    /// Sender's port.
    pub src_port: u32,
    /// Receiver's port.
    pub dst_port: u32,
    /// Bytes of payload.
    pub len: u32,
    /// See [`kind`].
    pub kind: u16,
    /// See [`op`].
    pub op: u16,
    /// See [`shut`].
    pub flags: u32,
    /// Size of the sender's receive buffer in bytes; 0 for datagrams.
    pub buf_alloc: u32,
    /// Payload bytes the sender has consumed, modulo 2^32; 0 for datagrams.
    pub fwd_cnt: u32,
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((head, tail)) = rest.split_first_chunk() else { return [0; N] };
    *rest = tail;
    *head
}

impl Header {
    /// Reads a header. Every byte pattern is one.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let rest = &mut &bytes[..];
        Header {
            src_cid: u64::from_le_bytes(take(rest)),
            dst_cid: u64::from_le_bytes(take(rest)),
            src_port: u32::from_le_bytes(take(rest)),
            dst_port: u32::from_le_bytes(take(rest)),
            len: u32::from_le_bytes(take(rest)),
            kind: u16::from_le_bytes(take(rest)),
            op: u16::from_le_bytes(take(rest)),
            flags: u32::from_le_bytes(take(rest)),
            buf_alloc: u32::from_le_bytes(take(rest)),
            fwd_cnt: u32::from_le_bytes(take(rest)),
        }
    }

    /// Writes all 44 bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut rest = &mut out[..];
        let mut put = |bytes: &[u8]| {
            if let Some((head, tail)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
                head.copy_from_slice(bytes);
                rest = tail;
            }
        };
        put(&self.src_cid.to_le_bytes());
        put(&self.dst_cid.to_le_bytes());
        put(&self.src_port.to_le_bytes());
        put(&self.dst_port.to_le_bytes());
        put(&self.len.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.op.to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&self.buf_alloc.to_le_bytes());
        put(&self.fwd_cnt.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let header = Header {
            src_cid: 2,
            dst_cid: 3,
            src_port: 620,
            dst_port: 0x1234_5678,
            len: 78,
            kind: kind::STREAM,
            op: op::RW,
            flags: 0,
            buf_alloc: 262_144,
            fwd_cnt: 0x0a0b_0c0d,
        };
        let hex: String = header.emit().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "02000000000000000300000000000000\
             6c02000078563412\
             4e000000\
             01000500\
             00000000\
             00000400\
             0d0c0b0a"
        );
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_emitted(bytes: [u8; 32], tail: [u8; 12]) {
            let mut all = [0; HEADER_LEN];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&tail);
            prop_assert_eq!(Header::parse(&all).emit(), all);
        }
    }
}
