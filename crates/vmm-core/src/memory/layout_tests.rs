use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn split_table() {
    // RAM in MiB, end of low RAM, end of high RAM
    let table: &[(u64, u64, Option<u64>)] = &[
        (16, 16 * MIB, None),
        (256, 256 * MIB, None),
        (3311, 3311 * MIB, None),
        (3327, 3327 * MIB, None),
        (3328, 0xd000_0000, None),
        (3329, 0xd000_0000, Some(GAP_END + MIB)),
        (4096, 0xd000_0000, Some(GAP_END + 768 * MIB)),
        (65536, 0xd000_0000, Some(GAP_END + (65536 - 3328) * MIB)),
        (1 << 20, 0xd000_0000, Some(GAP_END + ((1 << 20) - 3328) * MIB)),
    ];
    for &(mib, low_end, high_end) in table {
        let layout = MemoryLayout::new(mib * MIB).unwrap();
        assert_eq!(layout.low_end(), low_end, "{mib} MiB");
        assert_eq!(layout.high_end(), high_end, "{mib} MiB");
        assert_eq!(layout.ram_bytes(), mib * MIB, "{mib} MiB");
    }
    let one_page_over = MemoryLayout::new(GAP_START + PAGE_SIZE).unwrap();
    assert_eq!(one_page_over.high_end(), Some(GAP_END + PAGE_SIZE));
}

#[test]
fn refused_sizes() {
    assert_eq!(MemoryLayout::new(0), Err(LayoutError::RamTooSmall { bytes: 0 }));
    assert_eq!(MemoryLayout::new(MIN_RAM - 1), Err(LayoutError::RamTooSmall { bytes: MIN_RAM - 1 }));
    assert_eq!(
        MemoryLayout::new(MIN_RAM + 1),
        Err(LayoutError::RamNotPages { bytes: MIN_RAM + 1, rounded: MIN_RAM + PAGE_SIZE })
    );
    assert_eq!(MemoryLayout::new(u64::MAX), Err(LayoutError::RamTooLarge { bytes: u64::MAX }));
    let text = MemoryLayout::new(MIN_RAM + 1).unwrap_err().to_string();
    assert!(text.contains("16777217") && text.contains("16781312"), "{text}");
}

#[test]
fn e820_ends_are_exact() {
    let small: Vec<_> = MemoryLayout::new(256 * MIB).unwrap().e820().collect();
    assert_eq!(
        small,
        [RamRange { start: 0, len: 0x9fc00 }, RamRange { start: 0x10_0000, len: 256 * MIB - 0x10_0000 }]
    );
    let large: Vec<_> = MemoryLayout::new(6144 * MIB).unwrap().e820().collect();
    assert_eq!(
        large,
        [
            RamRange { start: 0, len: 0x9fc00 },
            RamRange { start: 0x10_0000, len: 0xcff0_0000 },
            RamRange { start: GAP_END, len: 2816 * MIB },
        ]
    );
}

#[test]
fn kernel_fits_or_the_error_says_how_much() {
    let load = 16 * MIB;
    let size = 0x149_0000;
    let layout = MemoryLayout::new(64 * MIB).unwrap();
    assert_eq!(layout.check_kernel(load, size), Ok(load + size + KERNEL_BSS_SLACK));
    let small = MemoryLayout::new(32 * MIB).unwrap();
    let needed = load + size + KERNEL_BSS_SLACK;
    assert_eq!(
        small.check_kernel(load, size),
        Err(LayoutError::KernelDoesNotFit { load, size, needed, low_end: 32 * MIB })
    );
    assert!(MemoryLayout::new(needed).unwrap().check_kernel(load, size).is_ok());
    assert_eq!(layout.check_kernel(0x1000, 1), Err(LayoutError::KernelLoadAddress { load: 0x1000 }));
    assert_eq!(layout.check_kernel(load + 1, 1), Err(LayoutError::KernelLoadAddress { load: load + 1 }));
    assert!(layout.check_kernel(load, u64::MAX).is_err());
}

#[test]
fn initrd_placement_table() {
    let kernel_end = 40 * MIB;
    // RAM in MiB, size, addr_max, start
    let table: &[(u64, u64, u32, Option<u64>)] = &[
        (256, MIB, u32::MAX, Some(255 * MIB)),
        (256, MIB + 1, u32::MAX, Some(255 * MIB - PAGE_SIZE)),
        (256, MIB, 0x07ff_ffff, Some(127 * MIB)),
        (256, 216 * MIB, u32::MAX, Some(40 * MIB)),
        (256, 216 * MIB + 1, u32::MAX, None),
        (8192, MIB, u32::MAX, Some(GAP_START - MIB)),
        (256, 0, u32::MAX, None),
        (256, u64::MAX, u32::MAX, None),
    ];
    for &(ram, size, addr_max, start) in table {
        let layout = MemoryLayout::new(ram * MIB).unwrap();
        assert_eq!(layout.place_initrd(size, kernel_end, addr_max).ok(), start, "{ram} {size} {addr_max:#x}");
    }
}

#[test]
fn windows_lie_above_ram_and_do_not_overlap() {
    let small = MemoryLayout::new(512 * MIB).unwrap();
    let mut windows = small.windows(40);
    assert_eq!(windows.allocate(512 * MIB).unwrap(), RamRange { start: GAP_END, len: 512 * MIB });
    assert_eq!(windows.allocate(1).unwrap(), RamRange { start: GAP_END + 512 * MIB, len: HUGE_PAGE });
    assert_eq!(windows.allocate(8 << 30).unwrap().start, GAP_END + 514 * MIB);
    assert!(windows.allocate(0).is_err());
    assert!(windows.allocate(1 << 40).is_err());
    assert!(windows.allocate(u64::MAX).is_err());
    // exactly 5 GiB of address space used: strictly above, as libkrun does
    assert_eq!(MemoryLayout::new(GAP_START + (1 << 30)).unwrap().windows_start(), 6 << 30);
    assert_eq!(MemoryLayout::new(GAP_START + MIB).unwrap().windows_start(), 5 << 30);
}

#[test]
fn slots_end_below_the_io_apic() {
    assert_eq!(mmio_slot(0), Some(0xd000_0000));
    assert_eq!(mmio_slot(18), Some(0xd001_2000));
    let last = ((IO_APIC - GAP_START) / MMIO_SLOT_SIZE) as u32 - 1;
    assert_eq!(mmio_slot(last), Some(IO_APIC - MMIO_SLOT_SIZE));
    assert_eq!(mmio_slot(last + 1), None);
    assert_eq!(mmio_slot(u32::MAX), None);
}

proptest! {
    #[test]
    fn any_accepted_size_is_exact_and_clear_of_the_gap(pages in MIN_RAM / PAGE_SIZE..=MAX_RAM / PAGE_SIZE) {
        let bytes = pages * PAGE_SIZE;
        let layout = MemoryLayout::new(bytes).unwrap();
        prop_assert_eq!(layout.ram_bytes(), bytes);
        for range in layout.ranges() {
            prop_assert!(range.len > 0);
            prop_assert!(range.end() <= GAP_START || range.start >= GAP_END);
            prop_assert!(range.end() <= layout.windows_start() || range.start == 0);
        }
        prop_assert!(layout.windows_start() >= layout.high_end().unwrap_or(0));
    }
}
