//! The virtio console (virtio 1.2 §5.3): a terminal and named byte streams between guest and host.
//!
//! # The protocol in short
//!
//! A console has ports. Port 0 has queues 0 (to the guest) and 1 (from the guest); queues 2 and 3 carry control
//! messages; port `p` from 1 on has queues `2p + 2` and `2p + 3`. A control message is eight bytes, `id` u32,
//! `event` u16, `value` u16, and for RESIZE and PORT_NAME a payload. A Linux guest and this device talk like
//! this:
//!
//! ```text
//! guest                                     device
//! DEVICE_READY 1                       -->
//!                                      <--  PORT_ADD for every port, in one go
//! PORT_READY 1 (per port)              -->
//!                                      <--  CONSOLE_PORT 1, PORT_OPEN 1, RESIZE, PORT_NAME (as they apply)
//! PORT_OPEN 1 (a program opened it,    -->
//!   or: the console is registered)          host input begins to flow
//!                                      <--  data ... PORT_OPEN 0 (host input ended: the guest reads EOF)
//! PORT_OPEN 0 (closed)                 -->  host input stops; it is kept, not read, until the next open
//! ```
//!
//! Linux sends a control message and spins until its buffer comes back, and handles answers in a work item:
//! so buffers of the driver's messages go back before anything else happens, and all answers due are written
//! in one pass with one interrupt.
//!
//! In Linux (`drivers/char/virtio_console.c`), PORT_OPEN 0 ends readers but makes *writers* of the port wait
//! for ever. It is therefore only sent when input ends, and never because output is broken: then bytes are
//! dropped, or the port is removed ([`WhenBroken`]). A port with both directions whose input ended has this
//! weakness; use two ports, or keep the input open.
//!
//! # Never waiting
//!
//! One slow reader must not stop anything but its own port. No call of the worker waits, and the device holds
//! no bytes: it writes from, and reads into, guest memory directly, and leaves in the guest's ring what the
//! host end does not take. So backpressure is the ring being full, a stop needs no draining, and the saved
//! state contains no data, only how much of the first buffer is out.
//!
//! # Files
//!
//! Pure: `protocol`, `port`, `control`, `lines`, `order`, `ring`, `state`. Touching the operating system: `io`, `tty`,
//! `worker`, `transfer`, `channel`, `handle`, `device` (through the loop), and `sys` with the unsafe calls.
//!
//! # Example: the console of a container-like guest
//!
//! ```
//! use purlin_devices::shell::EventLoop;
//! use purlin_devices::virtio::VirtioDevice;
//! use purlin_devices::virtio::console::{
//!     Console, ConsoleConfig, LogSink, PortConfig, PortHandle, PortInput, PortOutput, ResizeOrder,
//!     WhenBroken,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = EventLoop::spawn("devices")?;
//! let (ctrl_c, injector) = PortInput::injector()?;
//! let (control, control_in, control_out) = PortHandle::pair()?;
//! let (_reader, stdout) = std::io::pipe()?;
//! let console = Console::new(
//!     ConsoleConfig {
//!         ports: vec![
//!             PortConfig::console()
//!                 .input(ctrl_c)
//!                 .output(PortOutput::Lines(Box::new(LogSink { target: "init_or_kernel" }))),
//!             PortConfig::data("krun-stdout")
//!                 .output(PortOutput::Fd(stdout.into()))
//!                 .when_broken(WhenBroken::Remove),
//!             PortConfig::data("purlin-control").input(control_in).output(control_out),
//!         ],
//!         resize_order: ResizeOrder::ColumnsFirst,
//!     },
//!     host.handle(),
//! )?;
//! assert_eq!(console.queue_sizes().len(), 2 + 2 * 3);
//! injector.interrupt(); // Ctrl-C for the guest, kept until it listens
//! control.send(b"hello")?; // likewise
//! # Ok(())
//! # }
//! ```

mod channel;
mod config;
mod control;
mod device;
#[cfg(any(test, feature = "test-utils"))]
mod fuzz;
mod handle;
mod io;
mod lines;
mod order;
mod port;
mod protocol;
mod ring;
mod state;
#[allow(unsafe_code)]
mod sys;
mod transfer;
mod tty;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{
    ConsoleConfig, ConsoleError, Injector, InterruptSource, MAX_PORTS, PortConfig, PortHandle, PortInput,
    PortOutput, WhenBroken,
};
pub use control::Control;
pub use device::Console;
#[cfg(any(test, feature = "test-utils"))]
pub use fuzz::console_ops;
pub use handle::{ConsoleHandle, PortStats};
pub(crate) use io::FdEnd;
pub use lines::{LineSink, LineSplitter, LogSink, MAX_LINE};
pub use port::{Port, PortRole, PortSpec};
pub use protocol::{
    GuestMessage, HEADER_LEN, HostMessage, MAX_NAME_LEN, ProtocolError, ResizeOrder, WindowSize,
};
pub use tty::{RawMode, terminal_size};

/// VIRTIO_CONSOLE_F_SIZE: the configuration space has a size (virtio 1.2 §5.3.3).
const F_SIZE: u64 = 1 << 0;
/// VIRTIO_CONSOLE_F_MULTIPORT: control queues and more ports than one.
const F_MULTIPORT: u64 = 1 << 1;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 32;
/// Queue of messages to the driver.
const CONTROL_RX: usize = 2;
/// Queue of messages of the driver.
const CONTROL_TX: usize = 3;

/// Queue of bytes to the guest on this port (virtio 1.2 §5.3.2).
const fn rx_queue(port: usize) -> usize {
    if port == 0 { 0 } else { 2 * port + 2 }
}

/// Queue of bytes from the guest on this port.
const fn tx_queue(port: usize) -> usize {
    rx_queue(port) + 1
}

/// Port of a data queue.
const fn port_of_queue(queue: usize) -> usize {
    if queue < 2 { 0 } else { queue / 2 - 1 }
}
