//! The keyboard controller, as far as it resets the machine and types Ctrl-Alt-Del.
//!
//! `Controller` is the register machine; [`I8042`] puts it on the port bus.

mod controller;
mod device;
pub mod fuzz;
mod keyboard;
mod state;
#[cfg(test)]
mod tests;

pub use device::{I8042, I8042_LEN, I8042_PORT};
