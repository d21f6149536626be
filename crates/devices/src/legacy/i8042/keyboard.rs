//! The keyboard behind the controller: what it answers, and the codes of keys.
//!
//! IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and 102-Key)", commands to the keyboard and
//! scan code sets 1 and 2.

use super::controller::Queue;

const ACK: u8 = 0xfa;
const SELF_TEST_PASSED: u8 = 0xaa;

const RESET: u8 = 0xff;
const DISABLE: u8 = 0xf5;
const ENABLE: u8 = 0xf4;
const IDENTIFY: u8 = 0xf2;
const SCAN_CODE_SET: u8 = 0xf0;
const ECHO: u8 = 0xee;
const SET_LEDS: u8 = 0xed;
const SET_RATE: u8 = 0xf3;

/// Left Control, left Alt and Delete down, then up again, as the keyboard sends them.
const CTRL_ALT_DEL_SET_2: [u8; 11] = [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14];
/// The same as the controller translates it.
const CTRL_ALT_DEL_SET_1: [u8; 8] = [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];

/// State of the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keyboard {
    /// It sends keys.
    pub scanning: bool,
    /// The command whose parameter comes next.
    pub parameter_of: Option<u8>,
}

impl Keyboard {
    pub fn new() -> Self {
        Keyboard { scanning: true, parameter_of: None }
    }

    /// A byte from the driver; answers go into `out`.
    pub fn receive(&mut self, byte: u8, out: &mut Queue) {
        if let Some(command) = self.parameter_of.take() {
            out.push(ACK);
            if (command, byte) == (SCAN_CODE_SET, 0) {
                out.push(2);
            }
            return;
        }
        if byte == ECHO {
            return out.push(ECHO);
        }
        out.push(ACK);
        match byte {
            RESET => {
                *self = Keyboard::new();
                out.push(SELF_TEST_PASSED);
            }
            DISABLE => self.scanning = false,
            ENABLE => self.scanning = true,
            IDENTIFY => {
                out.push(0xab);
                out.push(0x83);
            }
            SCAN_CODE_SET | SET_LEDS | SET_RATE => self.parameter_of = Some(byte),
            _ => {}
        }
    }
}

/// The codes of Ctrl-Alt-Del, pressed and released.
pub(super) fn ctrl_alt_del(translated: bool) -> &'static [u8] {
    if translated { &CTRL_ALT_DEL_SET_1 } else { &CTRL_ALT_DEL_SET_2 }
}
