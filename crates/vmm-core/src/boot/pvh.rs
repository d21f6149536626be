//! What a kernel entered by PVH finds in memory: `hvm_start_info`, its module list and memory map. Pure bytes.
//!
//! Layout: Xen `public/arch-x86/hvm/start_info.h`, version 1.

use super::zero_page::Initrd;
use super::{BootError, write};
use crate::memory::layout::{
    CMDLINE, HIGH_MEMORY, MPTABLE, PVH_MEMORY_MAP, PVH_MODULES, PVH_START_INFO, RSDP,
};
use crate::memory::{GuestRam, MemoryLayout, RamRange};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// The three pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInfo {
    start: Vec<u8>,
    modules: Vec<u8>,
    memory_map: Vec<u8>,
}

impl StartInfo {
    /// For a machine with this RAM, a command line at [`CMDLINE`], and perhaps an initial RAM disk and ACPI tables (the
    /// guest address of their root, [`RSDP`], if they were written).
    pub fn new(layout: &MemoryLayout, initrd: Option<Initrd>, rsdp: Option<u64>) -> Self {
        // MP table, ACPI tables and what else firmware leaves below 1 MiB.
        let firmware = RamRange { start: MPTABLE, len: HIGH_MEMORY - MPTABLE };
        let mut map: Vec<_> = layout.e820().map(|range| (range, RAM)).collect();
        map.push((firmware, RESERVED));
        map.sort_by_key(|(range, _)| range.start);
        let entries: Vec<_> = map.iter().map(|&(range, kind)| entry(range, kind)).collect();

        let modules: Vec<_> = initrd.iter().map(|disk| longs([disk.addr, disk.len, 0, 0])).collect();
        let module_list = if modules.is_empty() { 0 } else { PVH_MODULES };
        let start = [
            words([MAGIC, VERSION, 0, modules.len() as u32]),
            longs([module_list, CMDLINE, rsdp.unwrap_or(0), PVH_MEMORY_MAP]),
            words([entries.len() as u32, 0]),
        ];
        StartInfo { start: start.concat(), modules: modules.concat(), memory_map: entries.concat() }
    }

    /// Writes all pieces to their addresses.
    ///
    /// # Errors
    ///
    /// [`BootError::Write`] if an address is not RAM.
    pub fn write_to(&self, ram: &GuestRam) -> Result<(), BootError> {
        write(ram, "hvm_start_info", PVH_START_INFO, &self.start)?;
        write(ram, "PVH module list", PVH_MODULES, &self.modules)?;
        write(ram, "PVH memory map", PVH_MEMORY_MAP, &self.memory_map)
    }
}

fn entry(range: RamRange, kind: u32) -> Vec<u8> {
    [longs([range.start, range.len]), words([kind, 0])].concat()
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.map(u32::to_le_bytes).concat()
}

fn longs<const N: usize>(longs: [u64; N]) -> Vec<u8> {
    longs.map(u64::to_le_bytes).concat()
}

const _: () = assert!(RSDP > MPTABLE && RSDP < HIGH_MEMORY);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn golden() {
        let layout = MemoryLayout::new(64 << 20).unwrap();
        let disk = Initrd { addr: 0x300_0000, len: 0x1234 };
        let info = StartInfo::new(&layout, Some(disk), Some(RSDP));
        #[rustfmt::skip]
        let start = [
            0x78, 0xc5, 0x6e, 0x33, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
            0x40, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0,
            0, 0, 0xe, 0, 0, 0, 0, 0, 0, 0x70, 0, 0, 0, 0, 0, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(info.start, start);
        assert_eq!(info.modules[..16], [0, 0, 0, 3, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]);
        assert_eq!(info.modules.len(), 32);
        #[rustfmt::skip]
        let map = [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfc, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
            0, 0xfc, 9, 0, 0, 0, 0, 0, 0, 4, 6, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0xf0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(info.memory_map, map);
    }

    #[test]
    fn pieces_land_and_name_each_other() {
        let layout = MemoryLayout::new(6 << 30).unwrap();
        let info = StartInfo::new(&layout, None, None);
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        info.write_to(&ram).unwrap();
        let long = |addr| ram.read_obj::<u64>(GuestAddress(addr)).unwrap();
        assert_eq!((long(0x6010), long(0x6020), long(0x6028)), (0, 0, PVH_MEMORY_MAP));
        assert_eq!(ram.read_obj::<u32>(GuestAddress(0x6030)).unwrap(), 4);
        // The last entry: RAM from 4 GiB.
        assert_eq!(long(0x7000 + 3 * 24), 1 << 32);
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0x7000)]).unwrap();
        assert!(info.write_to(&tiny).is_err());
    }
}
