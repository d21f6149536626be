//! What a console is made of.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::lines::LineSink;
use super::port::PortRole;
use super::protocol::{MAX_NAME_LEN, ResizeOrder, WindowSize};
use super::sys;

/// Most ports of one console.
pub const MAX_PORTS: usize = 31;

/// A console could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// No port, or more than [`MAX_PORTS`].
    #[error("a console has 1 to {MAX_PORTS} ports, not {0}")]
    Ports(usize),
    /// A name that is too long or holds a NUL.
    #[error("name of port {port}: {len} bytes (at most {MAX_NAME_LEN}), or a NUL in it")]
    Name {
        /// Port number.
        port: usize,
        /// Length of the name in bytes.
        len: usize,
    },
    /// The host refused something.
    #[error("port {port}: {what}: {source}")]
    Host {
        /// Port number.
        port: usize,
        /// What was asked of the host.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Where a port's input comes from.
#[derive(Debug)]
#[non_exhaustive]
pub enum PortInput {
    /// A descriptor of any kind. Its flags are not changed.
    Fd(OwnedFd),
    /// Made by [`PortInput::injector`].
    Injector(InterruptSource),
}

impl PortInput {
    /// An input that gives byte 0x03 (Ctrl-C) whenever the injector is used.
    ///
    /// # Errors
    ///
    /// The host refused an event descriptor.
    pub fn injector() -> io::Result<(Self, Injector)> {
        let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        Ok((PortInput::Injector(InterruptSource(event.clone())), Injector(event)))
    }
}

/// The device's end of an [`Injector`].
#[derive(Debug)]
pub struct InterruptSource(pub(super) Arc<EventFd>);

/// Types Ctrl-C on a port.
#[derive(Debug, Clone)]
pub struct Injector(Arc<EventFd>);

impl Injector {
    /// Sends one 0x03 to the guest; several that the guest has not taken yet become one.
    ///
    /// Does not wait and does not fail. It is one `write`, so a signal handler may call it (which should
    /// keep `errno`).
    pub fn interrupt(&self) {
        // Fails only when 2^64 - 2 events are pending.
        let _ = self.0.write(1);
    }
}

/// Where a port's output goes.
#[non_exhaustive]
pub enum PortOutput {
    /// A descriptor of any kind. Its flags are not changed.
    Fd(OwnedFd),
    /// Text, line by line.
    Lines(Box<dyn LineSink>),
}

/// What the guest sees when a data port's output is gone (its reader closed it).
///
/// In both cases the bytes are dropped and counted. PORT_OPEN 0 is not among the choices: Linux makes writers
/// of such a port wait for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenBroken {
    /// Writes succeed.
    #[default]
    Discard,
    /// The port is taken away: writes fail with ENODEV, as EPIPE would on the host. For a port whose use is
    /// only output; a console port is never taken away.
    Remove,
}

/// One port.
pub struct PortConfig {
    /// Name the guest finds in `/sys/class/virtio-ports/*/name`; empty for none.
    pub name: String,
    /// Console or data.
    pub role: PortRole,
    /// Where its input comes from; `None` if the guest never receives anything.
    pub input: Option<PortInput>,
    /// Where its output goes; `None` to drop it.
    pub output: Option<PortOutput>,
    /// Size of a console, if known.
    pub size: Option<WindowSize>,
    /// What to do when the output's reader is gone.
    pub when_broken: WhenBroken,
}

impl PortConfig {
    /// A console port without ends.
    pub fn console() -> Self {
        Self::new(PortRole::Console, "")
    }

    /// A data port without ends.
    pub fn data(name: impl Into<String>) -> Self {
        Self::new(PortRole::Data, name)
    }

    fn new(role: PortRole, name: impl Into<String>) -> Self {
        PortConfig {
            name: name.into(),
            role,
            input: None,
            output: None,
            size: None,
            when_broken: WhenBroken::Discard,
        }
    }

    /// With this input.
    pub fn input(mut self, input: PortInput) -> Self {
        self.input = Some(input);
        self
    }

    /// With this output.
    pub fn output(mut self, output: PortOutput) -> Self {
        self.output = Some(output);
        self
    }

    /// With this size.
    pub fn size(mut self, size: WindowSize) -> Self {
        self.size = Some(size);
        self
    }

    /// With this behaviour when the output's reader is gone.
    pub fn when_broken(mut self, what: WhenBroken) -> Self {
        self.when_broken = what;
        self
    }
}

/// A console.
pub struct ConsoleConfig {
    /// Its ports, in order; see [`MAX_PORTS`].
    pub ports: Vec<PortConfig>,
    /// Order the guest's kernel expects in RESIZE.
    pub resize_order: ResizeOrder,
}

/// The host's end of an in-process port: a stream of bytes to and from the guest, usable from any thread.
///
/// Both directions are bounded (by the socket pair underneath). Dropping it is end of file for the guest.
#[derive(Debug)]
pub struct PortHandle(UnixStream);

impl PortHandle {
    /// A handle and the two ends for a [`PortConfig`].
    ///
    /// # Errors
    ///
    /// The host refused the descriptors.
    pub fn pair() -> io::Result<(Self, PortInput, PortOutput)> {
        let (ours, device) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let second = device.try_clone()?;
        Ok((PortHandle(ours), PortInput::Fd(device.into()), PortOutput::Fd(second.into())))
    }

    /// Sends bytes; how many were taken.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if none were: wait until [`PortHandle::as_fd`] is writable. `BrokenPipe` if the device
    /// is gone.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        sys::send_bytes(self.0.as_fd(), bytes)
    }

    /// Receives bytes; 0 if the device is gone.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there are none: wait until [`PortHandle::as_fd`] is readable.
    pub fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut &self.0, bytes)
    }

    /// A second handle on the same stream.
    ///
    /// # Errors
    ///
    /// The host refused a descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(PortHandle)
    }
}

impl AsFd for PortHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
