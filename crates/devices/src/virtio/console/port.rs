//! One port: what both sides know about it, and what still has to be told.

use super::protocol::{HostMessage, WindowSize};

/// What a port is to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// A terminal, `/dev/hvc*`: has a size, is never closed by the host.
    Console,
    /// A byte stream, `/dev/vport*p*`.
    Data,
}

/// The unchanging properties of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Console or data.
    pub role: PortRole,
    /// Name told to the guest; empty for none.
    pub name: String,
}

/// Messages due, one bit each. A message is recomputed from the port's state when it is sent, so a set of
/// bits replaces a queue of messages: it cannot grow, and the newest state wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due(u8);

impl Due {
    pub(super) const ADD: Due = Due(1);
    pub(super) const REMOVE: Due = Due(2);
    pub(super) const CONSOLE: Due = Due(4);
    pub(super) const OPEN: Due = Due(8);
    pub(super) const RESIZE: Due = Due(16);
    pub(super) const NAME: Due = Due(32);
    const ALL: u8 = 63;

    /// Order in which the messages of one port are sent: OPEN comes before NAME, so that a program that
    /// waits for the name finds the port connected.
    const ORDER: [Due; 6] = [Due::ADD, Due::REMOVE, Due::CONSOLE, Due::OPEN, Due::RESIZE, Due::NAME];

    pub(super) fn set(&mut self, bit: Due) {
        self.0 |= bit.0;
    }

    pub(super) fn clear(&mut self, bit: Due) {
        self.0 &= !bit.0;
    }

    pub(super) fn has(self, bit: Due) -> bool {
        self.0 & bit.0 != 0
    }

    /// As saved.
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// From a saved value; `None` if it has unknown bits.
    pub(super) fn from_bits(bits: u8) -> Option<Due> {
        (bits & !Due::ALL == 0).then_some(Due(bits))
    }
}

/// State of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub(super) spec: PortSpec,
    /// The driver knows the port: PORT_ADD was sent, or the driver spoke of it unasked.
    pub(super) added: bool,
    /// The driver set the port up.
    pub(super) ready: bool,
    /// A program in the guest has it open (for a console: the driver registered it).
    pub(super) guest_open: bool,
    /// The host end is connected.
    pub(super) host_open: bool,
    /// Taken away from the guest for good; its queues may hold freed buffers and are not touched.
    pub(super) removed: bool,
    pub(super) size: Option<WindowSize>,
    pub(super) due: Due,
}

impl Port {
    /// A port no driver knows yet.
    pub fn new(spec: PortSpec, host_open: bool, size: Option<WindowSize>) -> Self {
        Port {
            spec,
            added: false,
            ready: false,
            guest_open: false,
            host_open,
            removed: false,
            size,
            due: Due::default(),
        }
    }

    pub(super) fn driver_ready(&mut self) {
        self.ready = false;
        self.added = false;
        self.due = if self.removed { Due::default() } else { Due::ADD };
    }

    pub(super) fn port_ready(&mut self, ok: bool) {
        self.ready = ok && !self.removed;
        self.due = Due::default();
        if !self.ready {
            return;
        }
        self.added = true;
        if self.spec.role == PortRole::Console {
            self.due.set(Due::CONSOLE);
            if self.size.is_some() {
                self.due.set(Due::RESIZE);
            }
        }
        if self.host_open {
            self.due.set(Due::OPEN);
        }
        if !self.spec.name.is_empty() {
            self.due.set(Due::NAME);
        }
    }

    pub(super) fn resize(&mut self, size: WindowSize) {
        self.size = Some(size);
        if self.ready && self.spec.role == PortRole::Console {
            self.due.set(Due::RESIZE);
        }
    }

    pub(super) fn set_host_open(&mut self, open: bool) {
        if self.host_open != open && self.spec.role == PortRole::Data {
            self.host_open = open;
            if self.ready {
                self.due.set(Due::OPEN);
            }
        }
    }

    pub(super) fn remove(&mut self) {
        if self.removed || self.spec.role == PortRole::Console {
            return;
        }
        self.removed = true;
        self.host_open = false;
        self.guest_open = false;
        self.due = if self.added { Due::REMOVE } else { Due::default() };
        self.ready = false;
    }

    /// The first message due in sending order.
    pub(super) fn first_due(&self) -> Option<Due> {
        Due::ORDER.into_iter().find(|bit| self.due.has(*bit))
    }

    pub(super) fn sent(&mut self, due: Due) {
        self.due.clear(due);
        match due {
            Due::ADD => self.added = true,
            Due::REMOVE => self.added = false,
            _ => {}
        }
    }

    pub(super) fn message(&self, due: Due) -> HostMessage<'_> {
        match due {
            Due::ADD => HostMessage::Add,
            Due::REMOVE => HostMessage::Remove,
            Due::CONSOLE => HostMessage::Console,
            Due::RESIZE => HostMessage::Resize(self.size.unwrap_or_default()),
            Due::NAME => HostMessage::Name(&self.spec.name),
            _ => HostMessage::Open(self.host_open),
        }
    }
}
