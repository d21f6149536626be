use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use purlin_snapshot::Section;
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;

use super::I8042;
use super::controller::{COMMAND, Controller, DATA, Effect};

const RESET: u8 = 0xfe;
const ACK: u8 = 0xfa;

#[derive(Default)]
struct Edges(AtomicU32);

impl IrqLine for Edges {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn read(controller: &mut Controller, offset: u64) -> u8 {
    controller.read(offset).0
}

/// Reads as a driver does: status, then data, until nothing is left.
fn drain(controller: &mut Controller) -> Vec<u8> {
    let mut bytes = Vec::new();
    while read(controller, COMMAND) & 1 != 0 {
        bytes.push(read(controller, DATA));
    }
    bytes
}

/// What Linux's driver writes when it opens the keyboard port.
fn with_driver(control: u8) -> Controller {
    let mut controller = Controller::new();
    let _ = controller.write(COMMAND, 0x60);
    let _ = controller.write(DATA, control);
    controller
}

#[test]
fn reset_only_by_command_fe() {
    let resets = Arc::new(AtomicU32::new(0));
    let seen = resets.clone();
    let mut device = I8042::new(Arc::new(Edges::default()), move || {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    for byte in 0..=0xfd {
        device.write(COMMAND, &[byte]);
    }
    device.write(DATA, &[RESET]);
    device.write(COMMAND, &[RESET, RESET]);
    assert_eq!(resets.load(Ordering::Relaxed), 0);
    device.write(COMMAND, &[RESET]);
    assert_eq!(resets.load(Ordering::Relaxed), 1);
}

#[test]
fn the_input_buffer_is_never_full() {
    let mut controller = Controller::new();
    for byte in 0..=0xfd {
        let _ = controller.write(COMMAND, byte);
        assert_eq!(read(&mut controller, COMMAND) & 0x12, 0x10, "after command {byte:#x}");
        let _ = controller.write(DATA, byte);
    }
}

#[test]
fn control_byte_round_trip() {
    let mut controller = Controller::new();
    let _ = controller.write(COMMAND, 0x20);
    assert_eq!(drain(&mut controller), [0x05]);
    let _ = controller.write(COMMAND, 0x60);
    let _ = controller.write(DATA, 0x47);
    let _ = controller.write(COMMAND, 0x20);
    assert_eq!(drain(&mut controller), [0x47]);
}

#[test]
fn answers_of_controller_and_keyboard() {
    let table: [(u64, &[u8], &[u8]); 11] = [
        (COMMAND, &[0xaa], &[0x55]),
        (COMMAND, &[0xab], &[0x00]),
        (COMMAND, &[0xd0], &[0x03]),
        (DATA, &[0xff], &[ACK, 0xaa]),
        (DATA, &[0xf2], &[ACK, 0xab, 0x83]),
        (DATA, &[0xed, 0x07], &[ACK, ACK]),
        (DATA, &[0xf0, 0x00], &[ACK, ACK, 2]),
        (DATA, &[0xf0, 0x02], &[ACK, ACK]),
        (DATA, &[0xf3, 0xee], &[ACK, ACK]),
        (DATA, &[0xee], &[0xee]),
        (DATA, &[0x01], &[ACK]),
    ];
    for (register, written, expected) in table {
        let mut controller = Controller::new();
        for &byte in written {
            let _ = controller.write(register, byte);
        }
        assert_eq!(drain(&mut controller), expected, "{written:x?}");
    }
}

#[test]
fn every_byte_of_the_keyboard_has_an_interrupt_of_its_own() {
    let mut controller = with_driver(0x05);
    assert_eq!(controller.write(DATA, 0xf2), Effect::Interrupt);
    assert_eq!(controller.read(DATA), (ACK, Effect::Interrupt));
    assert_eq!(controller.read(DATA), (0xab, Effect::Interrupt));
    assert_eq!(controller.read(DATA), (0x83, Effect::None));
    let mut silent = with_driver(0x04);
    assert_eq!(silent.write(DATA, 0xf4), Effect::None);
    assert_eq!(silent.read(DATA), (ACK, Effect::None));
}

#[test]
fn ctrl_alt_del_is_typed_in_the_drivers_code_set() {
    for (control, codes) in [
        (0x05, &[0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14][..]),
        (0x45, &[0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]),
    ] {
        let mut controller = with_driver(control);
        assert_eq!(controller.ctrl_alt_del(), Some(Effect::Interrupt));
        assert_eq!(drain(&mut controller), codes);
    }
}

#[test]
fn ctrl_alt_del_needs_a_driver_that_listens() {
    assert_eq!(Controller::new().ctrl_alt_del(), None, "nobody has touched it");
    assert_eq!(with_driver(0x04).ctrl_alt_del(), None, "interrupts off");
    assert_eq!(with_driver(0x15).ctrl_alt_del(), None, "keyboard off");
    let mut controller = with_driver(0x05);
    let _ = controller.write(DATA, 0xf5);
    drain(&mut controller);
    assert_eq!(controller.ctrl_alt_del(), None, "scanning off");
    let _ = controller.write(DATA, 0xf4);
    drain(&mut controller);
    assert!(controller.ctrl_alt_del().is_some());
    assert_eq!(controller.ctrl_alt_del(), Some(Effect::None), "a second one waits behind the first");
    assert_eq!(controller.ctrl_alt_del(), None, "a third does not fit");
    assert_eq!(drain(&mut controller).len(), 22);
}

#[test]
fn the_device_raises_its_line() {
    let edges = Arc::new(Edges::default());
    let mut device = I8042::new(edges.clone(), || {});
    assert!(!device.send_ctrl_alt_del());
    device.write(COMMAND, &[0x60]);
    device.write(DATA, &[0x05]);
    assert!(device.send_ctrl_alt_del());
    let mut data = [0xff];
    for _ in 0..11 {
        device.read(DATA, &mut data);
    }
    assert_eq!((data, edges.0.load(Ordering::Relaxed)), ([0x14], 11));
}

#[test]
fn a_saved_state_goes_on_where_it_was() {
    let device = || I8042::new(Arc::new(Edges::default()), || {});
    let mut before = device();
    for (register, byte) in [(COMMAND, 0x60), (DATA, 0x45), (DATA, 0xed), (COMMAND, 0xd1)] {
        before.write(register, &[byte]);
    }
    assert!(before.send_ctrl_alt_del());
    let section = before.save(3);
    let golden =
        [0x45, 0x03, 2, 1, 1, 1, 0xed, 9, 0, 0, 0, ACK, 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
    assert_eq!((section.id.kind, section.id.instance, section.payload.as_slice()), (0x282, 3, &golden[..]));
    let mut after = device();
    after.restore(&section).unwrap();
    assert_eq!(after.controller(), before.controller());

    let with = |at: usize, value: u8| {
        let mut payload = golden.to_vec();
        payload[at] = value;
        device().restore(&Section::new(section.id, payload)).is_ok()
    };
    assert!(with(2, 0) && !with(2, 3), "what is expected next");
    assert!(!with(5, 0), "a command that waits for no parameter");
    assert!(!with(3, 2) && !with(7, 33) && !with(7, 8), "a flag, a length, bytes behind the end");
    for length in 0..golden.len() {
        let cut = Section::new(section.id, golden[..length].to_vec());
        assert!(device().restore(&cut).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn scripts_of_anything(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        super::fuzz::i8042_ops(&bytes);
    }

    /// Whatever a guest does: the queue is bounded, only the command resets, and every access is answered.
    #[test]
    fn any_accesses_are_harmless(ops in proptest::collection::vec((0..6_u64, any::<u8>(), any::<bool>()), 0..400)) {
        let mut controller = Controller::new();
        for (offset, byte, is_read) in ops {
            if is_read {
                let (_, effect) = controller.read(offset);
                prop_assert_ne!(effect, Effect::Reset);
            } else {
                let effect = controller.write(offset, byte);
                prop_assert_eq!(effect == Effect::Reset, offset == COMMAND && byte == RESET);
            }
            let _ = controller.ctrl_alt_del();
        }
        prop_assert!(drain(&mut controller).len() <= 32);
    }
}
