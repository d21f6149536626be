//! All tables of a machine, each at its address.

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;

use super::{AcpiError, OEM_ID, OEM_REVISION, OEM_TABLE_ID, Table, dsdt, fixed};
use crate::boot::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::{BIOS_ROM, RSDP};

/// Most bytes of all tables.
const LIMIT: usize = (BIOS_ROM - RSDP) as usize;
/// Start of a table, as firmware aligns them.
const ALIGN: usize = 16;

/// What the tables describe.
#[derive(Debug, Clone, Default)]
pub struct AcpiMachine {
    /// Number of processors, 1 to 254.
    pub cpus: u32,
    /// First address and interrupt of each virtio-mmio device, in the order in which a kernel is to probe them.
    pub devices: Vec<(u64, u32)>,
    /// First port and interrupt of each serial line.
    pub serial: Vec<(u64, u32)>,
    /// Further tables, listed behind the others.
    pub extra: Vec<Table>,
}

/// All tables, as they lie in guest memory from [`RSDP`] on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiTables {
    bytes: Vec<u8>,
    listed: Vec<(u64, Table)>,
}

impl AcpiTables {
    /// Describes a machine.
    ///
    /// # Errors
    ///
    /// [`AcpiError`]: a number out of range, or too much for the 64 KiB there are.
    pub fn build(machine: &AcpiMachine) -> Result<Self, AcpiError> {
        let mut area = Area(vec![0; Rsdp::len()]);
        let dsdt = dsdt::dsdt(&machine.devices, &machine.serial)?;
        let dsdt_addr = area.add(dsdt.bytes());
        let fixed = [fixed::fadt(dsdt_addr, !machine.serial.is_empty())?, fixed::madt(machine.cpus)?];

        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        let mut listed = vec![(dsdt_addr, dsdt)];
        for table in fixed.iter().chain(&machine.extra) {
            let addr = area.add(table.bytes());
            xsdt.add_entry(addr);
            listed.push((addr, table.clone()));
        }
        let xsdt = Table::from_aml(&xsdt)?;
        let xsdt_addr = area.add(xsdt.bytes());
        listed.push((xsdt_addr, xsdt));
        let mut bytes = Vec::new();
        Rsdp::new(OEM_ID, xsdt_addr).to_aml_bytes(&mut bytes);
        bytes.extend(area.0.into_iter().skip(Rsdp::len()));
        if bytes.len() > LIMIT {
            return Err(AcpiError::TooLong { len: bytes.len(), limit: LIMIT });
        }
        Ok(AcpiTables { bytes, listed })
    }

    /// The RSDP and everything behind it, for [`RSDP`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every table with its guest address: DSDT, FADT, MADT, the extra ones, XSDT.
    pub fn tables(&self) -> &[(u64, Table)] {
        &self.listed
    }

    /// Writes everything to guest memory.
    ///
    /// # Errors
    ///
    /// [`BootError::Write`] if that is not RAM.
    pub fn write_to(&self, ram: &GuestRam) -> Result<(), BootError> {
        write(ram, "ACPI tables", RSDP, &self.bytes)
    }
}

/// Bytes from [`RSDP`] on.
struct Area(Vec<u8>);

impl Area {
    /// Appends a table; its guest address.
    fn add(&mut self, table: &[u8]) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
        // Far below 2^64: tables are in our memory.
        let addr = RSDP + self.0.len() as u64;
        self.0.extend(table);
        addr
    }
}
