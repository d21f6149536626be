//! Power off, reset and the power button of an ACPI machine without fixed registers; the ports and what they mean are
//! in [`purlin_vmm_core::boot::acpi::power`], which the machine's tables announce. Pure: the device has no thread and
//! is called on a vCPU's.

pub mod fuzz;

use std::sync::Arc;

use purlin_snapshot::{Section, SectionId, Writer};
use purlin_vmm_core::boot::acpi::power::{
    BUTTON_PRESSED, EVENTS, RESET, RESET_VALUE, SLEEP_CONTROL, SLEEP_ENABLE, SLEEP_TYPE_OFF, SLEEP_TYPE_SHIFT,
};
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;

use crate::virtio::RestoreError;

/// First port.
pub const POWER_PORT: u64 = purlin_vmm_core::boot::acpi::power::PORT as u64;
/// Number of ports.
pub const POWER_LEN: u64 = purlin_vmm_core::boot::acpi::power::LEN as u64;
/// Interrupt of the power button.
pub const POWER_IRQ: u32 = purlin_vmm_core::boot::acpi::power::IRQ;

/// Section kind of the device's state.
const SECTION_KIND: u32 = 0x281;
const SECTION_VERSION: u16 = 1;

const SLEEP_TYPE_MASK: u8 = 7;

/// What the guest wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerRequest {
    /// Soft off, S5.
    Off,
    /// Reset.
    Reset,
}

/// The device. `on_request` is called on the vCPU thread each time the guest asks; the machine decides what that
/// means, and the guest keeps running until it is stopped.
pub struct AcpiPower {
    events: u8,
    irq: Arc<dyn IrqLine>,
    on_request: Box<dyn FnMut(PowerRequest) + Send>,
}

impl AcpiPower {
    /// A device with no event pending, whose button uses `irq`.
    pub fn new(irq: Arc<dyn IrqLine>, on_request: impl FnMut(PowerRequest) + Send + 'static) -> Self {
        AcpiPower { events: 0, irq, on_request: Box::new(on_request) }
    }

    /// Presses the power button: a guest that listens to it shuts down. Several presses before the guest looks are
    /// one. May be called while the machine is paused.
    pub fn press_button(&mut self) {
        self.events |= BUTTON_PRESSED;
        if let Err(e) = self.irq.trigger() {
            log::error!("power button: interrupt: {e}");
        }
    }

    /// State: the events the guest has not seen.
    pub fn save(&self, instance: u32) -> Section {
        let mut w = Writer::new();
        w.u8(self.events);
        Section::new(SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance }, w.into_bytes())
    }

    /// Takes over what [`AcpiPower::save`] gave.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: the section is not one of this device. Nothing has changed then.
    pub fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        let events = r.u8("events")?;
        r.finish()?;
        self.events = events & BUTTON_PRESSED;
        Ok(())
    }
}

/// What a write means, if anything.
fn request(offset: u64, value: u8) -> Option<PowerRequest> {
    const SLEEP: u64 = SLEEP_CONTROL as u64;
    const RESET_AT: u64 = RESET as u64;
    let sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
    match (offset, value) {
        (SLEEP, _) if value & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF => Some(PowerRequest::Off),
        (RESET_AT, RESET_VALUE) => Some(PowerRequest::Reset),
        _ => None,
    }
}

impl BusDevice for AcpiPower {
    /// Registers are of one byte; anything else reads 0 and takes no event.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let [byte] = data
            && offset == u64::from(EVENTS)
        {
            *byte = std::mem::take(&mut self.events);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let &[byte] = data
            && let Some(wanted) = request(offset, byte)
        {
            (self.on_request)(wanted);
        }
    }
}

#[cfg(test)]
mod tests;
