//! Where log records go.

use std::fs::File;
use std::io::{IsTerminal, Stderr, Stdout, stderr, stdout};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::{PoisonError, RwLock};

use anstream::AutoStream;
use env_logger::{Builder, Env, Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

use super::descriptors::is_open;
use super::guard::{Failure, done};
use super::outlet::Outlet;

const STYLES: [WriteStyle; 3] = [WriteStyle::Auto, WriteStyle::Always, WriteStyle::Never];
const OPTION_NO_ENV: u32 = 1;

/// Logs to standard error from this level on, unless `RUST_LOG` says otherwise. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_log_level(level: u32) -> i32 {
    done(|| {
        install(Output::Stderr(stderr()), level, WriteStyle::Auto, true);
        Ok(())
    })
}

/// Logs to a descriptor, which from 3 on is this library's from then on and stays open.
#[unsafe(no_mangle)]
pub extern "C" fn krun_init_log(target_fd: i32, level: u32, style: u32, options: u32) -> i32 {
    done(|| {
        let output = Output::new(target_fd)?;
        let style = usize::try_from(style).ok().and_then(|index| STYLES.get(index).copied());
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
    Stdout(Stdout),
    Stderr(Stderr),
    Owned(Descriptor),
}

impl Output {
    fn new(fd: i32) -> Result<Self, Failure> {
        match fd {
            -1 | 2 => Ok(Output::Stderr(stderr())),
            1 => Ok(Output::Stdout(stdout())),
            3.. => Ok(Output::Owned(Descriptor::new(fd)?)),
            _ => Err(Failure::invalid(format!("target_fd: {fd} is not a place to log to"))),
        }
    }

    /// Whether `auto` means colours here.
    fn auto(&self) -> WriteStyle {
        match self {
            Output::Stdout(stream) => AutoStream::choice(stream).into(),
            Output::Stderr(stream) => AutoStream::choice(stream).into(),
            Output::Owned(file) if file.0.is_terminal() => WriteStyle::Always,
            Output::Owned(_) => WriteStyle::Never,
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Output::Stdout(stream) => stream.as_fd(),
            Output::Stderr(stream) => stream.as_fd(),
            Output::Owned(file) => file.0.as_fd(),
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

fn install(output: Output, level: u32, style: WriteStyle, environment: bool) {
    let logger = logger(output, level_name(level), style, environment);
    let filter = logger.filter();
    *SWITCH.0.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    // Fails if this is not the first time, or if a Rust program that links this crate has a logger of its
    // own; then that one stays.
    let _ = log::set_logger(&SWITCH);
    log::set_max_level(filter);
}

fn logger(output: Output, level: LevelFilter, style: WriteStyle, environment: bool) -> Logger {
    let mut builder = Builder::new();
    builder.format_timestamp_micros();
    // Says of every ring what is wrong with it, so that a driver could go on without end. Devices say it once.
    builder.filter_module("virtio_queue", LevelFilter::Off);
    let mut style = style;
    if environment {
        builder.parse_env(Env::new().filter_or("RUST_LOG", level.as_str()));
        style = match std::env::var("RUST_LOG_STYLE").as_deref() {
            Ok("always") => WriteStyle::Always,
            Ok("never") => WriteStyle::Never,
            Ok(_) => WriteStyle::Auto,
            Err(_) => style,
        };
    } else {
        builder.filter_level(level);
    }
    // The logger itself cannot know what it writes to.
    builder.write_style(if style == WriteStyle::Auto { output.auto() } else { style });
    // A log that nobody reads must hold up neither a guest nor its end.
    builder.target(Target::Pipe(Box::new(Outlet::new(output)))).build()
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn a_driver_cannot_make_a_library_talk_without_end() {
        let output = Output::new(2).unwrap();
        let logger = logger(output, LevelFilter::Info, WriteStyle::Never, false);
        for (target, level, enabled) in [
            ("virtio_queue::queue", Level::Error, false),
            ("purlin_devices::shell", Level::Info, true),
            ("purlin_devices::shell", Level::Debug, false),
        ] {
            let metadata = Metadata::builder().target(target).level(level).build();
            assert_eq!(logger.enabled(&metadata), enabled, "{target} {level}");
        }
    }
}
