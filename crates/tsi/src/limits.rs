//! Caps. Each names what the guest sees when it is reached.

use std::time::Duration;

/// What one guest may hold of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Sockets and connections known at one time. Beyond it, unused ones and those that have ended are
    /// forgotten, oldest first; if there are none, `connect(2)` answers ECONNREFUSED and `listen(2)` EPERM
    /// (which the guest turns into a listener of its own). Default 65,536.
    pub records: usize,
    /// Sockets that were announced and not yet used; the oldest is forgotten. Default 4,096.
    pub unused: usize,
    /// Host sockets open at one time. `connect(2)` answers EMFILE, a connection to a mapped port is reset,
    /// accepting pauses. The device lowers it to the process's RLIMIT_NOFILE less a reserve. Default 16,384.
    pub sockets: usize,
    /// Receive window of a connection in bytes. A guest that ignores it is reset. Linux uses no more than
    /// 256 KiB, the default.
    pub window: u32,
    /// Bytes accepted from the guest that host sockets did not take yet, all connections together. The
    /// connection that would exceed it is reset. New connections get smaller windows (at least 16 KiB) the
    /// more is promised. Default 256 MiB.
    pub buffered: u64,
    /// Messages waiting for the guest to offer receive buffers. Beyond it, nothing is read from the guest
    /// until it does. Default 1,024.
    pub messages: usize,
    /// Most connections of one listener waiting for the guest, whatever its backlog. Default 4,096.
    pub backlog: u32,
    /// Destinations of one datagram socket that are redirected at one time; the least recently used ends.
    /// Default 64.
    pub flows: usize,
    /// How long such a destination may be idle. Default 60 s.
    pub flow_idle: Duration,
    /// How long the guest may take to answer a connection from the host. Default 10 s.
    pub handshake: Duration,
    /// How long a unix socket whose backlog is full is tried for a TSI socket; EAGAIN then. Default 2 s.
    /// For a mapped port it is 1.5 s at most, as the guest gives up at 2 s.
    pub connect_retry: Duration,
    /// How long bytes of a connection the guest has closed may take to reach the host peer. Default 60 s.
    pub flush: Duration,
    /// Pause after the host refused a descriptor for an accepted connection. Default 100 ms.
    pub accept_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            records: 65_536,
            unused: 4_096,
            sockets: 16_384,
            window: 256 << 10,
            buffered: 256 << 20,
            messages: 1_024,
            backlog: 4_096,
            flows: 64,
            flow_idle: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            connect_retry: Duration::from_secs(2),
            flush: Duration::from_secs(60),
            accept_pause: Duration::from_millis(100),
        }
    }
}

/// Smallest window a new connection gets.
pub(crate) const MIN_WINDOW: u32 = 16 << 10;
