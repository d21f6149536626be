//! Sockets of a guest, opened on the host: virtio-vsock with Transparent Socket Impersonation (TSI).
//!
//! A guest kernel with libkrunfw's TSI patches gives a socket two personalities: an ordinary one inside the
//! guest, and one behind virtio-vsock that the host serves with a socket of its own. So a guest without a
//! network card connects, listens and sends datagrams as if it were a process of the host. The same device
//! joins vsock ports with unix sockets of the host.
//!
//! # Two halves
//!
//! - The core is the [`Muxer`]: pure, no descriptor, thread, clock or guest memory. [`wire`] is its codec,
//!   [`Credit`](credit::Credit) its window arithmetic, [`Limits`] its caps.
//! - The shell (feature `device`) is the virtio device `shell::Vsock`: one thread that owns every host
//!   socket and moves bytes straight between them and guest memory.
//!
//! Another VMM may take the device, or the muxer alone with its own sockets and rings.
//!
//! # Example: a connect, seen from inside the muxer
//!
//! ```
//! use std::time::Instant;
//!
//! use purlin_tsi::wire::{Header, control, kind, op};
//! use purlin_tsi::{Action, Muxer, MuxerConfig, SocketEvent, TsiFlags};
//!
//! let mut config = MuxerConfig::default();
//! config.tsi = TsiFlags::HIJACK_INET;
//! let mut muxer = Muxer::new(config)?;
//! let now = Instant::now();
//!
//! // What the guest's kernel sends for connect(2) to 127.0.0.1:80 on a socket with vsock port 5000.
//! let request = |to, bytes: &[u8]| Header {
//!     src_cid: 3, dst_cid: 2, src_port: 4000, dst_port: to,
//!     len: bytes.len() as u32, kind: kind::DGRAM, op: op::RW, ..Header::default()
//! };
//! let create = [0x88, 0x13, 0, 0, 2, 0, 1, 0];
//! let _ = muxer.handle_packet(now, &request(control::CREATE, &create), &create);
//! let connect = [0x88, 0x13, 0, 0, 16, 0, 0, 0, 2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
//! let _ = muxer.handle_packet(now, &request(control::CONNECT, &connect), &connect);
//!
//! // What the owner of the sockets does, and what the guest is told.
//! let Some(Action::Connect { socket, addr }) = muxer.poll_action() else { panic!() };
//! assert_eq!(addr.inet(), Some("127.0.0.1:80".parse()?));
//! muxer.handle_socket(now, socket, SocketEvent::Refused(111));
//! let reply = muxer.poll_packet().unwrap().payload.unwrap();
//! assert_eq!(reply[..4], (-111i32).to_le_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod config;
pub mod credit;
mod dgram;
#[doc(hidden)]
pub mod fuzz;
mod io;
mod limits;
mod listener;
mod muxer;
#[cfg(feature = "device")]
pub mod shell;
mod slots;
mod stream;
mod timers;
pub mod wire;

pub use config::{ConfigError, Dial, MuxerConfig, PortMap, TsiFlags, UnixPort, Unmapped};
pub use io::{
    Action, Disposition, Flow, FlowId, Grant, GrantKind, OpenFlow, Packet, Preamble, Protocol, QueryId,
    ReadOutcome, SocketEvent, SocketId, Stats, Verdict,
};
pub use limits::Limits;
pub use muxer::{Burst, DgramState, ListenerState, Muxer, MuxerState, ReplyState, StateError, StreamState};
