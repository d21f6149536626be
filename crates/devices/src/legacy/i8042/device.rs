//! The controller on the port bus.

use std::sync::Arc;

use purlin_snapshot::{Section, SectionId, Writer};
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;

use super::controller::{Controller, Effect};
use super::state;
use crate::virtio::RestoreError;

/// First port.
pub const I8042_PORT: u64 = 0x60;
/// Ports up to and including 0x64.
pub const I8042_LEN: u64 = 5;

/// Section kind of the controller's state.
const SECTION_KIND: u32 = 0x282;
const SECTION_VERSION: u16 = 1;

/// The controller with its interrupt line. `on_reset` is called on the vCPU thread each time the guest asks
/// for a reset; the machine decides what that means, and the guest keeps running until it is stopped.
pub struct I8042 {
    controller: Controller,
    line: Arc<dyn IrqLine>,
    on_reset: Box<dyn FnMut() + Send>,
    failed: bool,
}

impl I8042 {
    /// A controller in its state after power-on, with the keyboard's line (interrupt 1 of a PC).
    pub fn new(line: Arc<dyn IrqLine>, on_reset: impl FnMut() + Send + 'static) -> Self {
        I8042 { controller: Controller::new(), line, on_reset: Box::new(on_reset), failed: false }
    }

    /// Types Ctrl-Alt-Del; false if no driver of the guest listens.
    pub fn send_ctrl_alt_del(&mut self) -> bool {
        let effect = self.controller.ctrl_alt_del();
        effect.is_some_and(|effect| {
            self.perform(effect);
            true
        })
    }

    /// State: registers and what the guest has not read. Nothing of the device moves by itself, so it needs no rest
    /// before.
    pub fn save(&self, instance: u32) -> Section {
        let mut w = Writer::new();
        state::save(&mut w, &self.controller);
        Section::new(SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance }, w.into_bytes())
    }

    /// Takes over what [`I8042::save`] gave.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: the section is not one of this device. Nothing has changed then.
    pub fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        let controller = state::load(&mut r)?;
        r.finish()?;
        self.controller = controller;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn controller(&self) -> &Controller {
        &self.controller
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Reset => (self.on_reset)(),
            Effect::Interrupt => {
                if let Err(e) = self.line.trigger() {
                    // Once: a line that fails keeps failing, and the guest could repeat this at will.
                    if !std::mem::replace(&mut self.failed, true) {
                        log::error!("the keyboard's interrupt could not be delivered: {e}");
                    }
                }
            }
        }
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let [byte] = data else { return };
        let (value, effect) = self.controller.read(offset);
        *byte = value;
        self.perform(effect);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let &[byte] = data else { return };
        let effect = self.controller.write(offset, byte);
        self.perform(effect);
    }
}
