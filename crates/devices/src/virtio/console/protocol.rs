//! Control messages (virtio 1.2 §5.3.6.2): eight bytes and an optional payload, little endian.

use thiserror::Error;

/// Bytes of every control message before its payload: `id` u32, `event` u16, `value` u16.
pub const HEADER_LEN: usize = 8;

/// Longest port name accepted, in bytes. Linux keeps it in a page; longer ones help nobody.
pub const MAX_NAME_LEN: usize = 128;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_REMOVE: u16 = 2;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// What a driver may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestMessage {
    /// The driver is set up (or, if false, failed to).
    DeviceReady(bool),
    /// The driver set this port up (or failed to).
    PortReady {
        /// Port number as given, unchecked.
        port: u32,
        /// False if the driver could not add the port.
        ok: bool,
    },
    /// A program in the guest opened or closed this port.
    PortOpen {
        /// Port number as given, unchecked.
        port: u32,
        /// True for open.
        open: bool,
    },
}

/// A control message the driver should not have sent. It is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Shorter than the header.
    #[error("control message of {0} bytes")]
    Short(usize),
    /// An event a driver does not send, or an unknown one.
    #[error("control event {0} from the driver")]
    Event(u16),
    /// A port the device does not have.
    #[error("port {0} does not exist")]
    Port(u32),
}

impl GuestMessage {
    /// Reads a message; bytes after the header are ignored, as no message of a driver has a payload.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Short`] or [`ProtocolError::Event`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let Some([a, b, c, d, e, f, g, h]) = bytes.first_chunk::<HEADER_LEN>().copied() else {
            return Err(ProtocolError::Short(bytes.len()));
        };
        let port = u32::from_le_bytes([a, b, c, d]);
        let set = u16::from_le_bytes([g, h]) != 0;
        match u16::from_le_bytes([e, f]) {
            DEVICE_READY => Ok(GuestMessage::DeviceReady(set)),
            PORT_READY => Ok(GuestMessage::PortReady { port, ok: set }),
            PORT_OPEN => Ok(GuestMessage::PortOpen { port, open: set }),
            other => Err(ProtocolError::Event(other)),
        }
    }
}

/// Order of the two halves of a RESIZE payload.
///
/// The specification says columns first. Linux read rows first from 2.6.35 on, changed to the
/// specification's order for 6.15 with backports to stable kernels, and the change has been disputed since:
/// whoever picks the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResizeOrder {
    /// Columns, then rows (virtio 1.2 §5.3.6.2).
    #[default]
    ColumnsFirst,
    /// Rows, then columns.
    RowsFirst,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What the device says about one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMessage<'a> {
    /// The port exists.
    Add,
    /// The port is gone; the driver fails its users with ENODEV.
    Remove,
    /// The port is a console (`/dev/hvc*`).
    Console,
    /// The console's size.
    Resize(WindowSize),
    /// The host end is connected, or is not any more.
    Open(bool),
    /// The port's name.
    Name(&'a str),
}

impl HostMessage<'_> {
    /// The bytes of this message for `port`.
    pub fn encode(&self, port: u32, order: ResizeOrder) -> Vec<u8> {
        let (event, value) = match self {
            HostMessage::Add => (PORT_ADD, 1),
            HostMessage::Remove => (PORT_REMOVE, 1),
            HostMessage::Console => (CONSOLE_PORT, 1),
            HostMessage::Resize(_) => (RESIZE, 0),
            HostMessage::Open(open) => (PORT_OPEN, u16::from(*open)),
            HostMessage::Name(_) => (PORT_NAME, 1),
        };
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&port.to_le_bytes());
        out.extend_from_slice(&event.to_le_bytes());
        out.extend_from_slice(&u16::to_le_bytes(value));
        match self {
            HostMessage::Resize(WindowSize { cols, rows }) => {
                let (first, second) = match order {
                    ResizeOrder::ColumnsFirst => (cols, rows),
                    ResizeOrder::RowsFirst => (rows, cols),
                };
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&second.to_le_bytes());
            }
            HostMessage::Name(name) => out.extend_from_slice(name.as_bytes()),
            _ => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_messages_as_bytes() {
        let table: &[(&[u8], Result<GuestMessage, ProtocolError>)] = &[
            (&[0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0], Ok(GuestMessage::DeviceReady(true))),
            (&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Ok(GuestMessage::DeviceReady(false))),
            (&[2, 0, 0, 0, 3, 0, 1, 0], Ok(GuestMessage::PortReady { port: 2, ok: true })),
            (&[2, 0, 0, 0, 3, 0, 0, 0], Ok(GuestMessage::PortReady { port: 2, ok: false })),
            (&[0, 1, 0, 0, 6, 0, 1, 0, 9, 9], Ok(GuestMessage::PortOpen { port: 256, open: true })),
            (&[1, 0, 0, 0, 6, 0, 0, 0], Ok(GuestMessage::PortOpen { port: 1, open: false })),
            (&[1, 0, 0, 0, 1, 0, 1, 0], Err(ProtocolError::Event(1))),
            (&[1, 0, 0, 0, 5, 0, 1, 0], Err(ProtocolError::Event(5))),
            (&[1, 0, 0, 0, 0xff, 0xff, 1, 0], Err(ProtocolError::Event(0xffff))),
            (&[1, 0, 0, 0, 6, 0, 1], Err(ProtocolError::Short(7))),
            (&[], Err(ProtocolError::Short(0))),
        ];
        for (bytes, want) in table {
            assert_eq!(GuestMessage::parse(bytes), *want, "{bytes:?}");
        }
    }

    #[test]
    fn host_messages_as_bytes() {
        let size = WindowSize { cols: 80, rows: 25 };
        let spec = ResizeOrder::ColumnsFirst;
        let table: &[(HostMessage<'_>, ResizeOrder, &[u8])] = &[
            (HostMessage::Add, spec, &[3, 0, 0, 0, 1, 0, 1, 0]),
            (HostMessage::Remove, spec, &[3, 0, 0, 0, 2, 0, 1, 0]),
            (HostMessage::Console, spec, &[3, 0, 0, 0, 4, 0, 1, 0]),
            (HostMessage::Open(true), spec, &[3, 0, 0, 0, 6, 0, 1, 0]),
            (HostMessage::Open(false), spec, &[3, 0, 0, 0, 6, 0, 0, 0]),
            (HostMessage::Name("ab"), spec, &[3, 0, 0, 0, 7, 0, 1, 0, b'a', b'b']),
            (HostMessage::Resize(size), spec, &[3, 0, 0, 0, 5, 0, 0, 0, 80, 0, 25, 0]),
            (HostMessage::Resize(size), ResizeOrder::RowsFirst, &[3, 0, 0, 0, 5, 0, 0, 0, 25, 0, 80, 0]),
        ];
        for (message, order, want) in table {
            assert_eq!(message.encode(3, *order), *want, "{message:?} {order:?}");
        }
    }
}
