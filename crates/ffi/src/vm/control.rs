//! The host's side of the control channel to the guest's init.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use purlin_devices::virtio::console::PortHandle;
use purlin_init::control::{Decoder, Event, Request};

/// Bytes taken per look, so that a guest that talks without end does not hold the supervisor.
const READ_LIMIT: usize = 4096;

/// What is left to send, and what arrives.
pub(super) struct ControlChannel {
    port: PortHandle,
    decoder: Decoder,
    outgoing: VecDeque<u8>,
    open: bool,
}

impl ControlChannel {
    pub fn new(port: PortHandle) -> Self {
        ControlChannel { port, decoder: Decoder::new(), outgoing: VecDeque::new(), open: true }
    }

    pub fn fd(&self) -> RawFd {
        self.port.as_fd().as_raw_fd()
    }

    /// False after the device closed its end.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// True while bytes wait for the port to take them.
    pub fn wants_to_write(&self) -> bool {
        self.open && !self.outgoing.is_empty()
    }

    /// Queues a request. Requests are few and small: the owner makes them, not the guest.
    pub fn send(&mut self, request: Request) {
        self.outgoing.extend(request.encode());
        self.write();
    }

    /// Writes what the port takes.
    pub fn write(&mut self) {
        while self.wants_to_write() {
            let (bytes, _) = self.outgoing.as_slices();
            match self.port.send(bytes) {
                Ok(0) => return,
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.open = false,
            }
        }
    }

    /// Takes what arrived; unknown messages are skipped.
    pub fn read(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut bytes = [0; READ_LIMIT];
        let count = match self.receive(&mut bytes) {
            Ok(count) => count,
            Err(_) => return events,
        };
        let mut input = bytes.get(..count).unwrap_or(&[]);
        while let Some(frame) = self.decoder.next(&mut input) {
            events.extend(Event::decode(frame));
        }
        events
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.port.recv(bytes) {
            Ok(0) => {
                self.open = false;
                Ok(0)
            }
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.open = false;
                Err(e)
            }
            other => other,
        }
    }
}
