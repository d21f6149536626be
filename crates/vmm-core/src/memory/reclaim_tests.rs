use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use vm_memory::Bytes;

use super::super::alloc::{Backing, FileSharing, RamConfig, allocate_ranges};
use super::super::layout::RamRange;
use super::super::sys::sealed_memfd;
use super::*;

const MIB: u64 = 1 << 20;
const LEN: u64 = 16 * MIB;

fn ram(backing: Backing) -> GuestRam {
    let config = RamConfig { backing, ..RamConfig::default() };
    allocate_ranges(&[RamRange { start: 0, len: LEN }, RamRange { start: 1 << 32, len: LEN }], &config)
        .unwrap()
}

fn fill(ram: &GuestRam, value: u8) {
    for base in [0, 1 << 32] {
        ram.write_slice(&vec![value; LEN as usize], GuestAddress(base)).unwrap();
    }
}

fn byte(ram: &GuestRam, at: u64) -> u8 {
    ram.read_obj(GuestAddress(at)).unwrap()
}

/// Resident bytes of the region at 4 GiB.
fn resident(ram: &GuestRam) -> usize {
    ram.find_region(GuestAddress(1 << 32)).unwrap().reclaimable().1.resident().unwrap()
}

fn file_of(value: u8) -> Arc<File> {
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, &vec![value; 2 * LEN as usize]).unwrap();
    Arc::new(file)
}

#[test]
fn anonymous_and_memfd_memory_goes_back_and_reads_as_zeros() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let ram = ram(backing.clone());
        fill(&ram, 7);
        assert_eq!(resident(&ram), LEN as usize, "{backing:?}");
        let start = (1 << 32) + 4 * MIB;
        assert_eq!(ram.reclaim(GuestAddress(start), 8 * MIB).unwrap(), 8 * MIB, "{backing:?}");
        assert_eq!(resident(&ram), 8 << 20, "{backing:?}");
        let around = [start - 1, start, start + 8 * MIB - 1, start + 8 * MIB];
        assert_eq!(around.map(|at| byte(&ram, at)), [7, 0, 0, 7], "{backing:?}");
        // It can be used again.
        ram.write_obj(9u8, GuestAddress(start)).unwrap();
        assert_eq!(byte(&ram, start), 9);
    }
}

#[test]
fn a_shared_file_gets_holes() {
    // Shared memory, as a file on a file system without holes would answer EOPNOTSUPP.
    let file = Arc::new(sealed_memfd(2 * LEN).unwrap());
    let ram = ram(Backing::File { file: file.clone(), offset: 0, sharing: FileSharing::Shared });
    fill(&ram, 7);
    let before = file.metadata().unwrap().blocks();
    assert_eq!(ram.reclaim(GuestAddress(0), 8 * MIB).unwrap(), 8 * MIB);
    assert_eq!(before - file.metadata().unwrap().blocks(), (8 << 20) / 512);
    assert_eq!((byte(&ram, 0), byte(&ram, 8 * MIB)), (0, 7));
}

#[test]
fn a_private_file_never_shows_its_old_bytes_again() {
    let file = file_of(0x5a);
    let ram = ram(Backing::File { file: file.clone(), offset: 0, sharing: FileSharing::Private });
    fill(&ram, 7);
    // Less than a block stays as it is.
    assert_eq!(ram.reclaim(GuestAddress(PAGE_SIZE), MIB).unwrap(), 0);
    assert_eq!(byte(&ram, PAGE_SIZE), 7);
    // Of a longer range whole blocks go.
    let start = (1 << 32) + MIB;
    assert_eq!(ram.reclaim(GuestAddress(start), 8 * MIB).unwrap(), 6 * MIB);
    let edges = [start, start + MIB - 1, start + MIB, start + 7 * MIB - 1, start + 7 * MIB];
    assert_eq!(edges.map(|at| byte(&ram, at)), [7, 7, 0, 0, 7]);
    // What is anonymous by now goes in any piece.
    ram.write_obj(1u8, GuestAddress(start + MIB)).unwrap();
    assert_eq!(ram.reclaim(GuestAddress(start + MIB), PAGE_SIZE).unwrap(), PAGE_SIZE);
    assert_eq!(byte(&ram, start + MIB), 0);
    // And the file is as it was.
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_at(&*file, &mut byte, LEN + 3 * MIB).unwrap();
    assert_eq!(byte, [0x5a]);
}

#[test]
fn only_whole_pages_inside_ram() {
    let ram = ram(Backing::Anonymous);
    fill(&ram, 7);
    assert_eq!(ram.reclaim(GuestAddress(1), PAGE_SIZE).unwrap(), 0);
    assert_eq!(ram.reclaim(GuestAddress(1), 2 * PAGE_SIZE).unwrap(), PAGE_SIZE);
    assert_eq!([0, PAGE_SIZE, 2 * PAGE_SIZE].map(|at| byte(&ram, at)), [7, 0, 7]);
    assert_eq!(ram.reclaim(GuestAddress(0), 0).unwrap(), 0);
    for (start, len) in [
        (LEN, PAGE_SIZE),
        (LEN - PAGE_SIZE, 2 * PAGE_SIZE),
        (0, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX - PAGE_SIZE, 2 * PAGE_SIZE),
        ((1 << 32) - PAGE_SIZE, 2 * PAGE_SIZE),
        ((1 << 32) + LEN - 1, 2),
    ] {
        let refused = ram.reclaim(GuestAddress(start), len);
        assert!(matches!(refused, Err(ReclaimError::NotRam { .. })), "{start:#x} {len:#x}: {refused:?}");
    }
}

#[test]
fn the_number_of_replaced_blocks_is_bounded() {
    let ram = ram(Backing::File { file: file_of(1), offset: 0, sharing: FileSharing::Private });
    assert_eq!(ram.reclaim(GuestAddress(0), 2 * MIB).unwrap(), 2 * MIB);
    ram.replaced.0.fetch_add(MAX_REPLACED - 2, Ordering::Relaxed);
    let high = GuestAddress(1 << 32);
    assert_eq!(ram.reclaim(high, LEN).unwrap(), 2 * MIB, "one bound for all of the machine");
    assert_eq!(ram.reclaim(GuestAddress(0), LEN).unwrap(), 2 * MIB, "the one block that is anonymous");
    assert_eq!(ram.reclaim(high, LEN).unwrap(), 2 * MIB);
    assert_eq!(ram.replaced.0.load(Ordering::Relaxed), MAX_REPLACED);
}

/// What the guest frees under an overlay must not show the file again.
#[test]
fn memory_over_a_file_reads_as_zeros_too() {
    let ram = ram(Backing::Anonymous);
    fill(&ram, 7);
    let file: Arc<dyn super::super::overlay::OverlaySource> = file_of(3);
    let start = 4 * MIB;
    ram.overlay(GuestAddress(start), 4 * MIB, &file).unwrap();
    ram.write_obj(9u8, GuestAddress(start)).unwrap();
    let at = [start - 1, start, start + 1, start + 2 * MIB, start + 4 * MIB].map(GuestAddress);
    let bytes = || at.map(|at| byte(&ram, at.0));
    assert_eq!(bytes(), [7, 9, 3, 3, 7]);
    // Less than a block stays as it is; blocks without the file go page by page.
    assert_eq!(ram.reclaim(GuestAddress(start), 4096).unwrap(), 0);
    assert_eq!(bytes(), [7, 9, 3, 3, 7]);
    assert_eq!(ram.reclaim(GuestAddress(start - 4096), 4096).unwrap(), 4096);
    assert_eq!(ram.reclaim(GuestAddress(start - 4096), 2 * MIB + 4096).unwrap(), 2 * MIB + 4096);
    assert_eq!(bytes(), [0, 0, 0, 3, 7]);
    ram.write_obj(5u8, GuestAddress(start)).unwrap();
    assert_eq!(ram.reclaim(GuestAddress(start), 4 * MIB + 4096).unwrap(), 4 * MIB + 4096);
    assert_eq!(bytes(), [0, 0, 0, 0, 0]);
}
