//! What can be wrong with a topology.

use thiserror::Error;

use super::topology::MAX_NODES;
use crate::memory::layout::PAGE_SIZE;

/// A topology that no machine can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NumaError {
    /// No nodes, or too many.
    #[error("{count} NUMA nodes: use 1 to {MAX_NODES}")]
    Count {
        /// Nodes given.
        count: usize,
    },
    /// A node of this number does not exist.
    #[error("there is no NUMA node {node}: the last one is {last}")]
    NoSuchNode {
        /// The number given.
        node: usize,
        /// The largest number.
        last: usize,
    },
    /// Neither processors nor memory.
    #[error("NUMA node {node} has neither processors nor memory; leave it out")]
    Empty {
        /// The node.
        node: usize,
    },
    /// Memory that is no number of pages.
    #[error("NUMA node {node}: {bytes} bytes of memory are not a multiple of {PAGE_SIZE}")]
    NotPages {
        /// The node.
        node: usize,
        /// Its memory in bytes.
        bytes: u64,
    },
    /// The nodes together have another size than the machine.
    #[error(
        "the NUMA nodes have {nodes} bytes of memory together, the machine has {machine}; make them equal"
    )]
    Memory {
        /// Memory of all nodes in bytes.
        nodes: u64,
        /// Memory of the machine in bytes.
        machine: u64,
    },
    /// A processor in two nodes, or twice in one.
    #[error("processor {cpu} is in NUMA node {node} and in a node before it, or twice in it")]
    CpuTwice {
        /// The processor.
        cpu: u32,
        /// The later node.
        node: usize,
    },
    /// A processor that the machine does not have.
    #[error("NUMA node {node} has processor {cpu}, but the machine has only {cpus}")]
    NoSuchCpu {
        /// The node.
        node: usize,
        /// The processor.
        cpu: u32,
        /// Processors of the machine.
        cpus: u32,
    },
    /// A processor in no node.
    #[error("processor {cpu} is in no NUMA node; put it in one")]
    CpuMissing {
        /// The processor.
        cpu: u32,
    },
    /// A distance that does not exist.
    #[error(
        "distance {distance} from NUMA node {from} to {to}: use 10 from a node to itself, 11 to 254 to others"
    )]
    Distance {
        /// First node.
        from: usize,
        /// Second node.
        to: usize,
        /// The distance given.
        distance: u8,
    },
    /// A speed that does not exist.
    #[error("access from NUMA node {from} to {to}: use 1 to 65534 ns and 1 to 16777215 MB/s")]
    Access {
        /// Node of the processors.
        from: usize,
        /// Node of the memory.
        to: usize,
    },
}
