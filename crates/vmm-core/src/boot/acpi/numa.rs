//! What a guest is told of its NUMA nodes: SRAT, SLIT and HMAT (ACPI 6.5 §5.2.16, §5.2.17, §5.2.27).
//!
//! Proximity domain *n* is node *n*. HMAT is there for more than one node only.
//!
//! ```
//! use purlin_vmm_core::boot::acpi::{AcpiMachine, AcpiTables, numa};
//! use purlin_vmm_core::memory::MemoryLayout;
//! use purlin_vmm_core::numa::{Node, Topology};
//!
//! let topology = Topology::new(vec![Node::new(64 << 20).cpus([0]), Node::new(64 << 20).cpus([1])])?;
//! let extra = numa::tables(&topology, &MemoryLayout::new(128 << 20)?);
//! let tables = AcpiTables::build(&AcpiMachine { cpus: 2, extra, ..AcpiMachine::default() })?;
//! assert!(tables.tables().iter().any(|(_, table)| table.signature() == b"SRAT"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Table;
use crate::memory::MemoryLayout;
use crate::numa::{Access, NodeRange, Topology};

const SRAT_REVISION: u8 = 3;
const SLIT_REVISION: u8 = 1;
const HMAT_REVISION: u8 = 2;

/// SRAT structure types and their lengths (ACPI 6.5 tables 5.51 and 5.52).
const MEMORY_AFFINITY: [u8; 2] = [1, 40];
const X2APIC_AFFINITY: [u8; 2] = [2, 24];
const ENABLED: u32 = 1;

/// HMAT structure types (ACPI 6.5 §5.2.27.3 and §5.2.27.4).
const PROXIMITY_DOMAIN: u16 = 0;
const LATENCY_AND_BANDWIDTH: u16 = 1;
/// The processors' domain is valid; bit 1 says so of the memory's domain in revision 1 and is reserved since.
const DOMAINS_VALID: u16 = 3;
/// Data types: of reads and writes together.
const ACCESS_LATENCY: u8 = 0;
const ACCESS_BANDWIDTH: u8 = 3;
/// Latencies are in picoseconds times this.
const LATENCY_UNIT: u64 = 1000;
/// The largest entry; one more means that there is no way.
const MAX_ENTRY: u32 = 0xfffe;

/// The tables of a topology in a layout, for [`AcpiMachine::extra`](super::AcpiMachine::extra).
pub fn tables(topology: &Topology, layout: &MemoryLayout) -> Vec<Table> {
    let mut tables = vec![srat(topology, layout), slit(topology)];
    if topology.nodes().len() > 1 {
        tables.push(hmat(topology));
    }
    tables
}

/// Which processors and which memory are in which node.
pub fn srat(topology: &Topology, layout: &MemoryLayout) -> Table {
    let mut body = Vec::new();
    body.extend(1u32.to_le_bytes());
    body.extend([0; 8]);
    for (domain, node) in (0u32..).zip(topology.nodes()) {
        for cpu in &node.cpus {
            body.extend(X2APIC_AFFINITY);
            body.extend([0; 2]);
            words(&mut body, [domain, *cpu, ENABLED, 0, 0]);
        }
    }
    for NodeRange { node, range } in topology.ranges(layout) {
        body.extend(MEMORY_AFFINITY);
        words(&mut body, [node as u32]);
        body.extend([0; 2]);
        body.extend(range.start.to_le_bytes());
        body.extend(range.len.to_le_bytes());
        words(&mut body, [0, ENABLED, 0, 0]);
    }
    Table::new(*b"SRAT", SRAT_REVISION, &body)
}

/// How far the nodes are from each other.
pub fn slit(topology: &Topology) -> Table {
    let count = topology.nodes().len();
    let mut body = (count as u64).to_le_bytes().to_vec();
    for from in 0..count {
        body.extend((0..count).map(|to| topology.distance_of(from, to)));
    }
    Table::new(*b"SLIT", SLIT_REVISION, &body)
}

/// Which processors each node's memory belongs to, and how fast it is, if that was given.
pub fn hmat(topology: &Topology) -> Table {
    let mut body = vec![0; 4];
    let nodes = topology.nodes();
    for (target, _) in nodes.iter().enumerate().filter(|(_, node)| node.memory > 0) {
        // A topology that fits a machine has a processor.
        let Some(initiator) = topology.initiator_of(target) else { continue };
        body.extend(PROXIMITY_DOMAIN.to_le_bytes());
        body.extend([0; 2]);
        words(&mut body, [40]);
        body.extend(DOMAINS_VALID.to_le_bytes());
        body.extend([0; 2]);
        words(&mut body, [initiator as u32, target as u32, 0, 0, 0, 0, 0]);
    }
    if topology.has_access() {
        body.extend(speeds(topology, ACCESS_LATENCY, LATENCY_UNIT, |access| access.latency_ns));
        let fastest = all(topology).map(|access| access.bandwidth_mb).max().unwrap_or(1);
        let unit = fastest.div_ceil(MAX_ENTRY);
        body.extend(speeds(topology, ACCESS_BANDWIDTH, unit.into(), |access| {
            access.bandwidth_mb.div_ceil(unit.max(1))
        }));
    }
    Table::new(*b"HMAT", HMAT_REVISION, &body)
}

fn all(topology: &Topology) -> impl Iterator<Item = Access> {
    let count = topology.nodes().len();
    (0..count).flat_map(move |from| (0..count).filter_map(move |to| topology.access_of(from, to)))
}

/// One matrix: a row for each node with processors, a column for each with memory. 0 where nothing was given.
fn speeds(topology: &Topology, data: u8, unit: u64, entry: impl Fn(Access) -> u32) -> Vec<u8> {
    let numbers = |has: fn(&crate::numa::Node) -> bool| -> Vec<usize> {
        topology.nodes().iter().enumerate().filter(|(_, node)| has(node)).map(|(number, _)| number).collect()
    };
    let (from, to) = (numbers(|node| !node.cpus.is_empty()), numbers(|node| node.memory > 0));
    let mut body = Vec::new();
    // Memory, not a cache; any size of transfer.
    body.extend([0, data, 0, 0]);
    words(&mut body, [from.len() as u32, to.len() as u32, 0]);
    body.extend(unit.to_le_bytes());
    for number in from.iter().chain(&to) {
        words(&mut body, [*number as u32]);
    }
    for &initiator in &from {
        for &target in &to {
            let entry =
                topology.access_of(initiator, target).map_or(0, |access| entry(access).min(MAX_ENTRY));
            body.extend((entry as u16).to_le_bytes());
        }
    }
    let mut structure = LATENCY_AND_BANDWIDTH.to_le_bytes().to_vec();
    structure.extend([0; 2]);
    // At most 64 nodes: some 8 KiB.
    words(&mut structure, [(body.len() as u32).saturating_add(8)]);
    structure.extend(body);
    structure
}

fn words<const N: usize>(body: &mut Vec<u8>, words: [u32; N]) {
    body.extend(words.into_iter().flat_map(u32::to_le_bytes));
}

#[cfg(test)]
#[path = "numa_tests.rs"]
mod tests;
