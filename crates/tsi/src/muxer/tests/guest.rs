//! What a guest's kernel keeps of one stream.

use crate::wire::{Header, op};

/// The stream half of Linux' vsock core (net/vmw_vsock/virtio_transport_common.c, 6.12).
#[derive(Default)]
pub struct Guest {
    pub window: u32,
    pub rng: u64,
    /// Received and not read.
    pub queued: Vec<u32>,
    pub got: u32,
    pub read: u32,
    pub announced: u32,
    pub sent: u32,
    pub host_fwd: u32,
    pub host_alloc: u32,
}

impl Guest {
    pub fn below(&mut self, limit: u32) -> u32 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if limit == 0 { 0 } else { ((self.rng >> 33) as u32) % limit }
    }

    pub fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn take(&mut self, header: &Header) {
        assert_ne!(header.op, op::RST);
        (self.host_fwd, self.host_alloc) = (header.fwd_cnt, header.buf_alloc);
        if header.op == op::RW {
            let bytes: u32 = self.queued.iter().sum();
            let packets = self.queued.len() as u32;
            assert!(bytes + header.len <= self.window, "beyond the window");
            // What 6.12.94 adds; the first packet always goes through here.
            assert!(packets == 0 || (packets + 1) * 576 <= self.window, "too many packets");
            self.queued.push(header.len);
            self.got += header.len;
        }
    }

    /// Reads a packet; true if the host should be told.
    pub fn read(&mut self) -> bool {
        if self.queued.is_empty() || self.flip() {
            return false;
        }
        self.read = self.read.wrapping_add(self.queued.remove(0));
        let news = self.read.wrapping_sub(self.announced);
        news > 0 && (self.window.saturating_sub(news) < 64 << 10 || self.queued.is_empty())
    }

    pub fn announce(&mut self) -> (u32, u32) {
        self.announced = self.read;
        (self.read, self.window)
    }

    /// From 6.12.91 on limited by its own buffer, too.
    pub fn window_left(&self) -> u32 {
        self.host_alloc.min(self.window).saturating_sub(self.sent.wrapping_sub(self.host_fwd))
    }
}
