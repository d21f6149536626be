//! Golden tables, and that every machine is well described. `PURLIN_BLESS=1` writes the golden files anew; look at
//! them with `iasl -d`.

use std::path::PathBuf;

use super::*;
use crate::memory::layout::{FIRST_DEVICE_IRQ, RSDP, mmio_slot};
use crate::memory::{Bytes, GuestAddress, GuestRam};

fn machine(cpus: u32, devices: u32) -> AcpiMachine {
    let devices = (0..devices).map(|n| (mmio_slot(n).unwrap(), FIRST_DEVICE_IRQ + n)).collect();
    AcpiMachine { cpus, devices, serial: vec![(0x3f8, 4)], extra: Vec::new() }
}

pub(super) fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/boot/acpi/golden").join(name);
    if std::env::var_os("PURLIN_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    assert!(bytes == expected, "{name} is not as in {}", path.display());
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

pub(super) fn le(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[test]
fn golden_tables_of_a_small_machine() {
    let tables = AcpiTables::build(&machine(2, 3)).unwrap();
    for (_, table) in tables.tables() {
        let name = String::from_utf8(table.signature().to_ascii_lowercase()).unwrap();
        golden(&format!("{name}.aml"), table.bytes());
    }
    golden("rsdp.bin", &tables.bytes()[..36]);
}

/// Follows the pointers as an operating system does.
#[test]
fn every_table_is_found_from_the_rsdp() {
    let extra = vec![Table::new(*b"SRAT", 3, &[0; 12]), Table::new(*b"SLIT", 1, b"body")];
    for (cpus, devices) in [(1, 0), (2, 3), (254, 18)] {
        let machine = AcpiMachine { extra: extra.clone(), ..machine(cpus, devices) };
        let tables = AcpiTables::build(&machine).unwrap();
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        tables.write_to(&ram).unwrap();
        let mut memory = vec![0; 1 << 20];
        ram.read_slice(&mut memory, GuestAddress(0)).unwrap();
        let table_at = |addr: u64| {
            let at = addr as usize;
            let len = le(&memory, at + 4, 4) as usize;
            let table = &memory[at..at + len];
            assert_eq!(sum(table), 0, "{:?}", &table[..4]);
            assert!(at + len <= 0xf_0000);
            table.to_vec()
        };
        let rsdp = &memory[RSDP as usize..RSDP as usize + 36];
        assert_eq!((&rsdp[..8], rsdp[15]), (b"RSD PTR ".as_slice(), 2));
        assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
        let xsdt = table_at(le(rsdp, 24, 8));
        let entries: Vec<_> = xsdt[36..].chunks(8).map(|entry| table_at(le(entry, 0, 8))).collect();
        let names: Vec<_> = entries.iter().map(|table| &table[..4]).collect();
        assert_eq!(names, [b"FACP", b"APIC", b"SRAT", b"SLIT"]);
        assert_eq!(&entries[3][36..], b"body");
        let dsdt = table_at(le(&entries[0], 140, 8));
        assert_eq!(&dsdt[..4], b"DSDT");
        let found = dsdt.windows(8).filter(|bytes| bytes == b"LNRO0005").count();
        assert_eq!(found, devices as usize);
        assert_eq!(entries[1].len(), 44 + 8 * cpus as usize + 12 + 6);
    }
}

#[test]
fn the_fadt_is_hardware_reduced() {
    let fadt = fixed::fadt(0x1234, true).unwrap();
    let fadt = fadt.bytes();
    assert_eq!((fadt.len(), fadt[8], fadt[131]), (276, 6, 5));
    assert_eq!(le(fadt, 112, 4), 1 << 20 | 1 << 10 | 1 << 5 | 1 << 4 | 1, "flags");
    assert_eq!(le(fadt, 109, 2), 0x3d, "boot architecture");
    assert_eq!((fadt[116], le(fadt, 120, 8), fadt[128]), (1, 0x602, 1), "reset register");
    assert_eq!((fadt[244], le(fadt, 248, 8)), (1, 0x600), "sleep control");
    assert_eq!((fadt[256], le(fadt, 260, 8)), (1, 0x601), "sleep status");
    assert_eq!(le(fixed::fadt(0x1234, false).unwrap().bytes(), 109, 2), 0x3c);
}

#[test]
fn impossible_machines() {
    let build = |machine: AcpiMachine| AcpiTables::build(&machine).unwrap_err();
    for cpus in [0, 255, 1 << 20] {
        assert_eq!(build(machine(cpus, 1)), AcpiError::Cpus { cpus });
    }
    for base in [0xffff_f001, 1 << 32, u64::MAX] {
        let wrong = AcpiMachine { devices: vec![(base, 5)], ..machine(1, 0) };
        assert_eq!(build(wrong), AcpiError::Device { base });
    }
    for port in [0xfff9, 0x1_0000, u64::MAX] {
        let wrong = AcpiMachine { serial: vec![(port, 4)], ..machine(1, 0) };
        assert_eq!(build(wrong), AcpiError::Port { port });
    }
    let many = AcpiMachine { devices: vec![(0xd000_0000, 5); 257], ..machine(1, 0) };
    assert_eq!(build(many), AcpiError::TooManyDevices { devices: 257, limit: 256 });
    let long = AcpiMachine { extra: vec![Table::new(*b"HMAT", 2, &[0; 0x1_0000])], ..machine(1, 0) };
    assert!(matches!(build(long), AcpiError::TooLong { limit: 0x1_0000, .. }));
}

#[test]
fn only_well_formed_tables_are_taken() {
    let table = Table::new(*b"SLIT", 1, b"body");
    assert_eq!(Table::from_bytes(table.bytes().to_vec()), Ok(table.clone()));
    assert_eq!(table.signature(), b"SLIT");
    let mut wrong = table.bytes().to_vec();
    wrong[37] ^= 1;
    for bytes in [Vec::new(), vec![0; 35], vec![0; 36], table.bytes()[..39].to_vec(), wrong] {
        assert!(matches!(Table::from_bytes(bytes), Err(AcpiError::Malformed { .. })));
    }
}
