use proptest::prelude::*;

use super::*;
use crate::memory::layout::{GAP_END, GAP_START};

const MIB: u64 = 1 << 20;

fn two() -> Topology {
    Topology::new(vec![Node::new(64 * MIB).cpus([0, 1]), Node::new(64 * MIB).cpus([2])]).unwrap()
}

#[test]
fn machines_that_do_not_add_up() {
    let new = Topology::new;
    assert_eq!(new(vec![]), Err(NumaError::Count { count: 0 }));
    assert_eq!(new(vec![Node::new(MIB); 65]), Err(NumaError::Count { count: 65 }));
    assert_eq!(new(vec![Node::new(MIB), Node::new(0)]), Err(NumaError::Empty { node: 1 }));
    assert_eq!(new(vec![Node::new(MIB + 1)]), Err(NumaError::NotPages { node: 0, bytes: MIB + 1 }));
    let twice = vec![Node::new(MIB).cpus([0]), Node::new(MIB).cpus([1, 0])];
    assert_eq!(new(twice), Err(NumaError::CpuTwice { cpu: 0, node: 1 }));

    assert_eq!(two().check(128 * MIB, 3), Ok(()));
    let memory = NumaError::Memory { nodes: 128 * MIB, machine: 127 * MIB };
    assert_eq!(two().check(127 * MIB, 3), Err(memory));
    assert_eq!(two().check(128 * MIB, 2), Err(NumaError::NoSuchCpu { node: 1, cpu: 2, cpus: 2 }));
    assert_eq!(two().check(128 * MIB, 4), Err(NumaError::CpuMissing { cpu: 3 }));
}

#[test]
fn distances() {
    let topology = two().distance(0, 1, 11).unwrap();
    assert_eq!([(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| topology.distance_of(a, b)), [10, 11, 11, 10]);
    assert_eq!(two().distance_of(0, 1), REMOTE_DISTANCE);
    assert!(two().distance(1, 1, 10).is_ok());
    for (from, to, distance) in [(0, 1, 10), (0, 1, 255), (0, 1, 0), (1, 1, 11)] {
        assert_eq!(two().distance(from, to, distance), Err(NumaError::Distance { from, to, distance }));
    }
    assert_eq!(two().distance(0, 2, 20), Err(NumaError::NoSuchNode { node: 2, last: 1 }));
}

#[test]
fn speeds() {
    let access = Access { latency_ns: 100, bandwidth_mb: 10_000 };
    assert_eq!(two().access(0, 1, access).unwrap().access_of(0, 1), Some(access));
    assert_eq!(two().access(0, 1, access).unwrap().access_of(1, 0), None);
    for wrong in [
        Access { latency_ns: 0, ..access },
        Access { latency_ns: 0xffff, ..access },
        Access { bandwidth_mb: 0, ..access },
        Access { bandwidth_mb: 1 << 24, ..access },
    ] {
        assert_eq!(two().access(0, 1, wrong), Err(NumaError::Access { from: 0, to: 1 }));
    }
}

#[test]
fn a_memory_only_node_belongs_to_the_nearest_processors() {
    let nodes = vec![Node::new(MIB).cpus([0]), Node::new(MIB).cpus([1]), Node::new(MIB)];
    let topology = Topology::new(nodes).unwrap();
    assert_eq!(topology.initiator_of(2), Some(0), "the first of equals");
    let nearer = topology.distance(1, 2, 12).unwrap();
    assert_eq!([0, 1, 2].map(|node| nearer.initiator_of(node)), [Some(0), Some(1), Some(1)]);
}

#[test]
fn a_node_that_the_gap_splits_has_two_ranges() {
    let nodes = vec![Node::new(3 << 30).cpus([0]), Node::new(2 << 30), Node::new(1 << 30)];
    let ranges = Topology::new(nodes).unwrap().ranges(&MemoryLayout::new(6 << 30).unwrap());
    let range = |node, start, len| NodeRange { node, range: RamRange { start, len } };
    let low = GAP_START - (3 << 30);
    let want = [
        range(0, 0, 3 << 30),
        range(1, 3 << 30, low),
        range(1, GAP_END, (2 << 30) - low),
        range(2, GAP_END + (2 << 30) - low, 1 << 30),
    ];
    assert_eq!(ranges, want);
}

proptest! {
    /// Whatever the nodes, their ranges are all of RAM, each byte once, in order.
    #[test]
    fn ranges_cover_ram(sizes in proptest::collection::vec(0u64..2048, 1..12)) {
        let nodes: Vec<Node> = sizes.iter().map(|mib| Node::new(mib * MIB).cpus([])).collect();
        let nodes: Vec<Node> = nodes.into_iter().enumerate().map(|(n, node)| node.cpus([n as u32])).collect();
        let topology = Topology::new(nodes).unwrap();
        let total = topology.memory();
        prop_assume!(total >= 16 * MIB);
        let layout = MemoryLayout::new(total).unwrap();
        let mut ranges = topology.ranges(&layout);
        for (node, &mib) in sizes.iter().enumerate() {
            let own: u64 = ranges.iter().filter(|range| range.node == node).map(|range| range.range.len).sum();
            prop_assert_eq!(own, mib * MIB);
        }
        ranges.dedup_by(|next, range| {
            let joins = range.range.end() == next.range.start;
            if joins {
                range.range.len += next.range.len;
            }
            joins
        });
        let joined: Vec<RamRange> = ranges.iter().map(|range| range.range).collect();
        let ram: Vec<RamRange> = layout.ranges().collect();
        prop_assert_eq!(joined, ram);
    }
}
