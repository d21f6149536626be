//! Packets of one read: what their headers have in common is looked up once.

use crate::credit::Credit;
use crate::wire::{HEADER_LEN, Header};

/// Headers of packets of one stream, one after another; see [`Muxer::stream_burst`](super::Muxer::stream_burst).
pub struct Burst<'m> {
    credit: &'m mut Credit,
    header: Header,
    /// The header, as it is sent.
    bytes: [u8; HEADER_LEN],
}

impl<'m> Burst<'m> {
    /// For packets with this header, but for their lengths.
    pub(super) fn new(credit: &'m mut Credit, header: Header) -> Self {
        Burst { credit, header, bytes: header.emit() }
    }

    /// The header of the next packet, of `len` bytes.
    pub fn packet(&mut self, len: u32) -> &[u8; HEADER_LEN] {
        self.credit.send(len);
        // All but the last are as long as a buffer.
        if len != self.header.len {
            self.header.len = len;
            self.bytes = self.header.emit();
        }
        &self.bytes
    }
}
