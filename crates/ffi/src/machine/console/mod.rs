//! The consoles of a machine: which ports they have, and who holds their other ends.

mod ports;
pub(crate) mod stdio;
mod streams;

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};

use purlin_devices::shell::EventLoop;
use purlin_devices::virtio::console::{
    Console as ConsoleDevice, ConsoleConfig, ConsoleHandle, Injector, PortConfig, PortHandle, RawMode,
    ResizeOrder, terminal_size,
};
use purlin_init::abi::{PORT_CONTROL, PORT_STDERR, PORT_STDIN, PORT_STDOUT};

use super::slots::{Attached, lock};
use super::{BuildError, FLUSH_PATIENCE, after};
use crate::config::{Console, VmConfig};
use ports::Ports;

/// Ports the guest's init looks for by name.
const INIT_PORTS: [&str; 4] = [PORT_STDIN, PORT_STDOUT, PORT_STDERR, PORT_CONTROL];

/// What the machine holds of its consoles while it runs.
#[derive(Default)]
pub(crate) struct Consoles {
    /// Devices whose output is delivered before the machine is gone.
    pub(super) flushed: Vec<Attached<ConsoleDevice>>,
    /// The first console.
    pub handle: Option<ConsoleHandle>,
    /// Types Ctrl-C on the last console that does not get it from a terminal.
    pub injector: Option<Injector>,
    /// Terminals behind console ports.
    pub terminals: Vec<Terminal>,
    raw: RawModes,
}

/// A host terminal whose size the guest is told.
pub(crate) struct Terminal {
    console: ConsoleHandle,
    port: usize,
    fd: OwnedFd,
}

impl Terminal {
    /// Tells the guest the size the terminal has now.
    pub fn pass_on_size(&self) {
        if let Ok(size) = terminal_size(self.fd.as_fd()) {
            self.console.resize(self.port, size);
        }
    }
}

/// Terminals in raw mode, restored in reverse: one that was set twice gets its first mode back.
#[derive(Default)]
struct RawModes(Vec<RawMode>);

impl Drop for RawModes {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// The caller's ends of [`ConsoleStream::Pipe`](crate::ConsoleStream::Pipe).
#[derive(Debug, Default)]
pub(crate) struct HostEnds {
    pub stdin: Option<PipeWriter>,
    pub stdout: Option<PipeReader>,
    pub stderr: Option<PipeReader>,
}

impl Consoles {
    /// Delivers what the guest printed before it ended. As long as a reader takes something it is waited
    /// for; one that stalls loses the rest, which is logged.
    pub fn flush(&self) {
        for device in &self.flushed {
            let mut left = u64::MAX;
            loop {
                match lock(device).device_mut().flush(after(FLUSH_PATIENCE)) {
                    Ok(0) => break,
                    Ok(now) if now < left => left = now,
                    Ok(now) => {
                        log::warn!("{now} bytes of guest output were not read and are lost");
                        break;
                    }
                    Err(busy) => {
                        log::warn!("guest output may be lost: {busy}");
                        break;
                    }
                }
            }
        }
    }

    /// Keeps a terminal in raw mode as long as the consoles' own.
    pub(super) fn hold(&mut self, terminal: RawMode) {
        self.raw.0.push(terminal);
    }

    fn device(&mut self, ports: Ports, device_loop: &EventLoop) -> Result<ConsoleDevice, BuildError> {
        let config = ConsoleConfig { ports: ports.list, resize_order: ResizeOrder::default() };
        let device = ConsoleDevice::new(config, device_loop.handle())?;
        let terminal = |(port, fd)| Terminal { console: device.handle(), port, fd };
        self.terminals.extend(ports.terminals.into_iter().map(terminal));
        self.raw.0.extend(ports.raw);
        self.injector = ports.injector.or(self.injector.take());
        Ok(device)
    }
}

/// What [`make`] gives.
pub(super) struct Made {
    pub consoles: Consoles,
    pub ends: HostEnds,
    pub control: PortHandle,
    /// In the stock place of consoles, the first being the implicit one if there is one.
    pub before_shares: Vec<ConsoleDevice>,
    /// Behind everything, so that no device of a stock machine moves.
    pub last: Option<ConsoleDevice>,
    /// Names of the ports the guest's init looks for.
    pub names: Vec<&'static str>,
}

/// The console devices of a machine. The control port is at the end of the implicit console or, without
/// one, on a device of its own.
pub(super) fn make(config: &VmConfig, device_loop: &EventLoop) -> Result<Made, BuildError> {
    let (control, input, output) = PortHandle::pair().map_err(BuildError::host("control channel"))?;
    let mut control_port = Some(PortConfig::data(PORT_CONTROL).input(input).output(output));
    let mut ends = HostEnds::default();
    let mut consoles = Consoles::default();
    let mut names = Vec::new();
    let mut before_shares = Vec::new();
    for (index, console) in std::iter::once(&config.console).chain(&config.more_consoles).enumerate() {
        if matches!(console, Console::Disabled) {
            continue;
        }
        let mut ports = Ports::new(console, &mut ends)?;
        if index == 0 {
            ports.list.extend(control_port.take());
        }
        names.extend(ports.names_among(&INIT_PORTS));
        let mut device = consoles.device(ports, device_loop)?;
        if let Some(before) = before_shares.last().map(ConsoleDevice::handle) {
            device.follow(&before);
        }
        if index == 0 {
            consoles.handle = Some(device.handle());
        }
        before_shares.push(device);
    }
    let last = match control_port {
        None => None,
        Some(port) => {
            names.push(PORT_CONTROL);
            Some(consoles.device(Ports { list: vec![port], ..Default::default() }, device_loop)?)
        }
    };
    names.sort_unstable();
    names.dedup();
    Ok(Made { consoles, ends, control, before_shares, last, names })
}
