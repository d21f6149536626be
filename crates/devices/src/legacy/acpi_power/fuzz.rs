//! What the fuzz target `acpi_ops` does: operations of a guest and of the machine on the power device, held against a
//! model, and machines of any numbers for the tables.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use purlin_snapshot::{Section, SectionId};
use purlin_vmm_core::boot::acpi::{AcpiMachine, AcpiTables, Table};
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;

use super::{AcpiPower, PowerRequest};

struct Counter(AtomicU32);

impl IrqLine for Counter {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The first byte chooses; the rest are operations of four bytes, or the numbers of a machine.
///
/// # Panics
///
/// If a property does not hold: that is what a fuzzer looks for.
pub fn acpi_ops(data: &[u8]) {
    match data.split_first() {
        Some((0..=0x7f, operations)) => operate(operations),
        Some((_, numbers)) => describe(numbers),
        None => {}
    }
}

fn operate(operations: &[u8]) {
    let line = Arc::new(Counter(AtomicU32::new(0)));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (seen, counted) = (requests.clone(), line.clone());
    let mut device = AcpiPower::new(line, move |request| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    });
    let (mut pressed, mut presses) = (false, 0);
    for &[operation, offset, value, width] in operations.as_chunks::<4>().0 {
        let (offset, width) = (u64::from(offset), usize::from(width % 9));
        let before = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(before.is_empty());
        let mut expected = None;
        match operation % 4 {
            0 => {
                device.write(offset, &vec![value; width]);
                expected = match (width, offset, value) {
                    (1, 0, _) if value & 0x3c == 0x34 => Some(PowerRequest::Off),
                    (1, 2, 1) => Some(PowerRequest::Reset),
                    _ => None,
                };
            }
            1 => {
                let mut data = vec![value; width];
                device.read(offset, &mut data);
                let taken = (width, offset) == (1, 3) && std::mem::take(&mut pressed);
                assert!(data.iter().all(|&byte| byte == u8::from(taken)), "{data:?} at {offset}");
            }
            2 => {
                device.press_button();
                (pressed, presses) = (true, presses + 1);
            }
            _ => {
                let mut section = device.save(0);
                if value & 1 != 0 {
                    let id = SectionId { version: u16::from(value >> 1), ..section.id };
                    section = Section::new(id, vec![value; width]);
                }
                let restored = device.restore(&section);
                assert_eq!(restored.is_ok(), value & 1 == 0 || (value >> 1, width) == (1, 1));
                if restored.is_ok() && value & 1 != 0 {
                    pressed = value & 1 != 0;
                }
            }
        }
        let got = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(got, Vec::from_iter(expected));
    }
    assert_eq!(counted.0.load(Ordering::Relaxed), presses);
}

/// Numbers of eight bytes: processors, devices, serial lines; then bytes of a table.
fn describe(numbers: &[u8]) {
    let (words, rest) = numbers.as_chunks::<8>();
    let mut words = words.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let cpus = words.next().unwrap_or(1) as u32;
    let count = words.next().unwrap_or(0) as usize % 300;
    let mut pairs = words.map(|word| (word, word as u32));
    let devices: Vec<_> = pairs.by_ref().take(count).collect();
    let serial: Vec<_> = pairs.collect();
    let extra = Vec::from_iter(Table::from_bytes(rest.to_vec()).ok());
    let machine = AcpiMachine { cpus, devices, serial, extra };
    let Ok(tables) = AcpiTables::build(&machine) else { return };
    assert!((1..=254).contains(&machine.cpus) && tables.bytes().len() <= 0x1_0000);
    for (_, table) in tables.tables() {
        assert_eq!(table.bytes().iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0);
        assert_eq!(Table::from_bytes(table.bytes().to_vec()).as_ref(), Ok(table));
    }
}
