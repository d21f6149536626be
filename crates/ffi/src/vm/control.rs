//! The host's side of the control channel to the guest's init.

use std::collections::VecDeque;
use std::io::ErrorKind;
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

    /// Takes what arrived, if something did; unknown messages are skipped.
    pub fn read(&mut self) -> Option<Vec<Event>> {
        let mut bytes = [0; READ_LIMIT];
        let count = self.receive(&mut bytes)?;
        let mut input = bytes.get(..count)?;
        let mut events = Vec::new();
        while let Some(frame) = self.decoder.next(&mut input) {
            events.extend(Event::decode(frame));
        }
        Some(events)
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Option<usize> {
        loop {
            match self.port.recv(bytes) {
                Ok(count @ 1..) => return Some(count),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
                Ok(_) | Err(_) => {
                    self.open = false;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use purlin_devices::virtio::console::PortInput;

    use super::*;

    /// A look may find nothing that is known, and there may be more.
    #[test]
    fn what_comes_after_much_that_is_unknown_is_heard() {
        let (handle, input, _output) = PortHandle::pair().unwrap();
        let PortInput::Fd(device) = input else { panic!("not a descriptor") };
        let exited = Event::Exited { code: 7 };
        let unknown = b"\x7f\x01\x04\0\x07\0\0\0".repeat(1024);
        UnixStream::from(device).write_all(&[unknown, exited.encode()].concat()).unwrap();
        let mut channel = ControlChannel::new(handle);
        assert_eq!(channel.read(), Some(vec![]));
        let heard: Vec<_> = std::iter::from_fn(|| channel.read()).flatten().collect();
        assert_eq!((heard, channel.is_open()), (vec![exited], true));
    }
}
