//! The implicit console: which ports it has, and who holds their other ends.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use purlin_devices::shell::EventLoop;
use purlin_devices::virtio::console::{
    Console as ConsoleDevice, ConsoleConfig, ConsoleHandle, Injector, LineSink, PortConfig, PortHandle,
    PortInput, PortOutput, RawMode, ResizeOrder, WhenBroken, WindowSize, terminal_size,
};
use purlin_init::abi::{PORT_CONTROL, PORT_STDERR, PORT_STDIN, PORT_STDOUT};

use super::slots::{Attached, lock};
use super::{BuildError, after};
use crate::config::{Console, ConsoleStream};

/// Log target of what the kernel and init print when no terminal takes it.
const LOG_TARGET: &str = "init_or_kernel";
/// A reader that takes nothing for this long at the end loses the rest.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Where a console device goes among the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The stock place of the implicit console.
    BeforeShares,
    /// Behind everything, so that no device of a stock machine moves.
    Last,
}

/// What the machine holds of its consoles while it runs.
pub(crate) struct Consoles {
    /// Devices whose output is delivered before the machine is gone.
    pub(super) flushed: Vec<Attached<ConsoleDevice>>,
    /// Tells the guest the terminal's size.
    pub handle: Option<ConsoleHandle>,
    /// Types Ctrl-C on the guest's console.
    pub injector: Option<Injector>,
    _raw: Option<RawMode>,
}

/// The caller's ends of [`ConsoleStream::Pipe`].
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
}

/// Kernel and init messages, as log records.
struct LogSink;

impl LineSink for LogSink {
    fn line(&mut self, line: &str) {
        log::error!(target: LOG_TARGET, "{line}");
    }

    fn suppressed(&mut self, lines: u64) {
        log::error!(target: LOG_TARGET, "({lines} lines left out)");
    }
}

/// One stream with its descriptor, if it has one.
struct Stream {
    fd: Option<OwnedFd>,
    tty: bool,
}

impl Stream {
    fn new(fd: Option<OwnedFd>) -> Self {
        let tty = fd.as_ref().is_some_and(|fd| terminal_size(fd.as_fd()).is_ok());
        Stream { fd, tty }
    }

    /// The descriptor, if it is to be a port of its own.
    fn take_plain(&mut self) -> Option<OwnedFd> {
        if self.tty { None } else { self.fd.take() }
    }

    fn take_tty(&self) -> Result<Option<OwnedFd>, BuildError> {
        match &self.fd {
            Some(fd) if self.tty => Ok(Some(fd.try_clone().map_err(BuildError::host("terminal"))?)),
            _ => Ok(None),
        }
    }
}

/// What [`make`] gives.
pub(super) struct Made {
    pub consoles: Consoles,
    pub ends: HostEnds,
    pub control: PortHandle,
    pub device: ConsoleDevice,
    pub position: Position,
    /// Names of the ports the guest's init looks for.
    pub names: Vec<String>,
}

/// The console devices of a machine: the implicit one with the control port at its end, or, without an
/// implicit one, a device with the control port alone.
pub(super) fn make(console: &Console, device_loop: &EventLoop) -> Result<Made, BuildError> {
    let (control, input, output) = PortHandle::pair().map_err(BuildError::host("control channel"))?;
    let control_port = PortConfig::data(PORT_CONTROL).input(input).output(output);
    let mut ends = HostEnds::default();
    let mut ports = match console {
        Console::Disabled => Ports::default(),
        Console::File(path) => {
            let file = File::create(path).map_err(BuildError::host("console file"))?;
            Ports::file(file.into())
        }
        Console::Streams { stdin, stdout, stderr } => {
            let (stdin, stdout, stderr) = open_streams([stdin, stdout, stderr], &mut ends)?;
            Ports::streams(stdin, stdout, stderr)?
        }
    };
    let position = if ports.list.is_empty() { Position::Last } else { Position::BeforeShares };
    ports.list.push(control_port);
    let names = ports.list.iter().filter(|p| !p.name.is_empty()).map(|p| p.name.clone()).collect();
    let config = ConsoleConfig { ports: ports.list, resize_order: ResizeOrder::default() };
    let device = ConsoleDevice::new(config, device_loop.handle())?;
    let handle = (position == Position::BeforeShares).then(|| device.handle());
    let consoles = Consoles { flushed: Vec::new(), handle, injector: ports.injector, _raw: ports.raw };
    Ok(Made { consoles, ends, control, device, position, names })
}

#[derive(Default)]
struct Ports {
    list: Vec<PortConfig>,
    injector: Option<Injector>,
    raw: Option<RawMode>,
}

impl Ports {
    fn file(output: OwnedFd) -> Self {
        Ports { list: vec![PortConfig::console().output(PortOutput::Fd(output))], ..Default::default() }
    }

    /// Terminals share port 0; every other stream is a port of its own (libkrun's rules, so that its init
    /// finds them).
    fn streams(mut stdin: Stream, mut stdout: Stream, mut stderr: Stream) -> Result<Self, BuildError> {
        let mut ports = Ports::default();
        let mut console = PortConfig::console();
        if let Some(size) = first_terminal(&[&stdin, &stdout, &stderr]) {
            console = console.size(size);
        }
        ports.raw = raw_mode(&[&stdin, &stdout, &stderr], stdin.tty)?;
        let input = match stdin.take_tty()? {
            Some(fd) => PortInput::Fd(fd),
            None => {
                let (input, injector) = PortInput::injector().map_err(BuildError::host("console input"))?;
                ports.injector = Some(injector);
                input
            }
        };
        let output = match stdout.take_tty()? {
            Some(fd) => PortOutput::Fd(fd),
            None => PortOutput::Lines(Box::new(LogSink)),
        };
        ports.list.push(console.input(input).output(output));
        if let Some(fd) = stdin.take_plain() {
            ports.list.push(PortConfig::data(PORT_STDIN).input(PortInput::Fd(fd)));
        }
        for (name, stream) in [(PORT_STDOUT, &mut stdout), (PORT_STDERR, &mut stderr)] {
            if let Some(fd) = stream.take_plain() {
                let port = PortConfig::data(name).output(PortOutput::Fd(fd));
                ports.list.push(port.when_broken(WhenBroken::Remove));
            }
        }
        Ok(ports)
    }
}

fn first_terminal(streams: &[&Stream]) -> Option<WindowSize> {
    streams.iter().find(|s| s.tty).and_then(|s| s.fd.as_ref()).and_then(|fd| terminal_size(fd.as_fd()).ok())
}

/// The first terminal among the streams goes raw. Its Ctrl-C stays a host signal if input is not from it.
fn raw_mode(streams: &[&Stream], input_is_tty: bool) -> Result<Option<RawMode>, BuildError> {
    for stream in streams {
        if let Some(fd) = stream.take_tty()? {
            let raw = RawMode::enable(fd, !input_is_tty).map_err(BuildError::host("terminal mode"))?;
            return Ok(Some(raw));
        }
    }
    Ok(None)
}

fn open_streams(
    [stdin, stdout, stderr]: [&ConsoleStream; 3],
    ends: &mut HostEnds,
) -> Result<(Stream, Stream, Stream), BuildError> {
    let pipe = || io::pipe().map_err(BuildError::host("console pipe"));
    let input = match stdin {
        ConsoleStream::Pipe => {
            let (reader, writer) = pipe()?;
            ends.stdin = Some(writer);
            Some(reader.into())
        }
        other => given(other, io::stdin().as_fd())?,
    };
    let output =
        |stream: &ConsoleStream, inherited: BorrowedFd<'_>, end: &mut Option<PipeReader>| match stream {
            ConsoleStream::Pipe => {
                let (reader, writer) = pipe()?;
                *end = Some(reader);
                Ok(Some(writer.into()))
            }
            other => given(other, inherited),
        };
    let out = output(stdout, io::stdout().as_fd(), &mut ends.stdout)?;
    let err = output(stderr, io::stderr().as_fd(), &mut ends.stderr)?;
    Ok((Stream::new(input), Stream::new(out), Stream::new(err)))
}

/// A copy of the descriptor; none for a stream that is absent or closed.
fn given(stream: &ConsoleStream, inherited: BorrowedFd<'_>) -> Result<Option<OwnedFd>, BuildError> {
    let copy = match stream {
        ConsoleStream::Inherit => inherited.try_clone_to_owned(),
        ConsoleStream::Fd(fd) => fd.try_clone(),
        ConsoleStream::Pipe | ConsoleStream::None => return Ok(None),
    };
    match copy {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(None),
        Err(e) => Err(BuildError::host("console descriptor")(e)),
    }
}
