//! Bytes on the wire: the vsock packet header, the messages of the TSI control plane, and socket addresses.
//!
//! Pure codecs. Everything read here was written by a guest.

mod addr;
pub mod errno;
mod header;
mod port;
mod request;

pub use addr::{AddrError, Family, SockAddr, UnixAddr};
pub use header::{HEADER_LEN, HOST_CID, Header, MAX_PAYLOAD, kind, op, shut};
pub use port::{CONTROL_PORTS, TSI_PORT, control};
pub use request::{MAX_REQUEST, REPLY_LEN, Reply, Request, Short, SocketType};

/// Little-endian u32 at `at`, if it is there.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let raw = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*raw))
}

/// Little-endian u16 at `at`, if it is there.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let raw = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*raw))
}
