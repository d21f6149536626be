//! Where log records go.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::{PoisonError, RwLock};

use env_logger::{Builder, Env, Logger, Target};
use log::{LevelFilter, Log, Metadata, Record};

use super::descriptors::is_open;
use super::guard::{Failure, done};

const AUTO: &str = "auto";
const ALWAYS: &str = "always";
const STYLES: [&str; 3] = [AUTO, ALWAYS, "never"];
const OPTION_NO_ENV: u32 = 1;

/// Logs to standard error from this level on, unless `RUST_LOG` says otherwise. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_log_level(level: u32) -> i32 {
    done(|| {
        install(Output::Stderr, level, AUTO, true);
        Ok(())
    })
}

/// Logs to a descriptor, which from 3 on is this library's from then on and stays open.
#[unsafe(no_mangle)]
pub extern "C" fn krun_init_log(target_fd: i32, level: u32, style: u32, options: u32) -> i32 {
    done(|| {
        let output = Output::new(target_fd)?;
        let style = usize::try_from(style).ok().and_then(|index| STYLES.get(index));
        let style = style.ok_or_else(|| Failure::invalid("style: not 0 (auto), 1 (always) or 2 (never)"))?;
        if options & !OPTION_NO_ENV != 0 {
            return Err(Failure::invalid(format!(
                "options: {options:#x} has bits other than 1 (no environment)"
            )));
        }
        install(output, level, style, options & OPTION_NO_ENV == 0);
        Ok(())
    })
}

/// The one logger a process can have, whose insides are replaced when it is configured again.
struct Switch(RwLock<Option<Logger>>);

static SWITCH: Switch = Switch(RwLock::new(None));

impl Switch {
    fn with<T: Default>(&self, look: impl FnOnce(&Logger) -> T) -> T {
        let logger = self.0.read().unwrap_or_else(PoisonError::into_inner);
        logger.as_ref().map(look).unwrap_or_default()
    }
}

impl Log for Switch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.with(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        self.with(|logger| logger.log(record));
    }

    fn flush(&self) {
        self.with(Logger::flush);
    }
}

/// True if nobody asked for a log, neither by these calls nor, in a Rust program that links this crate, otherwise.
pub(super) fn is_absent() -> bool {
    SWITCH.0.read().unwrap_or_else(PoisonError::into_inner).is_none() && log::max_level() == LevelFilter::Off
}

enum Output {
    Stdout,
    Stderr,
    Owned(Descriptor),
}

impl Output {
    fn new(fd: i32) -> Result<Self, Failure> {
        match fd {
            -1 | 2 => Ok(Output::Stderr),
            1 => Ok(Output::Stdout),
            3.. => Ok(Output::Owned(Descriptor::new(fd)?)),
            _ => Err(Failure::invalid(format!("target_fd: {fd} is not a place to log to"))),
        }
    }
}

/// A descriptor given by the caller. Never closed: the same number may be given again.
struct Descriptor(ManuallyDrop<File>);

impl Descriptor {
    fn new(fd: i32) -> Result<Self, Failure> {
        if !is_open(fd) {
            return Err(Failure::new(libc::EBADF, format!("target_fd: {fd} is not open")));
        }
        // SAFETY: the descriptor is open, and the caller gives it away with this call.
        Ok(Descriptor(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })))
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn level_name(level: u32) -> LevelFilter {
    match level {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

fn install(output: Output, level: u32, style: &str, environment: bool) {
    let logger = logger(output, level_name(level), style, environment);
    let filter = logger.filter();
    *SWITCH.0.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    // Fails if this is not the first time, or if a Rust program that links this crate has a logger of its
    // own; then that one stays.
    let _ = log::set_logger(&SWITCH);
    log::set_max_level(filter);
}

fn logger(output: Output, level: LevelFilter, style: &str, environment: bool) -> Logger {
    let style = match &output {
        // Not known to the formatter, which then never colours.
        Output::Owned(file) if style == AUTO && file.0.is_terminal() => ALWAYS,
        _ => style,
    };
    let mut builder = Builder::new();
    builder.format_timestamp_micros();
    if environment {
        let env = Env::new().filter_or("RUST_LOG", level.as_str()).write_style_or("RUST_LOG_STYLE", style);
        builder.parse_env(env);
    } else {
        builder.filter_level(level).parse_write_style(style);
    }
    match output {
        Output::Stdout => builder.target(Target::Stdout),
        Output::Stderr => builder.target(Target::Stderr),
        Output::Owned(file) => builder.target(Target::Pipe(Box::new(file))),
    };
    builder.build()
}
