//! The differentiated system description table: devices, in AML.

use acpi_tables::Aml;
use acpi_tables::aml::{
    And, Device, EISAName, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If,
    Interrupt, Local, Memory32Fixed, Method, Name, Notify, ONE, OpRegion, OpRegionSpace, Package, Path,
    ResourceTemplate, Scope, Store, ZERO,
};

use super::{AcpiError, Table, power};
use crate::memory::layout::MMIO_SLOT_SIZE;

/// Devices of one kind that two hexadecimal digits number.
const MAX_NUMBERED: usize = 256;

/// Bit 0 of the revision 2 says that integers have 64 bits (ACPI 6.5 §5.2.11.1).
const REVISION: u8 = 2;

/// The table of a machine with virtio-mmio devices at these places, each with its interrupt, and serial lines at these
/// ports, each with its interrupt.
pub(super) fn dsdt(devices: &[(u64, u32)], serial: &[(u64, u32)]) -> Result<Table, AcpiError> {
    for list in [devices, serial] {
        if list.len() > MAX_NUMBERED {
            return Err(AcpiError::TooManyDevices { devices: list.len(), limit: MAX_NUMBERED });
        }
    }
    let mut body = Vec::new();
    for (number, &(base, irq)) in (0u32..).zip(devices) {
        virtio(number, base, irq, &mut body)?;
    }
    for (number, &(port, irq)) in (0u32..).zip(serial) {
        uart(number, port, irq, &mut body)?;
    }
    button(&mut body);
    let mut aml = Scope::raw(Path::new("\\_SB_"), body);
    soft_off(&mut aml);
    Ok(Table::new(*b"DSDT", REVISION, &aml))
}

/// A resource: consumer, edge triggered, active high, the device's own.
fn interrupt(irq: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, irq)
}

/// The same, of several devices.
fn shared_interrupt(irq: u32) -> Interrupt {
    Interrupt::new(true, true, false, true, irq)
}

/// A virtio-mmio device, by the identifier that Linux's driver matches (`drivers/virtio/virtio_mmio.c`).
fn virtio(number: u32, base: u64, irq: u32, out: &mut Vec<u8>) -> Result<(), AcpiError> {
    let end = base.checked_add(MMIO_SLOT_SIZE).filter(|&end| end <= 1 << 32);
    let base = end.and(u32::try_from(base).ok()).ok_or(AcpiError::Device { base })?;
    let registers = Memory32Fixed::new(true, base, MMIO_SLOT_SIZE as u32);
    let name = Path::new(&format!("VI{number:02X}"));
    device(name, &"LNRO0005", number, &[&registers, &interrupt(irq)], out);
    Ok(())
}

fn uart(number: u32, port: u64, irq: u32, out: &mut Vec<u8>) -> Result<(), AcpiError> {
    let end = port.checked_add(8).filter(|&end| end <= 1 << 16);
    let port = end.and(u16::try_from(port).ok()).ok_or(AcpiError::Port { port })?;
    let name = Path::new(&format!("UA{number:02X}"));
    device(
        name,
        &EISAName::new("PNP0501"),
        number,
        &[&IO::new(port, port, 1, 8), &shared_interrupt(irq)],
        out,
    );
    Ok(())
}

fn device(name: Path, hid: &dyn Aml, uid: u32, resources: &[&dyn Aml], out: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), hid);
    let uid = Name::new("_UID".into(), &uid);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(resources.to_vec()));
    Device::new(name, vec![&hid, &uid, &resources]).to_aml_bytes(out);
}

/// A power button (ACPI 6.5 §4.8.2.2.1.2) and the generic event device that reports its presses (§5.6.9).
fn button(out: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), &EISAName::new("PNP0C0C"));
    let uid = Name::new("_UID".into(), &ZERO);
    Device::new("PWRB".into(), vec![&hid, &uid]).to_aml_bytes(out);

    let hid = Name::new("_HID".into(), &"ACPI0013");
    let line = interrupt(power::IRQ);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&line]));
    let port = power::PORT + power::EVENTS;
    let region = OpRegion::new("EVRG".into(), OpRegionSpace::SystemIO, &port, &ONE);
    let field = Field::new(
        "EVRG".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![FieldEntry::Named(*b"EVTS", 8)],
    );
    let (events, seen, pressed) = (Path::new("EVTS"), Local(0), Local(1));
    let (button, is_pressed) = (Path::new("PWRB"), power::BUTTON_PRESSED);
    let take = Store::new(&seen, &events);
    let mask = And::new(&pressed, &seen, &is_pressed);
    let notify = Notify::new(&button, &0x80u8);
    let tell = If::new(&pressed, vec![&notify]);
    let event = Method::new("_EVT".into(), 1, true, vec![&take, &mask, &tell]);
    Device::new("GED_".into(), vec![&hid, &uid, &resources, &region, &field, &event]).to_aml_bytes(out);
}

/// What to write to the sleep control register for S5.
fn soft_off(out: &mut Vec<u8>) {
    let kind = power::SLEEP_TYPE_OFF;
    let package = Package::new(vec![&kind, &ZERO, &ZERO, &ZERO]);
    Name::new("_S5_".into(), &package).to_aml_bytes(out);
}
