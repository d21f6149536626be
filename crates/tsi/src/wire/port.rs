//! Port numbers with a meaning (libkrunfw's TSI patches to the Linux vsock core).

use std::ops::RangeInclusive;

/// The host's port of everything a guest's TSI socket opens: outbound streams, datagram sockets, listeners.
pub const TSI_PORT: u32 = 620;

/// Host ports of control messages; datagrams only.
pub const CONTROL_PORTS: RangeInclusive<u32> = control::CREATE..=control::RELEASE;

/// One port per control message.
pub mod control {
    /// Names a new socket.
    pub const CREATE: u32 = 1024;
    /// `connect(2)`.
    pub const CONNECT: u32 = 1025;
    /// `getpeername(2)` and the address of `accept(2)`.
    pub const GETNAME: u32 = 1026;
    /// Destination of the datagrams that follow.
    pub const SENDTO_ADDR: u32 = 1027;
    /// A datagram.
    pub const SENDTO_DATA: u32 = 1028;
    /// `listen(2)`.
    pub const LISTEN: u32 = 1029;
    /// `accept(2)`.
    pub const ACCEPT: u32 = 1030;
    /// `close(2)`.
    pub const RELEASE: u32 = 1031;
}
