//! Machines whose memory is not equally near to all of their processors. Pure.
//!
//! A [`Topology`] says which processors and how much memory are in each node, and how far the nodes are from each
//! other. Memory goes to the nodes in the order of their numbers and of addresses; a node that the gap below 4 GiB splits
//! has two ranges. What a guest is told of it is in [`boot::acpi::numa`](crate::boot::acpi::numa).
//!
//! ```
//! use purlin_vmm_core::memory::MemoryLayout;
//! use purlin_vmm_core::numa::{Node, Topology};
//!
//! let topology = Topology::new(vec![
//!     Node::new(256 << 20).cpus([0, 1]),
//!     Node::new(256 << 20).cpus([2, 3]),
//!     Node::new(512 << 20), // memory only
//! ])?
//! .distance(0, 2, 30)?
//! .distance(1, 2, 30)?;
//! topology.check(1 << 30, 4)?;
//! let ranges = topology.ranges(&MemoryLayout::new(1 << 30)?);
//! assert_eq!(ranges.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod topology;

pub use error::NumaError;
pub use topology::{Access, LOCAL_DISTANCE, MAX_NODES, Node, NodeRange, REMOTE_DISTANCE, Topology};
