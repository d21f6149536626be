//! The controller's saved form.

use std::collections::VecDeque;

use purlin_snapshot::{DecodeError, Reader, Writer};

use super::controller::{CAPACITY, Controller, Expect, Queue};
use super::keyboard::Keyboard;

/// Appends a controller.
pub(super) fn save(w: &mut Writer, controller: &Controller) {
    let Controller { control, output_port, expect, queue, keyboard, has_driver } = controller;
    w.u8(*control);
    w.u8(*output_port);
    w.u8(match expect {
        Expect::Keyboard => 0,
        Expect::Control => 1,
        Expect::OutputPort => 2,
    });
    w.bool(*has_driver);
    w.bool(keyboard.scanning);
    w.bool(keyboard.parameter_of.is_some());
    w.u8(keyboard.parameter_of.unwrap_or(0));
    w.bytes(&queue.0.iter().copied().collect::<Vec<u8>>());
}

/// Reads what [`save`] wrote.
pub(super) fn load(r: &mut Reader<'_>) -> Result<Controller, DecodeError> {
    let (control, output_port) = (r.u8("control")?, r.u8("output_port")?);
    let expect = match r.u8("expect")? {
        0 => Expect::Keyboard,
        1 => Expect::Control,
        2 => Expect::OutputPort,
        value => return Err(DecodeError::Value { field: "expect", value: value.into() }),
    };
    let has_driver = r.bool("has_driver")?;
    let scanning = r.bool("scanning")?;
    let (has_parameter, command) = (r.bool("has_parameter")?, r.u8("parameter_of")?);
    if !has_parameter && command != 0 {
        return Err(DecodeError::Value { field: "parameter_of", value: command.into() });
    }
    let keyboard = Keyboard { scanning, parameter_of: has_parameter.then_some(command) };
    let queue = Queue(VecDeque::from(r.bytes("queue", CAPACITY as u32)?.to_vec()));
    Ok(Controller { control, output_port, expect, queue, keyboard, has_driver })
}
