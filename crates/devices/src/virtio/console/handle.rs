//! What other threads share with a console: window sizes in, counters out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::order::Registration;
use super::protocol::WindowSize;
use crate::virtio::IoCounts;

/// Counters of one port since the device was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Bytes given to the guest.
    pub bytes_in: u64,
    /// Bytes of the guest that reached the host end.
    pub bytes_out: u64,
    /// Bytes of the guest dropped because there is no host end (any more) or the disk is full.
    pub bytes_dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct PortShared {
    /// Columns in the high half, rows in the low; `known` tells 0x0 from nothing.
    size: AtomicU32,
    known: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_dropped: AtomicU64,
}

impl PortShared {
    pub(super) fn size(&self) -> Option<WindowSize> {
        if self.known.load(Ordering::Acquire) == 0 {
            return None;
        }
        let raw = self.size.load(Ordering::Acquire);
        Some(WindowSize { cols: (raw >> 16) as u16, rows: raw as u16 })
    }

    pub(super) fn set_size(&self, size: WindowSize) {
        self.size.store(u32::from(size.cols) << 16 | u32::from(size.rows), Ordering::Release);
        self.known.store(1, Ordering::Release);
    }

    pub(super) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, bytes: usize) {
        self.bytes_dropped.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn stats(&self) -> PortStats {
        PortStats {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            bytes_dropped: self.bytes_dropped.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub ports: Vec<PortShared>,
    pub protocol_errors: AtomicU64,
    pub generation: AtomicU32,
    /// Makes the worker look at sizes, at ports it left in the middle of their work, and at messages it held back.
    pub wake: Arc<EventFd>,
    pub registration: Arc<Registration>,
}

impl Shared {
    pub(super) fn new(ports: usize) -> io::Result<Self> {
        Ok(Shared {
            ports: (0..ports).map(|_| PortShared::default()).collect(),
            protocol_errors: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            registration: Arc::default(),
            wake: Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?),
        })
    }

    /// Bytes of all ports; what was dropped was taken from the guest too.
    pub(super) fn io_counts(&self) -> IoCounts {
        self.ports.iter().map(PortShared::stats).fold(IoCounts::default(), |sum, port| {
            let from_guest = port.bytes_out.saturating_add(port.bytes_dropped);
            IoCounts::new(
                sum.to_guest.saturating_add(port.bytes_in),
                sum.from_guest.saturating_add(from_guest),
            )
        })
    }

    pub(super) fn count_error(&self) {
        self.protocol_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wake(&self) {
        // Fails only when the counter is full, which is a pending wake-up.
        let _ = self.wake.write(1);
    }
}

/// A console as seen by other threads. Cheap to clone; works in every state of the device.
#[derive(Debug, Clone)]
pub struct ConsoleHandle(pub(super) Arc<Shared>);

impl ConsoleHandle {
    /// Tells the guest the size of a console port. For port 0 it is also in the configuration space.
    ///
    /// Does not wait. Of several changes before the guest looks it sees the last.
    pub fn resize(&self, port: usize, size: WindowSize) {
        let Some(shared) = self.0.ports.get(port) else { return };
        if shared.size() == Some(size) {
            return;
        }
        shared.set_size(size);
        if port == 0 {
            self.0.generation.fetch_add(1, Ordering::AcqRel);
        }
        self.0.wake();
    }

    /// Counters of a port; `None` if there is no such port.
    pub fn stats(&self, port: usize) -> Option<PortStats> {
        self.0.ports.get(port).map(PortShared::stats)
    }

    /// Messages and buffers of the driver that made no sense and were ignored.
    pub fn protocol_errors(&self) -> u64 {
        self.0.protocol_errors.load(Ordering::Relaxed)
    }
}
