//! Where the guest's consoles and its workload's stdio go.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::ConfigError;

/// One of the workload's standard streams.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConsoleStream {
    /// This process's own descriptor of the same role (0, 1 or 2); absent if that is closed.
    Inherit,
    /// This descriptor, of any kind. Its flags are not changed.
    Fd(OwnedFd),
    /// A pipe whose other end the [`Vm`](crate::Vm) hands out.
    Pipe,
    /// Nothing: end of file, or dropped.
    None,
}

/// A console of the guest.
///
/// A stream that is a terminal becomes the guest's console (`hvc0`) and is put in raw mode while the machine
/// runs. Any other stream becomes a port of its own, so that bytes pass unchanged; the kernel's own messages
/// then go to the log.
#[derive(Debug)]
#[non_exhaustive]
pub enum Console {
    /// These three streams.
    Streams {
        /// Descriptor 0 of the workload.
        stdin: ConsoleStream,
        /// Descriptor 1.
        stdout: ConsoleStream,
        /// Descriptor 2.
        stderr: ConsoleStream,
    },
    /// No input; all output, the kernel's included, to this file, created or truncated. With a kernel in a file and
    /// without a serial line, what the kernel prints before it has a console comes through one (`earlycon`).
    File(PathBuf),
    /// These ports and nothing else.
    Ports(Vec<ConsolePort>),
    /// No console device at all. The workload's descriptors are then what its init makes of them.
    Disabled,
}

/// One port of [`Console::Ports`].
#[derive(Debug)]
pub struct ConsolePort {
    pub(crate) name: String,
    pub(crate) ends: PortEnds,
}

#[derive(Debug)]
pub(crate) enum PortEnds {
    Terminal(OwnedFd),
    Streams { input: Option<OwnedFd>, output: Option<OwnedFd> },
}

impl ConsolePort {
    /// A terminal of the guest (`/dev/hvcN`) on a terminal of the host, which is in raw mode while the
    /// machine runs. The guest finds `name`, at most 255 bytes, in `/sys/class/virtio-ports`.
    pub fn terminal(name: impl Into<String>, terminal: OwnedFd) -> Self {
        ConsolePort { name: name.into(), ends: PortEnds::Terminal(terminal) }
    }

    /// A stream of bytes (`/dev/vportNpM`) from `input` and to `output`, of any kind. The guest's init takes
    /// ports called `krun-stdin`, `krun-stdout` and `krun-stderr` for the workload's standard streams.
    pub fn stream(name: impl Into<String>, input: Option<OwnedFd>, output: Option<OwnedFd>) -> Self {
        ConsolePort { name: name.into(), ends: PortEnds::Streams { input, output } }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::inherit()
    }
}

impl Console {
    /// The standard streams of this process.
    pub fn inherit() -> Self {
        use ConsoleStream::Inherit;
        Console::Streams { stdin: Inherit, stdout: Inherit, stderr: Inherit }
    }

    /// Pipes, to be taken from the [`Vm`](crate::Vm) with `take_stdin`, `take_stdout` and `take_stderr`.
    pub fn pipe() -> Self {
        use ConsoleStream::Pipe;
        Console::Streams { stdin: Pipe, stdout: Pipe, stderr: Pipe }
    }

    /// No input, output dropped.
    pub fn null() -> Self {
        use ConsoleStream::None;
        Console::Streams { stdin: None, stdout: None, stderr: None }
    }

    pub(super) fn check_further(&self) -> Result<(), ConfigError> {
        match self {
            Console::Streams { stdin, stdout, stderr }
                if [stdin, stdout, stderr].iter().any(|s| matches!(s, ConsoleStream::Pipe)) =>
            {
                Err(ConfigError::field("add_console", "a pipe", "give one end of a pipe of your own"))
            }
            _ => Ok(()),
        }
    }

    /// See [`Console::File`].
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Console::File(path.into())
    }
}
