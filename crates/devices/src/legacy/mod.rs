//! Legacy x86 devices on port I/O: what a Linux guest touches even on a machine without them.

pub mod acpi_power;
mod cmos;
pub mod i8042;
pub mod serial;

pub use acpi_power::{AcpiPower, POWER_IRQ, POWER_LEN, POWER_PORT, PowerRequest};
pub use cmos::{CMOS_LEN, CMOS_PORT, Cmos};
pub use i8042::{I8042, I8042_LEN, I8042_PORT};
