use super::super::tests::{golden, le};
use super::*;
use crate::numa::Node;

const MIB: u64 = 1 << 20;

/// Two nodes of processors, one split by the gap, and one of memory only.
fn topology() -> Topology {
    let nodes = vec![Node::new(3 << 30).cpus([0, 2]), Node::new(1 << 30).cpus([1]), Node::new(512 * MIB)];
    let topology = Topology::new(nodes).unwrap().distance(0, 2, 40).unwrap().distance(1, 2, 17).unwrap();
    topology
        .access(0, 0, Access { latency_ns: 90, bandwidth_mb: 100_000 })
        .unwrap()
        .access(1, 2, Access { latency_ns: 250, bandwidth_mb: 12_000 })
        .unwrap()
}

fn layout() -> MemoryLayout {
    MemoryLayout::new((4 << 30) + 512 * MIB).unwrap()
}

#[test]
fn golden_tables() {
    for table in tables(&topology(), &layout()) {
        let name = String::from_utf8(table.signature().to_ascii_lowercase()).unwrap();
        golden(&format!("{name}.aml"), table.bytes());
    }
}

#[test]
fn srat_has_every_processor_and_every_range() {
    let table = srat(&topology(), &layout());
    let bytes = table.bytes();
    assert_eq!(bytes.len(), 48 + 3 * 24 + 4 * 40);
    let cpus: Vec<_> =
        bytes[48..120].chunks(24).map(|entry| (entry[0], le(entry, 4, 4), le(entry, 8, 4))).collect();
    assert_eq!(cpus, [(2, 0, 0), (2, 0, 2), (2, 1, 1)]);
    let memory: Vec<_> = bytes[120..]
        .chunks(40)
        .map(|entry| (entry[0], le(entry, 2, 4), le(entry, 8, 8), le(entry, 16, 8), le(entry, 28, 4)))
        .collect();
    let low = 0xd000_0000 - (3 << 30);
    let want = [
        (1, 0, 0, 3 << 30, 1),
        (1, 1, 3 << 30, low, 1),
        (1, 1, 1 << 32, (1 << 30) - low, 1),
        (1, 2, (1 << 32) + (1 << 30) - low, 512 * MIB, 1),
    ];
    assert_eq!(memory, want);
}

#[test]
fn slit_is_the_matrix() {
    let table = slit(&topology());
    assert_eq!(le(table.bytes(), 36, 8), 3);
    assert_eq!(table.bytes()[44..], [10, 20, 40, 20, 10, 17, 40, 17, 10]);
}

#[test]
fn hmat_knows_whose_memory_it_is_and_how_fast() {
    let table = hmat(&topology());
    let bytes = &table.bytes()[40..];
    let domains: Vec<_> = bytes[..120]
        .chunks(40)
        .map(|entry| (le(entry, 0, 2), le(entry, 4, 4), le(entry, 8, 2), le(entry, 12, 4), le(entry, 16, 4)))
        .collect();
    assert_eq!(
        domains,
        [(0, 40, 3, 0, 0), (0, 40, 3, 1, 1), (0, 40, 3, 1, 2)],
        "node 2 is nearest to node 1"
    );
    // 32 bytes, 2 + 3 numbers, 2 × 3 entries
    let len = 32 + 20 + 12;
    let (latency, bandwidth) = bytes[120..].split_at(len);
    assert_eq!(bandwidth.len(), len);
    let entries =
        |matrix: &[u8]| -> Vec<u64> { matrix[52..].chunks(2).map(|entry| le(entry, 0, 2)).collect() };
    assert_eq!(
        (le(latency, 0, 2), le(latency, 4, 4), latency[9], le(latency, 24, 8)),
        (1, len as u64, 0, 1000)
    );
    assert_eq!(entries(latency), [90, 0, 0, 0, 0, 250]);
    // 100,000 does not fit 16 bits: halves.
    assert_eq!((bandwidth[9], le(bandwidth, 24, 8)), (3, 2));
    assert_eq!(entries(bandwidth), [50_000, 0, 0, 0, 0, 6_000]);
}

#[test]
fn one_node_needs_no_hmat() {
    let one = Topology::new(vec![Node::new(64 * MIB).cpus([0])]).unwrap();
    let names: Vec<_> =
        tables(&one, &MemoryLayout::new(64 * MIB).unwrap()).iter().map(|t| t.signature().to_vec()).collect();
    assert_eq!(names, [b"SRAT", b"SLIT"]);
}
