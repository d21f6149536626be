//! Nodes, their distances and their speeds.

use std::collections::{BTreeMap, BTreeSet};

use super::NumaError;
use crate::memory::layout::PAGE_SIZE;
use crate::memory::{MemoryLayout, RamRange};

/// Most nodes of a machine.
pub const MAX_NODES: usize = 64;
/// Distance of a node to itself (ACPI 6.5 §5.2.17).
pub const LOCAL_DISTANCE: u8 = 10;
/// Distance between two nodes unless another is given.
pub const REMOTE_DISTANCE: u8 = 20;
/// 255 would mean that the nodes cannot reach each other.
const MAX_DISTANCE: u8 = 254;
/// Limits of [`Access`]: what a table can express (ACPI 6.5 §5.2.27.4).
const MAX_LATENCY: u32 = 0xfffe;
const MAX_BANDWIDTH: u32 = 0xff_ffff;

/// Processors and memory that are near each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Memory in bytes; 0 for a node of processors only.
    pub memory: u64,
    /// Numbers of the processors; none for a node of memory only.
    pub cpus: Vec<u32>,
    /// Nodes of the host that its memory is taken from; none for any.
    pub host_nodes: Vec<u32>,
}

impl Node {
    /// A node of `memory` bytes, without processors.
    pub fn new(memory: u64) -> Self {
        Node { memory, ..Node::default() }
    }

    /// Gives it processors.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.cpus.extend(cpus);
        self
    }

    /// Takes its memory from these nodes of the host only.
    pub fn host_nodes(mut self, nodes: impl IntoIterator<Item = u32>) -> Self {
        self.host_nodes.extend(nodes);
        self
    }
}

/// How fast processors of one node get at memory of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Latency in nanoseconds, 1 to 65534.
    pub latency_ns: u32,
    /// Bandwidth in MB/s, 1 to 16777215.
    pub bandwidth_mb: u32,
}

/// Memory of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRange {
    /// The node.
    pub node: usize,
    /// Its guest addresses.
    pub range: RamRange,
}

/// The nodes of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    nodes: Vec<Node>,
    /// Those that differ from the default.
    distances: BTreeMap<(usize, usize), u8>,
    access: BTreeMap<(usize, usize), Access>,
}

impl Topology {
    /// Nodes that are all [`REMOTE_DISTANCE`] from each other.
    ///
    /// # Errors
    ///
    /// [`NumaError`]: an empty node, a processor twice, too many nodes.
    pub fn new(nodes: Vec<Node>) -> Result<Self, NumaError> {
        if nodes.is_empty() || nodes.len() > MAX_NODES {
            return Err(NumaError::Count { count: nodes.len() });
        }
        let mut seen = BTreeSet::new();
        for (node, Node { memory, cpus, .. }) in nodes.iter().enumerate() {
            if *memory == 0 && cpus.is_empty() {
                return Err(NumaError::Empty { node });
            }
            if !memory.is_multiple_of(PAGE_SIZE) {
                return Err(NumaError::NotPages { node, bytes: *memory });
            }
            if let Some(&cpu) = cpus.iter().find(|&&cpu| !seen.insert(cpu)) {
                return Err(NumaError::CpuTwice { cpu, node });
            }
        }
        Ok(Topology { nodes, distances: BTreeMap::new(), access: BTreeMap::new() })
    }

    /// Sets the distance between two nodes, in both directions.
    ///
    /// # Errors
    ///
    /// [`NumaError`]: no such node, or no such distance.
    pub fn distance(mut self, from: usize, to: usize, distance: u8) -> Result<Self, NumaError> {
        self.check_node(from)?;
        self.check_node(to)?;
        let fits = if from == to {
            distance == LOCAL_DISTANCE
        } else {
            (LOCAL_DISTANCE.saturating_add(1)..=MAX_DISTANCE).contains(&distance)
        };
        if !fits {
            return Err(NumaError::Distance { from, to, distance });
        }
        self.distances.insert((from, to), distance);
        self.distances.insert((to, from), distance);
        Ok(self)
    }

    /// Sets how fast processors of node `from` get at memory of node `to`.
    ///
    /// # Errors
    ///
    /// [`NumaError`]: no such node, or a speed that cannot be expressed.
    pub fn access(mut self, from: usize, to: usize, access: Access) -> Result<Self, NumaError> {
        self.check_node(from)?;
        self.check_node(to)?;
        let Access { latency_ns, bandwidth_mb } = access;
        if !(1..=MAX_LATENCY).contains(&latency_ns) || !(1..=MAX_BANDWIDTH).contains(&bandwidth_mb) {
            return Err(NumaError::Access { from, to });
        }
        self.access.insert((from, to), access);
        Ok(self)
    }

    fn check_node(&self, node: usize) -> Result<(), NumaError> {
        if node < self.nodes.len() {
            return Ok(());
        }
        Err(NumaError::NoSuchNode { node, last: self.nodes.len().saturating_sub(1) })
    }

    /// Checks that it is the topology of a machine of this size.
    ///
    /// # Errors
    ///
    /// [`NumaError`]: memory or processors do not add up.
    pub fn check(&self, ram_bytes: u64, cpus: u32) -> Result<(), NumaError> {
        let nodes = self.memory();
        if nodes != ram_bytes {
            return Err(NumaError::Memory { nodes, machine: ram_bytes });
        }
        for (node, Node { cpus: own, .. }) in self.nodes.iter().enumerate() {
            if let Some(&cpu) = own.iter().find(|&&cpu| cpu >= cpus) {
                return Err(NumaError::NoSuchCpu { node, cpu, cpus });
            }
        }
        match (0..cpus).find(|&cpu| self.node_of(cpu).is_none()) {
            Some(cpu) => Err(NumaError::CpuMissing { cpu }),
            None => Ok(()),
        }
    }

    /// The nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Memory of all nodes in bytes.
    pub fn memory(&self) -> u64 {
        self.nodes.iter().fold(0u64, |sum, node| sum.saturating_add(node.memory))
    }

    /// The node of a processor.
    pub fn node_of(&self, cpu: u32) -> Option<usize> {
        self.nodes.iter().position(|node| node.cpus.contains(&cpu))
    }

    /// The distance of two nodes; the default for nodes that do not exist.
    pub fn distance_of(&self, from: usize, to: usize) -> u8 {
        let default = if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE };
        self.distances.get(&(from, to)).copied().unwrap_or(default)
    }

    /// The speed of access between two nodes, if it was given.
    pub fn access_of(&self, from: usize, to: usize) -> Option<Access> {
        self.access.get(&(from, to)).copied()
    }

    /// True if a speed was given.
    pub fn has_access(&self) -> bool {
        !self.access.is_empty()
    }

    /// The node with processors that is nearest to a node: itself if it has some.
    pub fn initiator_of(&self, node: usize) -> Option<usize> {
        let with_cpus = self.nodes.iter().enumerate().filter(|(_, node)| !node.cpus.is_empty());
        with_cpus.map(|(from, _)| from).min_by_key(|&from| (self.distance_of(from, node), from))
    }

    /// The memory of every node, in address order.
    pub fn ranges(&self, layout: &MemoryLayout) -> Vec<NodeRange> {
        let mut ranges = Vec::new();
        let mut free: Vec<RamRange> = layout.ranges().collect();
        free.reverse();
        for (node, Node { memory, .. }) in self.nodes.iter().enumerate() {
            let mut wanted = *memory;
            while wanted > 0 {
                let Some(next) = free.pop() else { break };
                let len = next.len.min(wanted);
                ranges.push(NodeRange { node, range: RamRange { start: next.start, len } });
                wanted = wanted.saturating_sub(len);
                let rest = next.len.saturating_sub(len);
                if rest > 0 {
                    free.push(RamRange { start: next.start.saturating_add(len), len: rest });
                }
            }
        }
        ranges
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
