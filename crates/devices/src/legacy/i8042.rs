//! The keyboard controller, as far as it resets the machine.
//!
//! Linux with `reboot=k` waits until the input buffer is empty (status bit 1) and writes the command 0xFE,
//! which pulses the processor's reset line (IBM PC/AT Technical Reference, keyboard controller commands).

use purlin_vmm_core::bus::BusDevice;

/// First port.
pub const I8042_PORT: u64 = 0x60;
/// Ports up to and including 0x64.
pub const I8042_LEN: u64 = 5;

const DATA: u64 = 0;
const COMMAND: u64 = 4;

/// Output buffer full.
const STATUS_OUTPUT_FULL: u8 = 1;
/// Keyboard not locked.
const STATUS_UNLOCKED: u8 = 1 << 4;

const CMD_READ_CONTROL: u8 = 0x20;
const CMD_WRITE_CONTROL: u8 = 0x60;
const CMD_READ_OUTPUT_PORT: u8 = 0xd0;
const CMD_WRITE_OUTPUT_PORT: u8 = 0xd1;
const CMD_RESET: u8 = 0xfe;
const REPLY_ACK: u8 = 0xfa;

/// What a data byte written next belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Keyboard,
    Control,
    OutputPort,
}

/// The controller. `on_reset` is called on the vCPU thread each time the guest asks for a reset; the
/// machine decides what that means, and the guest keeps running until it is stopped.
pub struct I8042 {
    control: u8,
    output_port: u8,
    reply: Option<u8>,
    expect: Expect,
    on_reset: Box<dyn FnMut() + Send>,
}

impl I8042 {
    /// A controller in its state after power-on.
    pub fn new(on_reset: impl FnMut() + Send + 'static) -> Self {
        I8042 {
            control: 0x05,
            output_port: 0x03,
            reply: None,
            expect: Expect::Keyboard,
            on_reset: Box::new(on_reset),
        }
    }

    fn command(&mut self, command: u8) {
        match command {
            CMD_RESET => (self.on_reset)(),
            CMD_READ_CONTROL => self.reply = Some(self.control),
            CMD_READ_OUTPUT_PORT => self.reply = Some(self.output_port),
            CMD_WRITE_CONTROL => self.expect = Expect::Control,
            CMD_WRITE_OUTPUT_PORT => self.expect = Expect::OutputPort,
            _ => {}
        }
    }

    fn data(&mut self, value: u8) {
        match std::mem::replace(&mut self.expect, Expect::Keyboard) {
            Expect::Control => self.control = value,
            Expect::OutputPort => self.output_port = value,
            Expect::Keyboard => self.reply = Some(REPLY_ACK),
        }
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let [byte] = data else { return };
        *byte = match offset {
            COMMAND => STATUS_UNLOCKED | if self.reply.is_some() { STATUS_OUTPUT_FULL } else { 0 },
            DATA => self.reply.take().unwrap_or(0),
            _ => 0,
        };
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let &[byte] = data else { return };
        match offset {
            COMMAND => self.command(byte),
            DATA => self.data(byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn read(dev: &mut I8042, offset: u64) -> u8 {
        let mut data = [0xff];
        dev.read(offset, &mut data);
        data[0]
    }

    fn counting() -> (I8042, Arc<AtomicU32>) {
        let resets = Arc::new(AtomicU32::new(0));
        let seen = resets.clone();
        let device = I8042::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        (device, resets)
    }

    #[test]
    fn reset_only_by_command_fe() {
        let (mut dev, resets) = counting();
        for byte in 0..=0xfd {
            dev.write(COMMAND, &[byte]);
        }
        dev.write(DATA, &[CMD_RESET]);
        dev.write(COMMAND, &[CMD_RESET, CMD_RESET]);
        assert_eq!(resets.load(Ordering::Relaxed), 0);
        dev.write(COMMAND, &[CMD_RESET]);
        assert_eq!(resets.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_input_buffer_is_never_full() {
        let (mut dev, _) = counting();
        for byte in 0..=0xfd {
            dev.write(COMMAND, &[byte]);
            assert_eq!(read(&mut dev, COMMAND) & 0x12, 0x10, "after command {byte:#x}");
            dev.write(DATA, &[byte]);
        }
    }

    #[test]
    fn control_byte_round_trip() {
        let (mut dev, _) = counting();
        dev.write(COMMAND, &[CMD_READ_CONTROL]);
        assert_eq!((read(&mut dev, COMMAND) & 1, read(&mut dev, DATA)), (1, 0x05));
        dev.write(COMMAND, &[CMD_WRITE_CONTROL]);
        dev.write(DATA, &[0x47]);
        dev.write(COMMAND, &[CMD_READ_CONTROL]);
        assert_eq!(read(&mut dev, DATA), 0x47);
        assert_eq!(read(&mut dev, COMMAND) & 1, 0);
        dev.write(DATA, &[0xed]);
        assert_eq!(read(&mut dev, DATA), REPLY_ACK);
    }
}
