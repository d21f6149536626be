//! Saved state as versioned, bounded sections.
//!
//! Every component of a virtual machine writes its state into a [`Section`]: a kind, a version, an
//! instance number and a payload of named little-endian fields. A [`Writer`] builds the payload, a
//! [`Reader`] takes it apart again. The encoding is deterministic (the same state gives the same
//! bytes) and decoding never trusts a length: it allocates no more than the input holds.
//!
//! ```
//! use purlin_snapshot::{Reader, Section, SectionId, Writer};
//!
//! const ID: SectionId = SectionId { kind: 0x100, version: 1, instance: 0 };
//!
//! let mut w = Writer::new();
//! w.u32(7);
//! w.bytes(b"eth0");
//! let section = Section::new(ID, w.into_bytes());
//!
//! let mut r = section.expect_kind(0x100, 1)?;
//! assert_eq!(r.u32("mtu")?, 7);
//! assert_eq!(r.bytes("name", 16)?, b"eth0");
//! r.finish()?;
//! # Ok::<(), purlin_snapshot::DecodeError>(())
//! ```
//!
//! # Threads and errors
//!
//! Everything here is plain data without interior mutability. Decoding a hostile payload gives a
//! [`DecodeError`] that names the field; it never panics.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod codec;
mod section;

pub use codec::{DecodeError, Reader, Writer};
pub use section::{MAX_SECTION_LEN, Section, SectionId};
