//! Where things lie in guest physical memory, and the arithmetic on a given RAM size. Pure.
//!
//! ```text
//! 0           low structures: GDT, zero page, page tables, command line, MP table (constants below)
//! 0x10_0000   kernel, initial RAM disk, free RAM
//! 0xd000_0000 MMIO gap: virtio-mmio slots, IO-APIC, local APIC, TSS pages, firmware (end of low RAM)
//! 4 GiB       high RAM, if any
//! above RAM   shared memory windows (virtio-fs DAX), from 4 GiB or the next GiB boundary
//! ```
//!
//! The guest gets exactly the RAM that was asked for: what does not fit below the gap continues at 4 GiB,
//! and a kernel bundle is copied into RAM instead of being added to it.
//!
//! Sources: the x86 boot protocol (Linux `Documentation/arch/x86/boot.rst`) for what must lie below 1 MiB;
//! the MultiProcessor Specification 1.4 §4 for the MP table; the Intel SDM volume 3 for the APIC addresses;
//! the KVM API document for the TSS and identity-map pages. The rest is the map microVMs of the libkrun and
//! Firecracker family share.

use thiserror::Error;

/// Host and guest page size assumed for RAM sizes, in bytes.
pub const PAGE_SIZE: u64 = 0x1000;
/// Size in bytes of a large page, the granule of host and guest address congruence.
pub const HUGE_PAGE: u64 = 0x20_0000;

/// Smallest accepted RAM size in bytes (16 MiB).
pub const MIN_RAM: u64 = 16 << 20;
/// Largest accepted RAM size in bytes (1 TiB): addressable, with windows above it, on any host with 41 or
/// more physical address bits. Less capable hosts refuse the memory slot.
pub const MAX_RAM: u64 = 1 << 40;

/// Global descriptor table: four entries of 8 bytes.
pub const GDT: u64 = 0x500;
/// Interrupt descriptor table: one empty entry of 8 bytes.
pub const IDT: u64 = 0x520;
/// `hvm_start_info` of a PVH boot.
pub const PVH_START_INFO: u64 = 0x6000;
/// Module list of a PVH boot.
pub const PVH_MODULES: u64 = 0x6040;
/// Memory map of a PVH boot, where other kernels have their zero page.
pub const PVH_MEMORY_MAP: u64 = 0x7000;
/// Zero page (`struct boot_params`), 4 KiB.
pub const ZERO_PAGE: u64 = 0x7000;
/// Initial stack pointer.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Top-level page table; the page-directory pointer table and one page directory follow, 4 KiB each.
pub const PML4: u64 = 0x9000;
/// Page-directory pointer table.
pub const PDPT: u64 = 0xa000;
/// Page directory of the identity map.
pub const PAGE_DIRECTORY: u64 = 0xb000;
/// Kernel command line, NUL-terminated.
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes reserved for the command line and its NUL.
pub const CMDLINE_CAPACITY: u64 = 0x1_0000;
/// End of the low RAM range in the e820 map, and the MP floating pointer: the last KiB of base memory, the
/// second place where the MP specification (§4) has an operating system look.
pub const MPTABLE: u64 = 0x9_fc00;
/// End of base memory (640 KiB).
pub const BASE_MEMORY_END: u64 = 0xa_0000;
/// ACPI tables, the RSDP first; the start of the area where the RSDP is searched for (ACPI 6.5 §5.2.5.1), not in the
/// e820 map. Ends at [`BIOS_ROM`].
pub const RSDP: u64 = 0xe_0000;
/// BIOS ROM area, not in the e820 map; an MP table too long for [`MPTABLE`] is put here.
pub const BIOS_ROM: u64 = 0xf_0000;
/// SMBIOS table, behind the longest MP table, in the area where its entry point is searched for (DSP0134 §5.2.2).
pub const SMBIOS: u64 = 0xf_8000;
/// Where a processor begins in real mode, and a kernel that restarts by BIOS.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Start of memory above 1 MiB.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Start of the gap below 4 GiB: end of low RAM and base of virtio-mmio slot 0.
pub const GAP_START: u64 = 0xd000_0000;
/// End of the gap: start of high RAM.
pub const GAP_END: u64 = 1 << 32;
/// Distance between virtio-mmio slots, and size of each, in bytes.
pub const MMIO_SLOT_SIZE: u64 = 0x1000;
/// IO-APIC registers.
pub const IO_APIC: u64 = 0xfec0_0000;
/// Local APIC registers.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// One page for KVM's real-mode identity map (`KVM_SET_IDENTITY_MAP_ADDR`), which Intel hosts need. KVM's default would
/// leave firmware 256 KiB.
pub const KVM_IDENTITY_MAP: u64 = 0xfeff_c000;
/// Three pages for `KVM_SET_TSS_ADDR`.
pub const KVM_TSS: u64 = 0xfeff_d000;
/// Up to 16 MiB of firmware, which ends at 4 GiB.
pub const FIRMWARE: u64 = 0xff00_0000;

/// First interrupt line given to a virtio-mmio device.
pub const FIRST_DEVICE_IRQ: u32 = 5;
/// Last interrupt line of the IO-APIC.
pub const LAST_DEVICE_IRQ: u32 = 23;

/// Free RAM required behind a kernel image whose memory size is unknown, in bytes: room for `.bss` and
/// `.brk`, which a bundle does not contain.
pub const KERNEL_BSS_SLACK: u64 = 8 << 20;

const GIB: u64 = 1 << 30;

/// Guest address of virtio-mmio slot `n`, or `None` if it would reach the IO-APIC.
pub const fn mmio_slot(n: u32) -> Option<u64> {
    // Cannot overflow: a u32 times 4 KiB is below 2^44.
    let base = GAP_START + n as u64 * MMIO_SLOT_SIZE;
    if base + MMIO_SLOT_SIZE <= IO_APIC { Some(base) } else { None }
}

/// Why a memory layout is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Less RAM than any guest can use.
    #[error("RAM size {bytes} bytes is below the minimum of {MIN_RAM} bytes (16 MiB); ask for more RAM")]
    RamTooSmall {
        /// Size asked for, in bytes.
        bytes: u64,
    },
    /// More RAM than the layout supports.
    #[error("RAM size {bytes} bytes is above the maximum of {MAX_RAM} bytes (1 TiB); ask for less RAM")]
    RamTooLarge {
        /// Size asked for, in bytes.
        bytes: u64,
    },
    /// The RAM size is not a whole number of pages.
    #[error("RAM size {bytes} bytes is not a multiple of {PAGE_SIZE}; round it up to {rounded} bytes")]
    RamNotPages {
        /// Size asked for, in bytes.
        bytes: u64,
        /// The next size that would be accepted, in bytes.
        rounded: u64,
    },
    /// The kernel does not fit into low RAM.
    #[error(
        "kernel of {size} bytes at {load:#x} needs RAM up to {needed:#x}, but low RAM ends at {low_end:#x}; \
         ask for at least {needed} bytes of RAM"
    )]
    KernelDoesNotFit {
        /// Guest address of the first byte.
        load: u64,
        /// Size in bytes, without slack.
        size: u64,
        /// First address behind the kernel and its slack.
        needed: u64,
        /// End of low RAM.
        low_end: u64,
    },
    /// The kernel would be loaded over the structures below 1 MiB, or not at a page boundary.
    #[error("kernel load address {load:#x} is not a page-aligned address at or above {HIGH_MEMORY:#x}")]
    KernelLoadAddress {
        /// Guest address of the first byte.
        load: u64,
    },
    /// There is no room for the initial RAM disk above the kernel.
    #[error(
        "initial RAM disk of {size} bytes does not fit between the kernel's end {kernel_end:#x} and \
         {limit:#x}; ask for more RAM"
    )]
    InitrdDoesNotFit {
        /// Size in bytes.
        size: u64,
        /// First address behind the kernel.
        kernel_end: u64,
        /// First address the RAM disk may not use.
        limit: u64,
    },
    /// A shared memory window of no size, or beyond the guest's address space.
    #[error("shared memory window of {size} bytes at {start:#x} does not fit below {limit:#x}")]
    WindowDoesNotFit {
        /// Size asked for, in bytes.
        size: u64,
        /// Where it would have started.
        start: u64,
        /// First address no window may use.
        limit: u64,
    },
}

/// A range of guest physical addresses that is RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RamRange {
    /// First guest address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl RamRange {
    /// First address behind the range.
    ///
    /// Saturates, for a range that no [`MemoryLayout`] produces.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// The RAM of one virtual machine, split at the gap below 4 GiB.
///
/// ```
/// use purlin_vmm_core::memory::MemoryLayout;
///
/// let layout = MemoryLayout::new(4 << 30)?;
/// assert_eq!(layout.low_end(), 0xd000_0000);
/// assert_eq!(layout.ranges().map(|r| r.len).sum::<u64>(), 4 << 30);
/// # Ok::<(), purlin_vmm_core::memory::LayoutError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLayout {
    low: RamRange,
    high: Option<RamRange>,
}

impl MemoryLayout {
    /// The layout of `ram_bytes` of RAM: all of it below the gap if it fits, the rest from 4 GiB.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] if the size is outside [`MIN_RAM`]..=[`MAX_RAM`] or not a multiple of [`PAGE_SIZE`].
    pub fn new(ram_bytes: u64) -> Result<Self, LayoutError> {
        if ram_bytes < MIN_RAM {
            return Err(LayoutError::RamTooSmall { bytes: ram_bytes });
        }
        if ram_bytes > MAX_RAM {
            return Err(LayoutError::RamTooLarge { bytes: ram_bytes });
        }
        if !ram_bytes.is_multiple_of(PAGE_SIZE) {
            let rounded = ram_bytes.next_multiple_of(PAGE_SIZE);
            return Err(LayoutError::RamNotPages { bytes: ram_bytes, rounded });
        }
        let low = RamRange { start: 0, len: ram_bytes.min(GAP_START) };
        let rest = ram_bytes.saturating_sub(GAP_START);
        let high = (rest > 0).then_some(RamRange { start: GAP_END, len: rest });
        Ok(MemoryLayout { low, high })
    }

    /// The RAM ranges in address order: one, or two if RAM reaches above the gap.
    pub fn ranges(&self) -> impl Iterator<Item = RamRange> + use<> {
        [Some(self.low), self.high].into_iter().flatten()
    }

    /// All RAM in bytes, exactly what was asked for.
    pub fn ram_bytes(&self) -> u64 {
        self.ranges().fold(0, |sum, r| sum.saturating_add(r.len))
    }

    /// First address behind RAM below the gap.
    pub fn low_end(&self) -> u64 {
        self.low.end()
    }

    /// First address behind RAM above 4 GiB, or `None` if all RAM is below the gap.
    pub fn high_end(&self) -> Option<u64> {
        self.high.map(|r| r.end())
    }

    /// The usable RAM of the e820 map: base memory without its last KiB, low RAM from 1 MiB, high RAM.
    pub fn e820(&self) -> impl Iterator<Item = RamRange> + use<> {
        let base = RamRange { start: 0, len: MPTABLE };
        let low = RamRange { start: HIGH_MEMORY, len: self.low_end().saturating_sub(HIGH_MEMORY) };
        [Some(base), Some(low), self.high].into_iter().flatten()
    }

    /// Checks that a kernel image of unknown memory size fits: `[load, load + size)` and
    /// [`KERNEL_BSS_SLACK`] bytes behind it lie in low RAM. Returns the first address behind the slack.
    ///
    /// # Errors
    ///
    /// [`LayoutError::KernelLoadAddress`] or [`LayoutError::KernelDoesNotFit`].
    pub fn check_kernel(&self, load: u64, size: u64) -> Result<u64, LayoutError> {
        if load < HIGH_MEMORY || !load.is_multiple_of(PAGE_SIZE) {
            return Err(LayoutError::KernelLoadAddress { load });
        }
        let needed = load.saturating_add(size).saturating_add(KERNEL_BSS_SLACK);
        let low_end = self.low_end();
        if needed > low_end {
            return Err(LayoutError::KernelDoesNotFit { load, size, needed, low_end });
        }
        Ok(needed)
    }

    /// Places an initial RAM disk of `size` bytes as high as possible in low RAM: page aligned, above
    /// `kernel_end`, ending at or below `addr_max + 1` (the setup header's `initrd_addr_max`). Returns its
    /// first address.
    ///
    /// # Errors
    ///
    /// [`LayoutError::InitrdDoesNotFit`], also for a size of 0.
    pub fn place_initrd(&self, size: u64, kernel_end: u64, addr_max: u32) -> Result<u64, LayoutError> {
        let limit = self.low_end().min(u64::from(addr_max).saturating_add(1));
        let start = limit.checked_sub(size).map(|s| s & !(PAGE_SIZE - 1));
        match start {
            Some(start) if size > 0 && start >= kernel_end => Ok(start),
            _ => Err(LayoutError::InitrdDoesNotFit { size, kernel_end, limit }),
        }
    }

    /// Where shared memory windows begin: 4 GiB, or the GiB boundary strictly above high RAM.
    pub fn windows_start(&self) -> u64 {
        match self.high {
            None => GAP_END,
            Some(high) => (high.end() / GIB).saturating_add(1).saturating_mul(GIB),
        }
    }

    /// An allocator of shared memory windows for a guest with `address_bits` physical address bits (CPUID
    /// leaf 0x8000_0008 EAX bits 7:0; values outside 36..=52 are clamped to it).
    pub fn windows(&self, address_bits: u8) -> ShmWindows {
        ShmWindows { next: self.windows_start(), limit: 1 << address_bits.clamp(36, 52) }
    }
}

/// Hands out guest address ranges above RAM for shared memory windows, upward, each once.
#[derive(Debug, Clone)]
pub struct ShmWindows {
    next: u64,
    limit: u64,
}

impl ShmWindows {
    /// A window of at least `size` bytes: start and length are multiples of 2 MiB, which is the granule in
    /// which Linux maps device memory as pages (and so virtio-fs DAX).
    ///
    /// # Errors
    ///
    /// [`LayoutError::WindowDoesNotFit`] if `size` is 0 or the window ends beyond the address space.
    pub fn allocate(&mut self, size: u64) -> Result<RamRange, LayoutError> {
        let start = self.next;
        let refused = LayoutError::WindowDoesNotFit { size, start, limit: self.limit };
        let len = size.checked_next_multiple_of(HUGE_PAGE).filter(|&len| len > 0);
        let end = len.and_then(|len| start.checked_add(len)).filter(|&end| end <= self.limit);
        let (Some(len), Some(end)) = (len, end) else { return Err(refused) };
        self.next = end;
        Ok(RamRange { start, len })
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
