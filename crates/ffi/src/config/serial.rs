//! Serial lines.

use std::os::fd::OwnedFd;

/// A serial line of the guest (`/dev/ttyS0` and so on), between two descriptors of any kind, whose flags are not
/// changed. Input that is a terminal is in raw mode while the machine runs. The machine's own end of a line never
/// waits and loses nothing.
#[derive(Debug)]
pub struct SerialLine {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) output: Option<OwnedFd>,
}

impl SerialLine {
    /// A line with these ends; what the guest sends without an output is dropped.
    pub fn new(input: Option<OwnedFd>, output: Option<OwnedFd>) -> Self {
        SerialLine { input, output }
    }
}
