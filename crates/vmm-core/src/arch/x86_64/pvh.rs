//! Register values and tables for the PVH entry of a kernel: 32-bit protected mode with flat segments, without
//! paging (Xen `docs/misc/pvh.pandoc`, "x86/HVM direct boot ABI").

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_sregs};

use super::regs::{CR0_ET, CR0_PE, RFLAGS_RESERVED, segment, table};
use crate::boot::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::{GDT, PVH_START_INFO};

const CODE: u64 = 0x00cf_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const TSS: u64 = 0x0000_8b00_0000_0067;

/// General registers for a jump to `entry` with `hvm_start_info` in EBX.
pub fn boot_regs(entry: u32) -> kvm_regs {
    kvm_regs { rip: entry.into(), rbx: PVH_START_INFO, rflags: RFLAGS_RESERVED, ..Default::default() }
}

/// Special registers for the same: `reset`, as KVM gave them, with segments, tables and mode replaced.
pub fn boot_sregs(reset: &kvm_sregs) -> kvm_sregs {
    let data = segment(0x10, DATA);
    kvm_sregs {
        cs: segment(0x08, CODE),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: segment(0x18, TSS),
        gdt: kvm_dtable { base: GDT, limit: 0x1f, ..Default::default() },
        idt: kvm_dtable::default(),
        cr0: CR0_PE | CR0_ET,
        cr3: 0,
        cr4: 0,
        ..*reset
    }
}

/// Writes the descriptor table to guest memory.
///
/// # Errors
///
/// [`BootError::Write`] if its address is not RAM.
pub fn write_boot_tables(ram: &GuestRam) -> Result<(), BootError> {
    write(ram, "global descriptor table", GDT, &table::<4, 32>([0, CODE, DATA, TSS]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn state_at_the_entry() {
        let regs = boot_regs(0x100_0000);
        assert_eq!((regs.rip, regs.rbx, regs.rflags, regs.rsi, regs.rsp), (0x100_0000, 0x6000, 2, 0, 0));
        let sregs = boot_sregs(&kvm_sregs { efer: 0, apic_base: 0xfee0_0900, ..Default::default() });
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x11, 0, 0, 0));
        let cs = sregs.cs;
        assert_eq!((cs.selector, cs.base, cs.limit, cs.type_), (8, 0, 0xffff_ffff, 0xb));
        assert_eq!((cs.l, cs.db, cs.g, cs.s, cs.present), (0, 1, 1, 1, 1));
        assert_eq!((sregs.ss.selector, sregs.ss.limit, sregs.ss.db), (0x10, 0xffff_ffff, 1));
        assert_eq!((sregs.tr.limit, sregs.tr.type_, sregs.tr.s, sregs.tr.present), (0x67, 0xb, 0, 1));
        assert_eq!(sregs.apic_base, 0xfee0_0900);
    }

    #[test]
    fn the_table_lands() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        write_boot_tables(&ram).unwrap();
        assert_eq!(ram.read_obj::<u64>(GuestAddress(GDT + 8)).unwrap(), CODE);
        assert_eq!(ram.read_obj::<u64>(GuestAddress(GDT + 24)).unwrap(), TSS);
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0x500)]).unwrap();
        assert!(write_boot_tables(&tiny).is_err());
    }
}
