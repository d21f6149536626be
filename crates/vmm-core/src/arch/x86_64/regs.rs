//! Register values and tables for the 64-bit entry of a Linux kernel.
//!
//! Linux `Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol": long mode with paging on, the kernel,
//! zero page and command line identity mapped, flat segments with selectors 0x10 (`__BOOT_CS`) and 0x18
//! (`__BOOT_DS`) recommended, interrupts off, RSI the zero page. The selectors here are 8 and 0x10 as in
//! other microVMs: a 64-bit kernel loads its own table before it uses a selector. Descriptor and register
//! formats: Intel SDM volume 3, chapters 2 to 4.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};

use crate::boot::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::{BOOT_STACK, GDT, HUGE_PAGE, IDT, PAGE_DIRECTORY, PDPT, PML4, ZERO_PAGE};

const CODE: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const TSS: u64 = 0x008f_8b00_0000_ffff;
const CODE_SELECTOR: u16 = 0x08;
const DATA_SELECTOR: u16 = 0x10;
const TSS_SELECTOR: u16 = 0x18;

pub(super) const CR0_PE: u64 = 1;
pub(super) const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
pub(super) const RFLAGS_RESERVED: u64 = 1 << 1;

/// Bytes of the identity map, from address 0 (1 GiB).
pub const IDENTITY_MAP: u64 = 1 << 30;

/// General registers for a jump to `entry` with the zero page in RSI.
pub fn boot_regs(entry: u64) -> kvm_regs {
    kvm_regs {
        rip: entry,
        rsi: ZERO_PAGE,
        rsp: BOOT_STACK,
        rbp: BOOT_STACK,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    }
}

/// Special registers for the same: `reset`, as KVM gave them, with segments, tables, paging and mode
/// replaced. The APIC base and pending interrupts stay.
pub fn boot_sregs(reset: &kvm_sregs) -> kvm_sregs {
    let data = segment(DATA_SELECTOR, DATA);
    kvm_sregs {
        cs: segment(CODE_SELECTOR, CODE),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: segment(TSS_SELECTOR, TSS),
        gdt: kvm_dtable { base: GDT, limit: 0x1f, ..Default::default() },
        idt: kvm_dtable { base: IDT, limit: 7, ..Default::default() },
        cr0: CR0_PE | CR0_ET | CR0_PG,
        cr3: PML4,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        ..*reset
    }
}

/// Floating point state: x87 control word and MXCSR as after reset, with all exceptions masked.
pub fn boot_fpu() -> kvm_fpu {
    kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() }
}

/// The segment register a descriptor loads.
pub(super) fn segment(selector: u16, descriptor: u64) -> kvm_segment {
    let field = |shift: u32, bits: u64| (descriptor >> shift) & bits;
    let bit = |shift: u32| field(shift, 1) as u8;
    let limit = (field(0, 0xffff) | field(48, 0xf) << 16) as u32;
    kvm_segment {
        selector,
        base: field(16, 0xff_ffff) | field(56, 0xff) << 24,
        limit: if bit(55) == 1 { limit << 12 | 0xfff } else { limit },
        type_: field(40, 0xf) as u8,
        s: bit(44),
        dpl: field(45, 3) as u8,
        present: bit(47),
        avl: bit(52),
        l: bit(53),
        db: bit(54),
        g: bit(55),
        unusable: 0,
        padding: 0,
    }
}

/// The global descriptor table: null, code, data, task state.
pub fn gdt() -> [u8; 32] {
    table([0, CODE, DATA, TSS])
}

/// Page directory mapping the first GiB to itself in 2 MiB pages: present, writable, large.
pub fn page_directory() -> [u8; 4096] {
    let entries: [u64; 512] = std::array::from_fn(|i| (i as u64 * HUGE_PAGE) | 0x83);
    table(entries)
}

/// Descriptors or page table entries as they lie in memory.
pub(super) fn table<const ENTRIES: usize, const LEN: usize>(entries: [u64; ENTRIES]) -> [u8; LEN] {
    let mut out = [0; LEN];
    for (place, entry) in out.chunks_exact_mut(8).zip(entries) {
        place.copy_from_slice(&entry.to_le_bytes());
    }
    out
}

/// Writes descriptor tables and page tables to guest memory.
///
/// # Errors
///
/// [`BootError::Write`] if an address is not RAM.
pub fn write_boot_tables(ram: &GuestRam) -> Result<(), BootError> {
    write(ram, "global descriptor table", GDT, &gdt())?;
    write(ram, "interrupt descriptor table", IDT, &[0; 8])?;
    write(ram, "page table level 4", PML4, &(PDPT | 3).to_le_bytes())?;
    write(ram, "page table level 3", PDPT, &(PAGE_DIRECTORY | 3).to_le_bytes())?;
    write(ram, "page table level 2", PAGE_DIRECTORY, &page_directory())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn golden_gdt() {
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0,
            0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0,
            0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0,
            0xff, 0xff, 0, 0, 0, 0x8b, 0x8f, 0,
        ];
        assert_eq!(gdt(), expected);
    }

    #[test]
    fn segments_agree_with_the_table() {
        let sregs = boot_sregs(&kvm_sregs::default());
        let cs = sregs.cs;
        assert_eq!((cs.selector, cs.base, cs.limit, cs.type_), (8, 0, 0xffff_ffff, 0xb));
        assert_eq!((cs.present, cs.s, cs.l, cs.db, cs.g, cs.dpl), (1, 1, 1, 0, 1, 0));
        let ss = sregs.ss;
        assert_eq!((ss.selector, ss.base, ss.limit, ss.type_), (0x10, 0, 0xffff_ffff, 3));
        assert_eq!((ss.present, ss.s, ss.l, ss.db, ss.g), (1, 1, 0, 1, 1));
        let tr = sregs.tr;
        assert_eq!((tr.selector, tr.limit, tr.type_, tr.s, tr.present), (0x18, 0xffff_ffff, 0xb, 0, 1));
        let based = segment(0, 0x1234_0056_789a_bcde);
        assert_eq!((based.base, based.limit), (0x1256_789a, 0x4_bcde));
    }

    #[test]
    fn mode_is_replaced_and_the_rest_kept() {
        let reset = kvm_sregs {
            cr0: 0x6000_0010,
            cr8: 3,
            apic_base: 0xfee0_0900,
            interrupt_bitmap: [1, 2, 3, 4],
            ..Default::default()
        };
        let sregs = boot_sregs(&reset);
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8000_0011, 0x9000, 0x20, 0x500));
        assert_eq!((sregs.gdt.base, sregs.gdt.limit), (0x500, 0x1f));
        assert_eq!((sregs.idt.base, sregs.idt.limit), (0x520, 7));
        assert_eq!((sregs.apic_base, sregs.cr8), (reset.apic_base, 3));
        assert_eq!(sregs.interrupt_bitmap, reset.interrupt_bitmap);
    }

    #[test]
    fn general_registers() {
        let regs = boot_regs(0x100_0123);
        assert_eq!((regs.rip, regs.rsi, regs.rsp, regs.rbp), (0x100_0123, 0x7000, 0x8ff0, 0x8ff0));
        assert_eq!((regs.rflags, regs.rax, regs.rbx, regs.rdi), (2, 0, 0, 0));
        assert_eq!((boot_fpu().fcw, boot_fpu().mxcsr), (0x37f, 0x1f80));
    }

    #[test]
    fn page_tables_map_the_first_gib_to_itself() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        write_boot_tables(&ram).unwrap();
        let entry = |addr: u64| ram.read_obj::<u64>(GuestAddress(addr)).unwrap();
        assert_eq!((entry(PML4), entry(PML4 + 8)), (0xa003, 0));
        assert_eq!((entry(PDPT), entry(PDPT + 8)), (0xb003, 0));
        assert_eq!(entry(PAGE_DIRECTORY), 0x83);
        assert_eq!(entry(PAGE_DIRECTORY + 8 * 511), 0x3fe0_0083);
        assert_eq!(entry(GDT + 8), CODE);
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0xb000)]).unwrap();
        assert!(write_boot_tables(&tiny).is_err());
    }
}
