//! The controller's registers, pure.
//!
//! IBM PC/AT Technical Reference, keyboard controller commands. Linux with `reboot=k` waits until the input
//! buffer is empty (status bit 1) and writes the command 0xFE, which pulses the processor's reset line.

use std::collections::VecDeque;

use super::keyboard::{Keyboard, ctrl_alt_del};

/// Offset of the data register.
pub(super) const DATA: u64 = 0;
/// Offset of the command and status register.
pub(super) const COMMAND: u64 = 4;

/// Output buffer full.
const STATUS_OUTPUT_FULL: u8 = 1;
/// Keyboard not locked.
const STATUS_UNLOCKED: u8 = 1 << 4;

/// The keyboard may interrupt.
const CONTROL_INTERRUPT: u8 = 1;
/// The keyboard's clock is off.
const CONTROL_DISABLED: u8 = 1 << 4;
/// Scan codes are translated to set 1.
const CONTROL_TRANSLATE: u8 = 1 << 6;

const CMD_READ_CONTROL: u8 = 0x20;
const CMD_WRITE_CONTROL: u8 = 0x60;
const CMD_SELF_TEST: u8 = 0xaa;
const CMD_TEST_KEYBOARD: u8 = 0xab;
const CMD_DISABLE_KEYBOARD: u8 = 0xad;
const CMD_ENABLE_KEYBOARD: u8 = 0xae;
const CMD_READ_OUTPUT_PORT: u8 = 0xd0;
const CMD_WRITE_OUTPUT_PORT: u8 = 0xd1;
const CMD_RESET: u8 = 0xfe;

/// Most bytes that wait for the guest. What does not fit is lost, as in the keyboard's own buffer.
pub(super) const CAPACITY: usize = 32;

/// Bytes for the guest, bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Queue(pub VecDeque<u8>);

impl Queue {
    pub fn push(&mut self, byte: u8) {
        if self.0.len() < CAPACITY {
            self.0.push_back(byte);
        }
    }
}

/// What the machine does after an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// An edge on the keyboard's interrupt line.
    Interrupt,
    /// The guest pulled the reset line.
    Reset,
}

/// What a data byte written next belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Keyboard,
    Control,
    OutputPort,
}

/// The register machine. Accesses of one byte only, as on the real bus; others do nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    pub(super) control: u8,
    pub(super) output_port: u8,
    pub(super) expect: Expect,
    pub(super) queue: Queue,
    pub(super) keyboard: Keyboard,
    /// A driver has set the controller up. The state after power-on allows interrupts, so that alone says
    /// nothing.
    pub(super) has_driver: bool,
}

impl Default for Controller {
    fn default() -> Self {
        Self::new()
    }
}

impl Controller {
    /// The state after power-on.
    pub fn new() -> Self {
        Controller {
            control: 0x05,
            output_port: 0x03,
            expect: Expect::Keyboard,
            queue: Queue::default(),
            keyboard: Keyboard::new(),
            has_driver: false,
        }
    }

    /// Reads a register: 0 for one that is not there.
    pub fn read(&mut self, offset: u64) -> (u8, Effect) {
        match offset {
            COMMAND => {
                let full = if self.queue.0.is_empty() { 0 } else { STATUS_OUTPUT_FULL };
                (STATUS_UNLOCKED | full, Effect::None)
            }
            DATA => {
                let byte = self.queue.0.pop_front().unwrap_or(0);
                (byte, if self.queue.0.is_empty() { Effect::None } else { self.interrupt() })
            }
            _ => (0, Effect::None),
        }
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u64, byte: u8) -> Effect {
        match offset {
            COMMAND => self.command(byte),
            DATA => self.data(byte),
            _ => Effect::None,
        }
    }

    /// Presses and releases Ctrl-Alt-Del. `None` if no driver listens to the keyboard, or one does not keep up.
    pub fn ctrl_alt_del(&mut self) -> Option<Effect> {
        let enabled = self.control & (CONTROL_INTERRUPT | CONTROL_DISABLED) == CONTROL_INTERRUPT;
        let codes = ctrl_alt_del(self.control & CONTROL_TRANSLATE != 0);
        let room = CAPACITY.saturating_sub(self.queue.0.len()) >= codes.len();
        if !(self.has_driver && enabled && self.keyboard.scanning && room) {
            return None;
        }
        Some(self.answer(|_, queue| codes.iter().for_each(|&code| queue.push(code))))
    }

    fn command(&mut self, command: u8) -> Effect {
        match command {
            CMD_RESET => return Effect::Reset,
            CMD_READ_CONTROL => self.reply(self.control),
            CMD_READ_OUTPUT_PORT => self.reply(self.output_port),
            CMD_SELF_TEST => self.reply(0x55),
            CMD_TEST_KEYBOARD => self.reply(0x00),
            CMD_DISABLE_KEYBOARD => self.control |= CONTROL_DISABLED,
            CMD_ENABLE_KEYBOARD => self.control &= !CONTROL_DISABLED,
            CMD_WRITE_CONTROL => self.expect = Expect::Control,
            CMD_WRITE_OUTPUT_PORT => self.expect = Expect::OutputPort,
            _ => {}
        }
        Effect::None
    }

    /// The controller's own answer takes the place of what the keyboard sent, and is polled for.
    fn reply(&mut self, byte: u8) {
        self.queue.0.clear();
        self.queue.push(byte);
    }

    fn data(&mut self, byte: u8) -> Effect {
        match std::mem::replace(&mut self.expect, Expect::Keyboard) {
            Expect::Control => {
                self.control = byte;
                self.has_driver = true;
                Effect::None
            }
            Expect::OutputPort => {
                self.output_port = byte;
                Effect::None
            }
            // A byte for the keyboard turns its clock on.
            Expect::Keyboard => {
                self.control &= !CONTROL_DISABLED;
                self.answer(|keyboard, queue| keyboard.receive(byte, queue))
            }
        }
    }

    /// The keyboard sends something. The first byte interrupts; the next does so when that is read.
    fn answer(&mut self, send: impl FnOnce(&mut Keyboard, &mut Queue)) -> Effect {
        let waiting = !self.queue.0.is_empty();
        send(&mut self.keyboard, &mut self.queue);
        if waiting || self.queue.0.is_empty() { Effect::None } else { self.interrupt() }
    }

    fn interrupt(&self) -> Effect {
        if self.control & CONTROL_INTERRUPT != 0 { Effect::Interrupt } else { Effect::None }
    }
}
