//! A driver for one split virtqueue (virtio 1.2 §2.7) in guest RAM.

use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestRam, SharedRam};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::virtio::DeviceQueue;

const DESC_F_NEXT: u16 = 1;
const DESC_F_WRITE: u16 = 2;

/// Anonymous guest RAM of `len` bytes from address 0.
///
/// # Panics
///
/// If the host refuses the memory.
#[expect(clippy::expect_used, reason = "test support")]
pub fn guest_ram(len: usize) -> SharedRam {
    Arc::new(GuestRam::from_ranges(&[(GuestAddress(0), len)]).expect("guest RAM for a test"))
}

/// One buffer of a request, as the driver offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buf<'a> {
    /// Device-readable bytes.
    Read(&'a [u8]),
    /// Device-writable space of this many bytes, zeroed first.
    Write(u32),
}

/// A buffer the device gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Head of the descriptor chain, as returned by [`DriverRing::submit`].
    pub head: u16,
    /// Bytes the device says it wrote.
    pub len: u32,
    /// Contents of all device-writable buffers of the chain, one after another.
    pub data: Vec<u8>,
}

/// A descriptor in use and, if the device may write it, where its buffer is.
type Part = (u16, Option<(u64, u32)>);

/// The driver side of one queue.
///
/// Rings and buffers live in `[base, base + span)` of guest RAM. Buffers are allocated upward and wrap
/// around when `span` is used up, so keep the requests in flight smaller than it.
pub struct DriverRing {
    ram: SharedRam,
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    heap: (u64, u64),
    next_buf: u64,
    free: Vec<u16>,
    chains: Vec<Vec<Part>>,
    avail_idx: Wrapping<u16>,
    used_idx: Wrapping<u16>,
    event: Arc<EventFd>,
}

#[expect(clippy::expect_used, clippy::indexing_slicing, reason = "test support; a failure is a failed test")]
impl DriverRing {
    /// Lays a queue of `size` entries out at `base`, with `span` bytes in all (rings included).
    ///
    /// # Panics
    ///
    /// If the area is not in guest RAM or too small; so for every method here.
    pub fn new(ram: &SharedRam, base: u64, span: u64, size: u16) -> Self {
        let n = u64::from(size);
        let desc = base.next_multiple_of(16);
        let avail = desc + 16 * n;
        let used = (avail + 6 + 2 * n).next_multiple_of(4);
        let heap = ((used + 6 + 8 * n).next_multiple_of(16), base + span);
        assert!(heap.0 < heap.1, "span too small for the rings");
        ram.write_slice(&vec![0; (heap.0 - desc) as usize], GuestAddress(desc)).expect("rings in RAM");
        DriverRing {
            ram: ram.clone(),
            size,
            desc,
            avail,
            used,
            heap,
            next_buf: heap.0,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); size.into()],
            avail_idx: Wrapping(0),
            used_idx: Wrapping(0),
            event: Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).expect("eventfd")),
        }
    }

    /// The device side, as the transport would build it.
    pub fn device_queue(&self, index: u16, event_idx: bool) -> DeviceQueue {
        let mut queue = Queue::new(self.size).expect("queue size");
        queue.set_size(self.size);
        let halves = |a: u64| (Some(a as u32), Some((a >> 32) as u32));
        let (lo, hi) = halves(self.desc);
        queue.set_desc_table_address(lo, hi);
        let (lo, hi) = halves(self.avail);
        queue.set_avail_ring_address(lo, hi);
        let (lo, hi) = halves(self.used);
        queue.set_used_ring_address(lo, hi);
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        DeviceQueue { index, queue, event: self.event.clone() }
    }

    /// Addresses of descriptor table, driver area and device area.
    pub fn addresses(&self) -> (u64, u64, u64) {
        (self.desc, self.avail, self.used)
    }

    /// Descriptors not in use.
    pub fn free_descriptors(&self) -> usize {
        self.free.len()
    }

    fn alloc(&mut self, len: u32) -> u64 {
        let len = u64::from(len).max(1).next_multiple_of(16);
        if self.next_buf + len > self.heap.1 {
            self.next_buf = self.heap.0;
        }
        let at = self.next_buf;
        assert!(at + len <= self.heap.1, "buffer of {len} bytes exceeds the area");
        self.next_buf += len;
        at
    }

    /// Offers one request; returns its head. Does not notify: see [`DriverRing::kick`].
    pub fn submit(&mut self, bufs: &[Buf<'_>]) -> u16 {
        assert!(!bufs.is_empty() && bufs.len() <= self.free.len(), "no free descriptors");
        let ids: Vec<u16> = bufs.iter().map(|_| self.free.pop().expect("free descriptor")).collect();
        let mut chain = Vec::new();
        for (i, buf) in bufs.iter().enumerate() {
            let (addr, len, mut flags, out) = match buf {
                Buf::Read(bytes) => {
                    let len = u32::try_from(bytes.len()).expect("buffer length");
                    let addr = self.alloc(len);
                    self.ram.write_slice(bytes, GuestAddress(addr)).expect("buffer in RAM");
                    (addr, len, 0, None)
                }
                Buf::Write(len) => {
                    let addr = self.alloc(*len);
                    self.ram.write_slice(&vec![0; *len as usize], GuestAddress(addr)).expect("buffer in RAM");
                    (addr, *len, DESC_F_WRITE, Some((addr, *len)))
                }
            };
            let next = ids.get(i + 1).copied();
            if next.is_some() {
                flags |= DESC_F_NEXT;
            }
            self.write_descriptor(ids[i], addr, len, flags, next.unwrap_or(0));
            chain.push((ids[i], out));
        }
        let head = ids[0];
        self.chains[usize::from(head)] = chain;
        self.publish(head);
        head
    }

    /// Writes one raw descriptor, for hostile layouts.
    pub fn write_descriptor(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&addr.to_le_bytes());
        raw[8..12].copy_from_slice(&len.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        self.ram.write_slice(&raw, GuestAddress(self.desc + 16 * u64::from(index))).expect("descriptor");
    }

    /// Puts a head into the available ring, for hostile layouts; `submit` does it for ordinary ones.
    pub fn publish(&mut self, head: u16) {
        let slot = u64::from(self.avail_idx.0 % self.size);
        self.ram.write_obj(head, GuestAddress(self.avail + 4 + 2 * slot)).expect("avail ring");
        self.avail_idx += 1;
        fence(Ordering::SeqCst);
        self.set_avail_idx(self.avail_idx.0);
    }

    /// Overwrites the available index, for hostile layouts.
    pub fn set_avail_idx(&mut self, idx: u16) {
        self.avail_idx = Wrapping(idx);
        self.ram.store(idx, GuestAddress(self.avail + 2), Ordering::Release).expect("avail idx");
    }

    /// Asks for an interrupt after the next used buffer (EVENT_IDX).
    pub fn want_interrupt(&self) {
        let at = GuestAddress(self.avail + 4 + 2 * u64::from(self.size));
        self.ram.write_obj(self.used_idx.0, at).expect("used event");
        fence(Ordering::SeqCst);
    }

    /// Notifies the device.
    pub fn kick(&self) {
        self.event.write(1).expect("kick");
    }

    /// Collects what the device gave back since the last call.
    pub fn used(&mut self) -> Vec<Used> {
        let idx: u16 = self.ram.load(GuestAddress(self.used + 2), Ordering::Acquire).expect("used idx");
        let mut out = Vec::new();
        while self.used_idx.0 != idx {
            let slot = u64::from(self.used_idx.0 % self.size);
            let at = self.used + 4 + 8 * slot;
            let head: u32 = self.ram.read_obj(GuestAddress(at)).expect("used ring");
            let len: u32 = self.ram.read_obj(GuestAddress(at + 4)).expect("used ring");
            let head = u16::try_from(head).expect("head");
            let mut data = Vec::new();
            for (id, writable) in std::mem::take(&mut self.chains[usize::from(head)]) {
                if let Some((addr, len)) = writable {
                    let start = data.len();
                    data.resize(start + len as usize, 0);
                    self.ram.read_slice(&mut data[start..], GuestAddress(addr)).expect("buffer");
                }
                self.free.push(id);
            }
            out.push(Used { head, len, data });
            self.used_idx += 1;
        }
        out
    }
}
