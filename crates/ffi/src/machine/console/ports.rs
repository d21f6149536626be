//! From a console's description to its ports.

use std::os::fd::{AsFd, OwnedFd};

use purlin_devices::virtio::console::{
    Injector, LogSink, PortConfig, PortInput, PortOutput, RawMode, WhenBroken, terminal_size,
};
use purlin_init::abi::{PORT_STDERR, PORT_STDIN, PORT_STDOUT};

use super::HostEnds;
use super::streams::{Stream, open_streams};
use crate::config::{Console, ConsolePort, PortEnds};
use crate::machine::{BuildError, early};

/// Log target of what the kernel and init print when no terminal takes it.
const LOG_TARGET: &str = "init_or_kernel";

/// The ports of one console, and what comes with them.
#[derive(Default)]
pub(super) struct Ports {
    pub list: Vec<PortConfig>,
    pub injector: Option<Injector>,
    pub raw: Vec<RawMode>,
    /// Port numbers with the terminals behind them.
    pub terminals: Vec<(usize, OwnedFd)>,
}

impl Ports {
    pub fn new(console: &Console, ends: &mut HostEnds) -> Result<Self, BuildError> {
        match console {
            Console::Disabled => Ok(Ports::default()),
            Console::File(path) => {
                let file = early::create(path).map_err(BuildError::host("console file"))?;
                let port = PortConfig::console().output(PortOutput::Fd(file.into()));
                Ok(Ports { list: vec![port], ..Default::default() })
            }
            Console::Streams { stdin, stdout, stderr } => {
                let (stdin, stdout, stderr) = open_streams([stdin, stdout, stderr], ends)?;
                Ports::streams(stdin, stdout, stderr)
            }
            Console::Ports(list) => Ports::given(list),
        }
    }

    /// Those of `wanted` that a port is called.
    pub fn names_among<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().filter(|name| self.list.iter().any(|port| port.name == **name)).copied().collect()
    }

    /// Terminals share port 0; every other stream is a port of its own (libkrun's rules, so that its init
    /// finds them).
    fn streams(mut stdin: Stream, mut stdout: Stream, mut stderr: Stream) -> Result<Self, BuildError> {
        let mut ports = Ports::default();
        let mut console = PortConfig::console();
        for stream in [&stdin, &stdout, &stderr] {
            if let Some(fd) = stream.terminal()? {
                // Its Ctrl-C stays a host signal if input is not from it.
                console = ports.terminal(0, fd, !stdin.is_terminal(), console)?;
                break;
            }
        }
        let input = match stdin.terminal()? {
            Some(fd) => PortInput::Fd(fd),
            None => {
                let (input, injector) = PortInput::injector().map_err(BuildError::host("console input"))?;
                ports.injector = Some(injector);
                input
            }
        };
        let output = match stdout.terminal()? {
            Some(fd) => PortOutput::Fd(fd),
            None => PortOutput::Lines(Box::new(LogSink { target: LOG_TARGET })),
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

    fn given(list: &[ConsolePort]) -> Result<Self, BuildError> {
        let mut ports = Ports::default();
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(BuildError::host("console port"));
        for (number, ConsolePort { name, ends }) in list.iter().enumerate() {
            let mut port = PortConfig::data(name);
            match ends {
                PortEnds::Terminal(fd) => {
                    port.role = PortConfig::console().role;
                    port = ports.terminal(number, copy(fd)?, false, port)?;
                    port = port.input(PortInput::Fd(copy(fd)?)).output(PortOutput::Fd(copy(fd)?));
                }
                PortEnds::Streams { input, output } => {
                    port.input = input.as_ref().map(copy).transpose()?.map(PortInput::Fd);
                    port.output = output.as_ref().map(copy).transpose()?.map(PortOutput::Fd);
                    if port.input.is_none() {
                        port = port.when_broken(WhenBroken::Remove);
                    }
                }
            }
            ports.list.push(port);
        }
        Ok(ports)
    }

    /// A port on a terminal, which goes raw, and whose size it has.
    fn terminal(
        &mut self,
        number: usize,
        fd: OwnedFd,
        keep_signals: bool,
        mut port: PortConfig,
    ) -> Result<PortConfig, BuildError> {
        let copy = fd.try_clone().map_err(BuildError::host("terminal"))?;
        self.raw.push(RawMode::enable(copy, keep_signals).map_err(BuildError::host("terminal mode"))?);
        port.size = terminal_size(fd.as_fd()).ok();
        self.terminals.push((number, fd));
        Ok(port)
    }
}
