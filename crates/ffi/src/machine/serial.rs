//! The serial lines of a machine.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use purlin_devices::legacy::serial::{SERIAL_LEN, SERIAL_LINES, Serial};
use purlin_devices::shell::EventLoop;
use purlin_devices::virtio::console::{RawMode, terminal_size};
use purlin_vmm_core::kvm::{Buses, KvmVm};

use super::console::Consoles;
use super::slots::{Slots, lock};
use super::{BuildError, FLUSH_PATIENCE, after};
use crate::config::SerialLine;

/// What the machine holds of its serial lines while it runs.
#[derive(Default)]
pub(crate) struct SerialLines(Vec<Arc<Mutex<Serial>>>);

impl SerialLines {
    /// Number of lines.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Delivers what the guest sent before it ended; see [`Consoles::flush`].
    pub fn flush(&self) {
        for line in &self.0 {
            let mut left = usize::MAX;
            loop {
                match lock(line).flush(after(FLUSH_PATIENCE)) {
                    0 => break,
                    now if now < left => left = now,
                    now => {
                        log::warn!("{now} bytes of a serial line were not read and are lost");
                        break;
                    }
                }
            }
        }
    }
}

/// Makes the lines, on their places and among what is stopped with the machine.
pub(super) fn make(
    lines: Vec<SerialLine>,
    vm: &KvmVm,
    slots: &mut Slots,
    buses: &mut Buses,
    consoles: &mut Consoles,
    device_loop: &EventLoop,
) -> Result<SerialLines, BuildError> {
    let refused = BuildError::host("serial line");
    let mut made = SerialLines::default();
    // Two of them have one pin.
    let mut pins = BTreeMap::new();
    for (SerialLine { input, output }, (port, irq)) in lines.into_iter().zip(SERIAL_LINES) {
        if let Some(input) = &input
            && terminal_size(input.as_fd()).is_ok()
        {
            let terminal = input.try_clone().map_err(&refused)?;
            consoles.hold(RawMode::enable(terminal, false).map_err(BuildError::host("terminal mode"))?);
        }
        let pin = pins.entry(irq).or_insert_with(|| vm.irq_line(irq)).clone();
        let line = Serial::new(input, output, pin, device_loop.handle()).map_err(&refused)?;
        buses.pio.insert(port, SERIAL_LEN, line.registers())?;
        let line = Arc::new(Mutex::new(line));
        slots.add_legacy(line.clone());
        made.0.push(line);
    }
    Ok(made)
}
