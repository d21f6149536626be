//! Where the guest's console and its workload's stdio go.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

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

/// The implicit console.
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
    /// No input; all output, the kernel's included, to this file, created or truncated.
    File(PathBuf),
    /// No console device at all. The workload's descriptors are then what its init makes of them.
    Disabled,
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

    /// See [`Console::File`].
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Console::File(path.into())
    }
}
