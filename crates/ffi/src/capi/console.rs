//! Consoles.

use std::os::fd::RawFd;

use super::context::Context;
use super::descriptors::{duplicate, is_terminal};
use super::guard::{Failure, call, done};
use super::pointers::CText;
use super::table;
use crate::config::{Console, ConsolePort, ConsoleStream};

/// What was asked for, in numbers of descriptors that are looked at when the machine is started.
#[derive(Debug, Default)]
pub(super) struct ConsoleCalls {
    pub implicit_disabled: bool,
    /// File for the output of the implicit console.
    pub output: Option<String>,
    /// Value of `console=` on the kernel's command line.
    pub kernel: Option<String>,
    pub added: Vec<Added>,
}

/// A console besides the implicit one.
#[derive(Debug)]
pub(super) enum Added {
    Standard { input: RawFd, output: RawFd, error: RawFd },
    Multiport(Vec<Port>),
}

#[derive(Debug)]
pub(super) struct Port {
    name: String,
    ends: Ends,
}

#[derive(Debug)]
enum Ends {
    Terminal(RawFd),
    Streams { input: RawFd, output: RawFd },
}

impl ConsoleCalls {
    /// All descriptors that could be terminals put into raw mode.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut list = Vec::new();
        if !self.implicit_disabled && self.output.is_none() {
            list.extend([0, 1, 2]);
        }
        for console in &self.added {
            match console {
                Added::Standard { input, output, error } => list.extend([*input, *output, *error]),
                Added::Multiport(ports) => list.extend(ports.iter().filter_map(|port| match port.ends {
                    Ends::Terminal(fd) => Some(fd),
                    Ends::Streams { .. } => None,
                })),
            }
        }
        list
    }
}

/// No implicit console.
#[unsafe(no_mangle)]
pub extern "C" fn krun_disable_implicit_console(ctx_id: u32) -> i32 {
    done(|| table::update(ctx_id, |context| context.consoles.implicit_disabled = true))
}

/// Output of the implicit console goes to a file, once.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_console_output(ctx_id: u32, c_filepath: CText) -> i32 {
    done(|| {
        let path = c_filepath.required("c_filepath")?;
        table::with(ctx_id, |context| match context.consoles.output.replace(path) {
            None => Ok(()),
            Some(first) => {
                let text = format!("console output goes to {first:?} already");
                context.consoles.output = Some(first);
                Err(Failure::invalid(text))
            }
        })
    })
}

/// The kernel's console, as in `console=`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_kernel_console(ctx_id: u32, console_id: CText) -> i32 {
    done(|| {
        let console = console_id.required("console_id")?;
        table::update(ctx_id, |context| context.consoles.kernel = Some(console))
    })
}

/// A console with the rules of the implicit one, on these descriptors.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtio_console_default(
    ctx_id: u32,
    input_fd: i32,
    output_fd: i32,
    err_fd: i32,
) -> i32 {
    let console = Added::Standard { input: input_fd, output: output_fd, error: err_fd };
    done(|| table::update(ctx_id, |context| context.consoles.added.push(console)))
}

/// A console of ports that are added one by one. Returns its number.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtio_console_multiport(ctx_id: u32) -> i32 {
    call(|| {
        table::with(ctx_id, |context| {
            let added = &mut context.consoles.added;
            let id = i32::try_from(added.len()).map_err(|_| Failure::invalid("too many consoles"))?;
            added.push(Added::Multiport(Vec::new()));
            Ok(id)
        })
    })
}

/// A port on a terminal.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_console_port_tty(ctx_id: u32, console_id: u32, name: CText, tty_fd: i32) -> i32 {
    done(|| {
        if tty_fd < 0 {
            return Err(Failure::invalid(format!("tty_fd: {tty_fd}")));
        }
        let name = name.optional("name")?.unwrap_or_default();
        if !is_terminal(tty_fd) {
            return Err(Failure::new(libc::ENOTTY, format!("tty_fd: {tty_fd} is not a terminal")));
        }
        add_port(ctx_id, console_id, Port { name, ends: Ends::Terminal(tty_fd) })
    })
}

/// A port on a pair of descriptors.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_console_port_inout(
    ctx_id: u32,
    console_id: u32,
    name: CText,
    input_fd: i32,
    output_fd: i32,
) -> i32 {
    done(|| {
        let name = name.optional("name")?.unwrap_or_default();
        add_port(
            ctx_id,
            console_id,
            Port { name, ends: Ends::Streams { input: input_fd, output: output_fd } },
        )
    })
}

fn add_port(ctx_id: u32, console_id: u32, port: Port) -> Result<(), Failure> {
    table::with(ctx_id, |context| match find(context, console_id) {
        Some(ports) => {
            ports.push(port);
            Ok(())
        }
        None => Err(Failure::invalid(format!("console_id: {console_id} is not a multiport console"))),
    })
}

fn find(context: &mut Context, console_id: u32) -> Option<&mut Vec<Port>> {
    match context.consoles.added.get_mut(usize::try_from(console_id).ok()?)? {
        Added::Multiport(ports) => Some(ports),
        Added::Standard { .. } => None,
    }
}

impl Added {
    /// With copies of its descriptors.
    pub fn open(&self) -> Result<Console, Failure> {
        match self {
            Added::Standard { input, output, error } => {
                let stream = |name, fd| {
                    Ok::<_, Failure>(duplicate(name, fd)?.map_or(ConsoleStream::None, ConsoleStream::Fd))
                };
                Ok(Console::Streams {
                    stdin: stream("input_fd", *input)?,
                    stdout: stream("output_fd", *output)?,
                    stderr: stream("err_fd", *error)?,
                })
            }
            Added::Multiport(ports) if ports.is_empty() => {
                Err(Failure::invalid("a multiport console has no ports"))
            }
            Added::Multiport(ports) => {
                Ok(Console::Ports(ports.iter().map(Port::open).collect::<Result<_, _>>()?))
            }
        }
    }
}

impl Port {
    fn open(&self) -> Result<ConsolePort, Failure> {
        let name = self.name.as_str();
        match self.ends {
            Ends::Terminal(fd) => match duplicate("tty_fd", fd)? {
                Some(fd) => Ok(ConsolePort::terminal(name, fd)),
                None => Err(Failure::invalid(format!("tty_fd: {fd}"))),
            },
            Ends::Streams { input, output } => {
                Ok(ConsolePort::stream(name, duplicate("input_fd", input)?, duplicate("output_fd", output)?))
            }
        }
    }
}

/// Puts another console into the words of a command line: in place of every word like the first `console=`,
/// or at the end.
pub(super) fn with_console(words: &str, console: &str) -> Result<String, Failure> {
    if console.is_empty() || !console.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        return Err(Failure::invalid(format!("console_id: {console:?} cannot be on a command line")));
    }
    let word = format!("console={console}");
    let Some(first) = words.split(' ').find(|word| word.starts_with("console=")) else {
        return Ok(format!("{words} {word}"));
    };
    let replaced = words.split(' ').map(|w| if w == first { &word } else { w });
    Ok(replaced.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_console_is_replaced() {
        let table = [
            ("reboot=k console=hvc0 rw", "hvc1", "reboot=k console=hvc1 rw"),
            ("console=a b console=a console=c", "x", "console=x b console=x console=c"),
            ("earlyconsole=a rw", "ttyS0,115200", "earlyconsole=a rw console=ttyS0,115200"),
        ];
        for (words, console, expected) in table {
            assert_eq!(with_console(words, console).unwrap(), expected);
        }
        for console in ["", "a b", "a\"", "a\n", "ü"] {
            assert_eq!(with_console("rw", console).unwrap_err().errno, libc::EINVAL, "{console:?}");
        }
    }
}
