//! What guest RAM leaves in the address space.
//!
//! One test in a process of its own: it reads the process's memory map, in which other tests would allocate.

#![allow(clippy::unwrap_used)] // helpers of a test

use purlin_vmm_core::memory::alloc::allocate;
use purlin_vmm_core::memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, GuestRam, MemoryLayout, MemoryRegionAddress,
    RamConfig,
};

/// Bounds and permissions of the mapping that contains `addr`.
fn mapping_at(addr: u64) -> Option<(u64, u64, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        (start..end).contains(&addr).then(|| (start, end, words.next().unwrap_or("").to_owned()))
    })
}

fn host_address(ram: &GuestRam) -> u64 {
    let region = ram.iter().next().unwrap();
    region.get_host_address(MemoryRegionAddress(0)).unwrap() as u64
}

#[test]
fn the_mapping_is_all_there_is_and_goes_with_the_last_clone() {
    // An odd start leaves a piece of the reservation on both sides, which must have been given back. A
    // thread's guard page may follow by chance, so one page is not yet a piece of the reservation.
    let ram = GuestRam::from_ranges(&[(GuestAddress(0x1000), 64 << 20)]).unwrap();
    let addr = host_address(&ram);
    assert_eq!(addr % 0x20_0000, 0x1000);
    let before = mapping_at(addr - 1);
    assert!(before.as_ref().is_none_or(|(_, _, perms)| perms != "---p"), "{before:?}");
    let after = mapping_at(addr + (64 << 20));
    assert!(
        after.as_ref().is_none_or(|(start, end, perms)| perms != "---p" || end - start <= 0x1000),
        "{after:?}"
    );

    let ram = allocate(&MemoryLayout::new(3 << 30).unwrap(), &RamConfig::default()).unwrap();
    let inside = host_address(&ram) + (1 << 30);
    let clone = ram.clone();
    drop(ram);
    assert_eq!(mapping_at(inside).unwrap().2, "rw-p");
    clone.write_obj(7u8, GuestAddress(0)).unwrap();
    drop(clone);
    assert_eq!(mapping_at(inside), None);
}
