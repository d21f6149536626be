//! What a kernel with ACPI gets: tables, and the device that powers off, resets and has the power button.

use std::sync::{Arc, Mutex};

use purlin_devices::legacy::serial::SERIAL_LINES;
use purlin_devices::legacy::{AcpiPower, POWER_IRQ, POWER_LEN, POWER_PORT, PowerRequest};
use purlin_vmm_core::boot::acpi::{AcpiError, AcpiMachine, AcpiTables, Table};
use purlin_vmm_core::kvm::{Buses, KvmVm};

use super::BuildError;
use super::slots::{Slots, lock};

/// Presses the power button of the guest.
#[derive(Clone)]
pub(crate) struct PowerButton(Arc<Mutex<AcpiPower>>);

impl PowerButton {
    pub fn press(&self) {
        lock(&self.0).press_button();
    }
}

/// Puts the device on its ports and among what is saved with the machine.
pub(super) fn make(
    vm: &KvmVm,
    slots: &mut Slots,
    buses: &mut Buses,
    on_request: Arc<dyn Fn(PowerRequest) + Send + Sync>,
) -> Result<PowerButton, BuildError> {
    let device = AcpiPower::new(vm.irq_line(POWER_IRQ), move |request| on_request(request));
    let device = Arc::new(Mutex::new(device));
    buses.pio.insert(POWER_PORT, POWER_LEN, device.clone())?;
    slots.add_legacy(device.clone());
    Ok(PowerButton(device))
}

/// The tables of a machine with virtio devices at these places, so many serial lines, and further tables.
pub(super) fn tables(
    cpus: u32,
    places: &[(u64, u32)],
    serial: usize,
    extra: Vec<Table>,
) -> Result<AcpiTables, AcpiError> {
    let serial = SERIAL_LINES.into_iter().take(serial).collect();
    AcpiTables::build(&AcpiMachine { cpus, devices: places.to_vec(), serial, extra })
}
