//! The control channel as a pure machine: driver messages and host events in, due messages out.

use super::port::{Due, Port, PortRole};
use super::protocol::{GuestMessage, HostMessage, ProtocolError, WindowSize};

/// All ports of a device and the state of its control queues.
///
/// Inputs are [`Control::guest`] and the host events; [`Control::next_due`] and [`Control::sent`] give the messages
/// to write, in order. Nothing is queued: what is due is recomputed from the ports' state, so that a driver
/// that offers no buffers costs no memory and gets the newest state once it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    pub(super) ports: Vec<Port>,
    /// VIRTIO_CONSOLE_F_MULTIPORT was negotiated. Without it there is no control channel, and port 0 is
    /// always open.
    pub(super) multiport: bool,
    pub(super) driver_ready: bool,
}

impl Control {
    /// A device whose driver has not said anything yet.
    pub fn new(ports: Vec<Port>, multiport: bool) -> Self {
        Control { ports, multiport, driver_ready: false }
    }

    /// Takes one message of the driver.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`]; the state is unchanged.
    pub fn guest(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        match GuestMessage::parse(bytes)? {
            GuestMessage::DeviceReady(ready) => {
                self.driver_ready = ready;
                for port in &mut self.ports {
                    port.driver_ready();
                }
            }
            GuestMessage::PortReady { port, ok } => self.port_mut(port)?.port_ready(ok),
            GuestMessage::PortOpen { port, open } => {
                let port = self.port_mut(port)?;
                port.guest_open = open && !port.removed;
            }
        }
        Ok(())
    }

    fn port_mut(&mut self, id: u32) -> Result<&mut Port, ProtocolError> {
        let index = usize::try_from(id).map_err(|_| ProtocolError::Port(id))?;
        self.ports.get_mut(index).ok_or(ProtocolError::Port(id))
    }

    /// A console's size changed. The last one before it is sent wins.
    pub fn resize(&mut self, port: usize, size: WindowSize) {
        if let Some(port) = self.ports.get_mut(port) {
            port.resize(size);
        }
    }

    /// The port's input is at its end, and everything before it was delivered. The guest is told with
    /// PORT_OPEN 0; a console is not, its line stays up.
    pub fn input_ended(&mut self, port: usize) {
        if let Some(port) = self.ports.get_mut(port) {
            port.set_host_open(false);
        }
    }

    /// The port goes away, so that its users in the guest get an error. Consoles stay.
    pub fn remove(&mut self, port: usize) {
        if let Some(port) = self.ports.get_mut(port) {
            port.remove();
        }
    }

    /// True if bytes may be given to the guest on this port.
    pub fn accepts_input(&self, port: usize) -> bool {
        self.ports.get(port).is_some_and(|p| {
            let open = if self.multiport { p.guest_open } else { port == 0 };
            open && p.host_open && !p.removed
        })
    }

    /// True if the port's queues may be used at all.
    pub fn is_present(&self, port: usize) -> bool {
        self.ports.get(port).is_some_and(|p| !p.removed && (self.multiport || port == 0))
    }

    /// True if the driver is there and has not registered every terminal yet, which it tells with PORT_OPEN.
    pub fn is_registering(&self) -> bool {
        let missing = |p: &Port| p.spec.role == PortRole::Console && !p.removed && !p.guest_open;
        self.multiport && self.driver_ready && self.ports.iter().any(missing)
    }

    fn first(&self) -> Option<(usize, Due)> {
        if !self.multiport || !self.driver_ready {
            return None;
        }
        // All PORT_ADDs first: the driver works through them while the answers are under way.
        let add = self.ports.iter().position(|p| p.due.has(Due::ADD)).map(|i| (i, Due::ADD));
        add.or_else(|| self.ports.iter().enumerate().find_map(|(i, p)| Some((i, p.first_due()?))))
    }

    /// The next message due, and its port; stays due until [`Control::sent`].
    pub fn next_due(&self) -> Option<(u32, HostMessage<'_>)> {
        let (index, due) = self.first()?;
        Some((u32::try_from(index).ok()?, self.ports.get(index)?.message(due)))
    }

    /// The message of [`Control::next_due`] is on its way.
    pub fn sent(&mut self) {
        if let Some((index, due)) = self.first()
            && let Some(port) = self.ports.get_mut(index)
        {
            port.sent(due);
        }
    }
}
