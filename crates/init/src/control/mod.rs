//! The control channel: how PID 1 and its host talk.
//!
//! It is a byte stream in each direction, in a guest the virtio console port named
//! [`PORT_CONTROL`](crate::abi::PORT_CONTROL). Both directions carry frames:
//!
//! ```text
//! u8 kind · u8 version = 1 · u16 payload length, little endian · payload
//! ```
//!
//! A reader skips frames whose kind or version it does not know and frames longer than [`MAX_PAYLOAD`], and ignores
//! payload bytes beyond those it knows, so that either side may be newer than the other. The guest sends [`Event`]s
//! (kinds 0x01 to 0x7f), the host sends [`Request`]s (kinds from 0x80).
//!
//! The channel never holds the guest up: PID 1 writes without blocking and drops a frame that does not fit its queue.
//! The exit code is also reported by the ioctl [`EXIT_CODE_IOCTL`](crate::abi::EXIT_CODE_IOCTL). A host must take what
//! the port's queue holds when the machine stops: the guest does not wait for [`Event::Exited`] to be read.

mod frame;
mod message;

pub use frame::{Decoder, Frame, MAX_PAYLOAD, Outbox};
pub use message::{Event, MAX_MESSAGE, PROTOCOL_VERSION, Request, Stage};
