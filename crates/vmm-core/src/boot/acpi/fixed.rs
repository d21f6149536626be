//! The tables of fixed form: processors and interrupts (MADT), and the machine's kind and power (FADT).

use acpi_tables::Aml;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};

use super::{AcpiError, OEM_ID, OEM_REVISION, OEM_TABLE_ID, Table, power};
use crate::boot::mptable::MAX_CPUS;
use crate::memory::layout::{IO_APIC, LOCAL_APIC};

/// Revision of the MADT in ACPI 6.5 is 6; this one has only what revision 1 has.
const MADT_REVISION: u8 = 1;
/// The machine also has two 8259 interrupt controllers.
const PCAT_COMPAT: u32 = 1;
/// A non-maskable interrupt of every processor: type, length, UID (all), flags as the bus has them, LINT1.
const LOCAL_NMI: [u8; 6] = [4, 6, 0xff, 0, 0, 1];

/// `IAPC_BOOT_ARCH` (ACPI 6.5 table 5.11): no VGA, no message signaled interrupts, no PCIe power management, no CMOS
/// clock. Bit 1 is clear: no keyboard controller, which spares a kernel its probe; the reset command works anyway.
const BOOT_ARCH: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5;
/// Devices a kernel may find without being told: serial lines at their usual ports.
const LEGACY_DEVICES: u16 = 1;

/// Every processor enabled, one IO-APIC that begins with interrupt 0, NMI on LINT1. The 16 ISA interrupts are those of
/// the IO-APIC's pins with the same number, so there are no overrides.
pub(super) fn madt(cpus: u32) -> Result<Table, AcpiError> {
    let count = u8::try_from(cpus).ok().filter(|&count| count > 0 && cpus <= MAX_CPUS);
    let count = count.ok_or(AcpiError::Cpus { cpus })?;
    let mut body = Vec::new();
    body.extend((LOCAL_APIC as u32).to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for id in 0..count {
        ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
    }
    IoApic::new(0, IO_APIC as u32, 0).to_aml_bytes(&mut body);
    body.extend(LOCAL_NMI);
    Ok(Table::new(*b"APIC", MADT_REVISION, &body))
}

/// Hardware-reduced, power off and reset by ports, without legacy devices but for `has_serial`.
pub(super) fn fadt(dsdt: u64, has_serial: bool) -> Result<Table, AcpiError> {
    let port = |offset| {
        let address = u64::from(power::PORT + offset);
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
    };
    let legacy = if has_serial { LEGACY_DEVICES } else { 0 };
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        // In this kind of machine: the buttons, if there are any, are devices.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = (BOOT_ARCH | legacy).into();
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"PURLIN\0\0").into();
    Table::from_aml(&fadt.finalize())
}
