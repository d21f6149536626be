//! The contract of the power device: what the tables say of it and the device does.
//!
//! | port | register | access |
//! |---|---|---|
//! | [`PORT`] + 0 | sleep control (ACPI 6.5 §4.8.3.7): bits 4:2 the sleep type, bit 5 go | write |
//! | [`PORT`] + 1 | sleep status: bit 7 woken, which this machine never is | read |
//! | [`PORT`] + 2 | reset (§4.8.3.6): [`RESET_VALUE`] resets | write |
//! | [`PORT`] + 3 | events since the last read, [`BUTTON_PRESSED`] | read, which clears |
//!
//! A press of the button sets its event and sends an edge on [`IRQ`].

/// First port.
pub const PORT: u16 = 0x600;
/// Number of ports.
pub const LEN: u16 = 4;
/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register.
pub const RESET: u16 = 2;
/// Offset of the event register.
pub const EVENTS: u16 = 3;

/// Sleep type of S5, soft off.
pub const SLEEP_TYPE_OFF: u8 = 5;
/// The bit of the sleep control register that starts the transition.
pub const SLEEP_ENABLE: u8 = 1 << 5;
/// First bit of the sleep type in the sleep control register.
pub const SLEEP_TYPE_SHIFT: u8 = 2;
/// What is written to the reset register.
pub const RESET_VALUE: u8 = 1;
/// The event of a pressed power button.
pub const BUTTON_PRESSED: u8 = 1;

/// Interrupt of the event register, edge triggered. It is the line of the CMOS clock, which no virtio device gets
/// because kernels without ACPI claim it; the tables say that there is no such clock.
pub const IRQ: u32 = 8;
