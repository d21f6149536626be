//! Serial lines.

use std::os::fd::RawFd;

use purlin_devices::legacy::serial::SERIAL_LINES;

use super::descriptors::duplicate;
use super::guard::{Failure, done};
use super::table;
use crate::config::SerialLine;

/// A line, in numbers of descriptors that are looked at when the machine is started.
#[derive(Debug)]
pub(super) struct AddedLine {
    pub input: RawFd,
    output: RawFd,
}

/// A serial line on these descriptors, which stay the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_serial_console_default(ctx_id: u32, input_fd: i32, output_fd: i32) -> i32 {
    let line = AddedLine { input: input_fd, output: output_fd };
    done(|| table::update(ctx_id, |context| context.serial_lines.push(line)))
}

/// The first lines, as many as a machine has.
pub(super) fn effective(lines: &[AddedLine]) -> &[AddedLine] {
    match lines.split_at_checked(SERIAL_LINES.len()) {
        None | Some((_, [])) => lines,
        Some((lines, more)) => {
            log::warn!("{} serial lines are left out: a machine has {}", more.len(), lines.len());
            lines
        }
    }
}

impl AddedLine {
    /// With copies of its descriptors.
    pub fn open(&self) -> Result<SerialLine, Failure> {
        Ok(SerialLine::new(duplicate("input_fd", self.input)?, duplicate("output_fd", self.output)?))
    }
}
