use std::io::Write;

use vm_memory::{Bytes, GuestMemory, GuestMemoryRegion, MemoryRegionAddress};

use super::*;

const MIB: u64 = 1 << 20;

fn config(backing: Backing) -> RamConfig {
    RamConfig { backing, ..RamConfig::default() }
}

fn host_address(region: &GuestRegion) -> u64 {
    region.get_host_address(MemoryRegionAddress(0)).unwrap() as u64
}

fn file_of(len: u64) -> File {
    let file = sealed_memfd(len).unwrap();
    (&file).write_all(b"hello").unwrap();
    file
}

#[test]
fn both_sides_of_the_gap_are_congruent_and_exact() {
    let layout = MemoryLayout::new(4 << 30).unwrap();
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let ram = allocate(&layout, &config(backing)).unwrap();
        let got: Vec<_> = ram.iter().map(|r| (r.start_addr().0, r.len())).collect();
        assert_eq!(got, [(0, 0xd000_0000), (1 << 32, 768 * MIB)]);
        for region in ram.iter() {
            assert_eq!(host_address(region) % HUGE_PAGE, region.start_addr().0 % HUGE_PAGE);
        }
        let last = GuestAddress((1 << 32) + 768 * MIB - 8);
        ram.write_obj(0x1122_3344_5566_7788u64, last).unwrap();
        assert_eq!(ram.read_obj::<u64>(last).unwrap(), 0x1122_3344_5566_7788);
        assert!(ram.write_obj(0u64, GuestAddress(0xd000_0000 - 4)).is_err());
        assert!(ram.write_obj(0u8, GuestAddress(0xd000_0000)).is_err());
    }
}

#[test]
fn memfd_is_shared_and_says_where() {
    let layout = MemoryLayout::new(3330 * MIB).unwrap();
    let ram = allocate(&layout, &config(Backing::Memfd)).unwrap();
    let offsets: Vec<_> = ram.iter().map(|r| r.file_offset().unwrap().start()).collect();
    assert_eq!(offsets, [0, 0xd000_0000]);
    ram.write_slice(b"peer", GuestAddress(1 << 32)).unwrap();
    let file = ram.iter().next().unwrap().file_offset().unwrap().file();
    let mut seen = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut seen, 0xd000_0000).unwrap();
    assert_eq!(&seen, b"peer");
}

#[test]
fn private_and_shared_files() {
    for (sharing, after) in [(FileSharing::Private, b"hello"), (FileSharing::Shared, b"HELLO")] {
        let file = Arc::new(file_of(17 * MIB));
        let backing = Backing::File { file: file.clone(), offset: 0, sharing };
        let ram = allocate(&MemoryLayout::new(16 * MIB).unwrap(), &config(backing)).unwrap();
        let mut seen = [0; 5];
        ram.read_slice(&mut seen, GuestAddress(0)).unwrap();
        assert_eq!(&seen, b"hello");
        ram.write_slice(b"HELLO", GuestAddress(0)).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&*file, &mut seen, 0).unwrap();
        assert_eq!(&seen, after, "{sharing:?}");
    }
}

#[test]
fn unusable_files_are_typed_errors() {
    let layout = MemoryLayout::new(16 * MIB).unwrap();
    let file = Arc::new(file_of(16 * MIB));
    let with = |offset, file: &Arc<File>, sharing| {
        allocate(&layout, &config(Backing::File { file: file.clone(), offset, sharing })).unwrap_err()
    };
    let short = with(PAGE_SIZE, &file, FileSharing::Private);
    assert!(matches!(short, AllocError::FileTooShort { have, need, offset }
        if have == 16 * MIB && need == 16 * MIB && offset == PAGE_SIZE));
    let unaligned = with(1, &file, FileSharing::Private);
    assert!(matches!(unaligned, AllocError::FileOffset { offset: 1 }));
    let overflow = with(!0xfff, &file, FileSharing::Private);
    assert!(matches!(overflow, AllocError::Overflow), "{overflow}");
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let denied = with(0, &Arc::new(read_only), FileSharing::Shared);
    assert!(matches!(&denied, AllocError::Map { bytes, backing: "shared file", source, .. }
        if *bytes == 16 * MIB && source.raw_os_error() == Some(libc::EACCES)));
}

#[test]
fn more_than_the_address_space_is_an_error_with_the_size() {
    // A user process has 47 address bits for everything.
    let bytes = 1u64 << 47;
    let err = allocate_ranges(&[RamRange { start: 0, len: bytes }], &RamConfig::default()).unwrap_err();
    assert!(matches!(err, AllocError::Map { bytes: b, guest: 0, backing: "anonymous", .. } if b == bytes));
    assert!(err.to_string().contains("140737488355328"), "{err}");
    let err = allocate_ranges(&[RamRange { start: 0, len: u64::MAX }], &RamConfig::default()).unwrap_err();
    assert!(matches!(err, AllocError::Overflow));
}

#[test]
fn hugetlb_works_or_names_the_pool() {
    let odd = MemoryLayout::new(17 * MIB).unwrap();
    let backing = Backing::Hugetlb(HugePageSize::Mib2);
    let err = allocate(&odd, &config(backing.clone())).unwrap_err();
    assert!(matches!(err, AllocError::HugePageMultiple { page_bytes: 0x20_0000, .. }));

    // 256 GiB of explicit huge pages are on no test machine.
    let huge = MemoryLayout::new(256 << 30).unwrap();
    let err = allocate(&huge, &config(backing.clone())).unwrap_err();
    assert!(
        matches!(err, AllocError::HugePages { pages: 1664, page_bytes: 0x20_0000, guest: 0, .. }),
        "{err}"
    );
    assert!(err.to_string().contains("nr_hugepages"));

    match allocate(&MemoryLayout::new(16 * MIB).unwrap(), &config(backing)) {
        Ok(ram) => {
            assert_eq!(host_address(ram.iter().next().unwrap()) % HUGE_PAGE, 0);
            ram.write_obj(1u8, GuestAddress(0)).unwrap();
        }
        Err(e) => {
            assert!(matches!(e, AllocError::HugePages { pages: 8, .. }), "{e}");
            println!("skipped in part: the host's pool of 2 MiB pages is empty");
        }
    }
}

#[test]
fn bad_range_lists_are_errors() {
    let ranges = |list: &[(u64, u64)]| {
        let list: Vec<_> = list.iter().map(|&(start, len)| RamRange { start, len }).collect();
        allocate_ranges(&list, &RamConfig::default())
    };
    assert!(matches!(ranges(&[]), Err(AllocError::Ranges(_))));
    assert!(matches!(ranges(&[(0x1000, 0x1000), (0, 0x1000)]), Err(AllocError::Ranges(_))));
    assert!(matches!(ranges(&[(0, 0x2000), (0x1000, 0x1000)]), Err(AllocError::Ranges(_))));
    assert!(matches!(ranges(&[(u64::MAX, 0x1000)]), Err(AllocError::Overflow)));
    assert!(ranges(&[(0, 0x400)]).is_ok());
}

/// The line of a map of this process for the mapping that begins at an address.
fn map_line(map: &str, addr: u64) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/self/{map}")).unwrap();
    text.lines().find(|line| line.starts_with(&format!("{addr:x}"))).map(str::to_owned)
}

#[test]
fn huge_pages_if_they_are_free() {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.unwrap_or_default().trim().parse().unwrap_or(0);
    let backing = Backing::HugetlbIfFree(HugePageSize::Mib2);
    let ram = allocate(&MemoryLayout::new(16 * MIB).unwrap(), &config(backing.clone())).unwrap();
    let line = map_line("numa_maps", host_address(ram.iter().next().unwrap())).unwrap();
    assert_eq!(line.contains(" huge"), free >= 8, "{free} free pages: {line}");
    drop(ram);
    let odd = allocate(&MemoryLayout::new(17 * MIB).unwrap(), &config(backing)).unwrap();
    let line = map_line("numa_maps", host_address(odd.iter().next().unwrap())).unwrap();
    assert!(!line.contains(" huge"), "{line}");
}

#[test]
fn ram_is_taken_from_the_nodes_named() {
    let layout = MemoryLayout::new(16 * MIB).unwrap();
    let bound = |start, len, nodes: &[u32]| {
        let binding = HostBinding { range: RamRange { start, len }, nodes: nodes.to_vec() };
        allocate(&layout, &RamConfig { bindings: vec![binding], ..RamConfig::default() })
    };
    let ram = bound(4 * MIB, 8 * MIB, &[0]).unwrap();
    let host = host_address(ram.iter().next().unwrap());
    let policy = |at: u64| map_line("numa_maps", host + at).unwrap().split(' ').nth(1).unwrap().to_owned();
    assert_eq!([0, 4 * MIB, 12 * MIB].map(policy), ["default", "bind:0", "default"]);
    ram.write_obj(1u8, GuestAddress(5 * MIB)).unwrap();

    for node in [1000, 5000] {
        let refused = bound(0, MIB, &[0, node]);
        assert!(
            matches!(&refused, Err(AllocError::Bind { nodes, .. }) if nodes == &[0, node]),
            "{refused:?}"
        );
    }
}
