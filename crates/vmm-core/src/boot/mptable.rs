//! The MP table of a guest without ACPI: processors, one IO-APIC, and its interrupt lines. Pure bytes.
//!
//! MultiProcessor Specification 1.4, chapter 4. All 24 IO-APIC pins are listed as ISA interrupts of the same
//! number (edge, active high by the bus default): 0 to 15 are the legacy lines, and Linux takes the source
//! number of the others as the interrupt number too, so that devices may use 5 to 23.
//!
//! The floating pointer is in the last KiB of base memory, with the table behind it while that fits below
//! 640 KiB (37 processors); a longer table goes to the BIOS ROM area, which the e820 map leaves out.

use thiserror::Error;

use super::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::{BASE_MEMORY_END, BIOS_ROM, HIGH_MEMORY, IO_APIC, LOCAL_APIC, MPTABLE};

/// Most processors an MP table can describe: 8-bit APIC identifiers, of which 255 is the broadcast one and
/// one more is the IO-APIC's.
pub const MAX_CPUS: u32 = 254;
/// IO-APIC pins.
pub const PINS: u8 = 24;

const POINTER_LEN: u64 = 16;
const SPEC_1_4: u8 = 4;
const APIC_VERSION: u8 = 0x14;
const CPU_ENABLED: u8 = 1;
const CPU_BOOT: u8 = 2;
const CPU_SIGNATURE: u32 = 0x600;
const CPU_FEATURES: u32 = 0x201; // FPU, APIC
const APIC_ENABLED: u8 = 1;
const INT: u8 = 0;
const NMI: u8 = 1;
const EXTINT: u8 = 3;
const ALL_APICS: u8 = 0xff;
const ISA_BUS: u8 = 0;

/// Why there is no MP table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MpTableError {
    /// No processor, or more than the format can number.
    #[error("an MP table describes 1 to {MAX_CPUS} processors, not {cpus}")]
    Cpus {
        /// Number asked for.
        cpus: u32,
    },
    /// The table would run past the end of the area it lives in.
    #[error("an MP table of {len} bytes at {addr:#x} runs past {end:#x}")]
    TooLong {
        /// Where it starts.
        addr: u64,
        /// Its length in bytes.
        len: usize,
        /// First address it may not use.
        end: u64,
    },
}

/// A built MP table: two pieces of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpTable {
    /// The floating pointer, for [`MPTABLE`].
    pub pointer: [u8; POINTER_LEN as usize],
    /// Guest address of the configuration table.
    pub table_addr: u64,
    /// The configuration table.
    pub table: Vec<u8>,
}

impl MpTable {
    /// Describes `cpus` processors with APIC identifiers 0, 1, …; the first one boots.
    ///
    /// # Errors
    ///
    /// [`MpTableError`] if the number is not in 1..=[`MAX_CPUS`].
    pub fn new(cpus: u32) -> Result<Self, MpTableError> {
        let count = u8::try_from(cpus).ok().filter(|&n| n > 0 && cpus <= MAX_CPUS);
        let table = configuration(count.ok_or(MpTableError::Cpus { cpus })?);
        let table_addr = place(table.len())?;
        Ok(MpTable { pointer: floating_pointer(table_addr as u32), table_addr, table })
    }

    /// Writes both pieces to guest memory.
    ///
    /// # Errors
    ///
    /// [`BootError::Write`] if an address is not RAM.
    pub fn write_to(&self, ram: &GuestRam) -> Result<(), BootError> {
        write(ram, "MP floating pointer", MPTABLE, &self.pointer)?;
        write(ram, "MP table", self.table_addr, &self.table)
    }
}

fn place(len: usize) -> Result<u64, MpTableError> {
    let behind_pointer = MPTABLE + POINTER_LEN;
    if behind_pointer + len as u64 <= BASE_MEMORY_END {
        return Ok(behind_pointer);
    }
    if BIOS_ROM + len as u64 <= HIGH_MEMORY {
        return Ok(BIOS_ROM);
    }
    Err(MpTableError::TooLong { addr: BIOS_ROM, len, end: HIGH_MEMORY })
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)).wrapping_neg()
}

fn floating_pointer(table: u32) -> [u8; 16] {
    let [a, b, c, d] = table.to_le_bytes();
    let body = |sum| [b'_', b'M', b'P', b'_', a, b, c, d, 1, SPEC_1_4, sum, 0, 0, 0, 0, 0];
    body(checksum(&body(0)))
}

fn configuration(cpus: u8) -> Vec<u8> {
    // At most 254 processors, so the IO-APIC's identifier is at most 255.
    let io_apic_id = cpus.saturating_add(1);
    let entries = entries(cpus, io_apic_id);
    let bytes = entries.concat();
    let whole = |sum| [header(bytes.len(), entries.len(), sum).as_slice(), &bytes].concat();
    whole(checksum(&whole(0)))
}

fn entries(cpus: u8, io_apic_id: u8) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = (0..cpus).map(processor).collect();
    entries.push(bus());
    entries.push(io_apic(io_apic_id));
    entries.extend((0..PINS).map(|pin| interrupt(3, INT, pin, io_apic_id, pin)));
    entries.push(interrupt(4, EXTINT, 0, 0, 0));
    entries.push(interrupt(4, NMI, 0, ALL_APICS, 1));
    entries
}

fn header(entry_bytes: usize, entry_count: usize, sum: u8) -> Vec<u8> {
    let mut header = Vec::with_capacity(44);
    header.extend(b"PCMP");
    // 44 + 20 × 254 + … is below 65536.
    header.extend((44 + entry_bytes as u16).to_le_bytes());
    header.extend([SPEC_1_4, sum]);
    header.extend(b"FC      000000000000");
    header.extend([0; 6]); // no OEM table
    header.extend((entry_count as u16).to_le_bytes());
    header.extend((LOCAL_APIC as u32).to_le_bytes());
    header.extend([0; 4]); // no extended table
    header
}

fn processor(id: u8) -> Vec<u8> {
    let flags = if id == 0 { CPU_ENABLED | CPU_BOOT } else { CPU_ENABLED };
    let mut entry = vec![0, id, APIC_VERSION, flags];
    entry.extend(CPU_SIGNATURE.to_le_bytes());
    entry.extend(CPU_FEATURES.to_le_bytes());
    entry.extend([0; 8]);
    entry
}

fn bus() -> Vec<u8> {
    [&[1, ISA_BUS], b"ISA   ".as_slice()].concat()
}

fn io_apic(id: u8) -> Vec<u8> {
    let mut entry = vec![2, id, APIC_VERSION, APIC_ENABLED];
    entry.extend((IO_APIC as u32).to_le_bytes());
    entry
}

/// An IO interrupt (type 3) or local interrupt (type 4) assignment; polarity and trigger as the bus has them.
fn interrupt(entry_type: u8, kind: u8, source: u8, apic: u8, pin: u8) -> Vec<u8> {
    vec![entry_type, kind, 0, 0, ISA_BUS, source, apic, pin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn golden_two_processors() {
        let mp = MpTable::new(2).unwrap();
        assert_eq!(mp.pointer, *b"_MP_\x10\xfc\x09\0\x01\x04\x8b\0\0\0\0\0");
        assert_eq!(mp.table_addr, 0x9_fc10);

        let t = &mp.table;
        assert_eq!(t.len(), 44 + 2 * 20 + 28 * 8);
        assert_eq!(t[..8], *b"PCMP\x34\x01\x04\xf9");
        assert_eq!(t[8..28], *b"FC      000000000000");
        assert_eq!(t[28..44], [0, 0, 0, 0, 0, 0, 30, 0, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0]);
        assert_eq!(t[44..64], [0, 0, 0x14, 3, 0, 6, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(t[64..84], [0, 1, 0x14, 1, 0, 6, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(t[84..92], *b"\x01\0ISA   ");
        assert_eq!(t[92..100], [2, 3, 0x14, 1, 0, 0, 0xc0, 0xfe]);
        assert_eq!(t[100..108], [3, 0, 0, 0, 0, 0, 3, 0]);
        assert_eq!(t[284..292], [3, 0, 0, 0, 0, 23, 3, 23]);
        assert_eq!(t[292..300], [4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(t[300..308], [4, 1, 0, 0, 0, 0, 0xff, 1]);
    }

    /// Reads a table back as an operating system would.
    fn walk(t: &[u8]) -> [usize; 5] {
        let word = |at: usize| u16::from_le_bytes([t[at], t[at + 1]]) as usize;
        assert_eq!(word(4), t.len());
        assert_eq!(t.iter().fold(0u8, |a, &b| a.wrapping_add(b)), 0);
        let (mut at, mut kinds) = (44, [0; 5]);
        while at < t.len() {
            kinds[t[at] as usize] += 1;
            at += if t[at] == 0 { 20 } else { 8 };
        }
        assert_eq!(at, t.len());
        assert_eq!(kinds.iter().sum::<usize>(), word(34));
        kinds
    }

    #[test]
    fn every_size_is_well_formed_and_has_a_place() {
        for cpus in 1..=MAX_CPUS {
            let mp = MpTable::new(cpus).unwrap();
            assert_eq!(walk(&mp.table), [cpus as usize, 1, 1, 24, 2]);
            assert_eq!(mp.pointer.iter().fold(0u8, |a, &b| a.wrapping_add(b)), 0);
            assert_eq!(mp.pointer[4..8], (mp.table_addr as u32).to_le_bytes());
            let end = mp.table_addr + mp.table.len() as u64;
            if cpus <= 37 {
                assert!(mp.table_addr == 0x9_fc10 && end <= 0xa_0000, "{cpus}");
            } else {
                assert!(mp.table_addr == 0xf_0000 && end <= 0x10_0000, "{cpus}");
            }
        }
    }

    #[test]
    fn refused_counts() {
        for cpus in [0, 255, 256, u32::MAX] {
            assert_eq!(MpTable::new(cpus), Err(MpTableError::Cpus { cpus }));
        }
        assert!(matches!(place(0x1_0001), Err(MpTableError::TooLong { .. })));
    }

    #[test]
    fn both_pieces_land() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        for cpus in [1, 254] {
            let mp = MpTable::new(cpus).unwrap();
            mp.write_to(&ram).unwrap();
            assert_eq!(ram.read_obj::<[u8; 4]>(GuestAddress(MPTABLE)).unwrap(), *b"_MP_");
            assert_eq!(ram.read_obj::<[u8; 4]>(GuestAddress(mp.table_addr)).unwrap(), *b"PCMP");
        }
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0x9_fc10)]).unwrap();
        assert!(MpTable::new(1).unwrap().write_to(&tiny).is_err());
    }
}
