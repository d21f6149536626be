//! The virtio-vsock device (virtio 1.2 §5.10): rings, sockets, and the thread that owns both.
//!
//! One thread per device. It sleeps in one epoll, in which every descriptor is registered once and
//! edge-triggered. There is no lock on the way of a byte: stream data goes from guest memory to the socket by
//! `sendmsg(2)` over the guest's own buffers, and from the socket into the guest's receive buffers by
//! `readv(2)`; only what a socket does not take is copied.
//!
//! # Files
//!
//! `sys` has the unsafe calls. `addr` and `sockets` make and use host sockets, `outbuf` holds what they did not
//! take; `gate` is the egress policy of the device's thread, `egress` the way to it for others, `traffic` what
//! passes it; `host` joins sockets, policy and muxer; `turn` is guest memory, `rx` and `tx` are the two rings, `inbound` and `outbound` the
//! ways between them and sockets, `events` is the third ring; `worker` is the thread's loop, `courtesy` when it gives way to the guest, `device` the virtio
//! device, `state` its saved form.

mod addr;
mod courtesy;
mod device;
mod egress;
mod events;
#[cfg(any(test, feature = "test-utils"))]
mod fuzz;
mod gate;
mod host;
mod inbound;
mod outbound;
mod outbuf;
mod rx;
mod sockets;
mod state;
#[allow(unsafe_code)]
mod sys;
mod traffic;
mod turn;
mod tx;
mod worker;

#[cfg(test)]
mod tests;

pub use device::{Vsock, VsockConfig, VsockError};
pub use egress::EgressHandle;
#[cfg(any(test, feature = "test-utils"))]
#[doc(hidden)]
pub use fuzz::vsock_rings;
#[doc(hidden)]
pub use state::tsi_state;
