//! Interrupt lines that go through an event descriptor into the in-kernel interrupt controller.

use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::irq::IrqLine;

/// A line registered as irqfd: writing the descriptor sends one edge.
#[derive(Debug)]
pub struct EventFdLine(EventFd);

impl EventFdLine {
    pub(super) fn new(event: EventFd) -> Self {
        EventFdLine(event)
    }
}

impl IrqLine for EventFdLine {
    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}
