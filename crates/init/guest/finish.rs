//! The end: report the exit code, write everything back, restart. Every path of PID 1 ends here.

use core::sync::atomic::{AtomicI32, Ordering};

use crate::abi::{EXIT_CODE_IOCTL, EXIT_SETUP};
use crate::channel::Channel;
use crate::console::{say, with_error};
use crate::control::Event;
use crate::setup::Failure;
use crate::sys::{self, Result, flag};

/// Descriptor of the root that PID 1 was started on, or -1. A static because the panic handler needs it.
static ROOT: AtomicI32 = AtomicI32::new(-1);

/// Opens `/` for the report, while it is certainly the file system whose device belongs to the host. Says whether the
/// standard descriptors are missing.
pub fn open_root() -> bool {
    let Ok(root) = sys::open(c"/", flag::READ | flag::DIRECTORY) else { return false };
    let missing = root.number() <= 2;
    if let Ok(root) = root.above_stdio() {
        ROOT.store(root.number(), Ordering::Relaxed);
        root.leak();
    }
    missing
}

/// Fills descriptors 0 to 2, if the kernel found no console to open, so that nothing else takes their place.
pub fn fill_stdio() -> Result<()> {
    loop {
        let null = sys::open_inheritable(c"/dev/null", flag::READ_WRITE)?;
        if null.number() > 2 {
            return Ok(());
        }
        null.leak();
    }
}

/// Reports a workload that cannot run.
pub fn fail(channel: Option<Channel>, failure: Failure, code: i32) -> ! {
    let message = match failure.errno {
        Some(errno) => with_error(&failure.message, errno),
        None => failure.message.clone(),
    };
    say(&message);
    fail_quietly(channel, failure, code)
}

/// As [`fail`], when the message has been written already.
pub fn fail_quietly(mut channel: Option<Channel>, failure: Failure, code: i32) -> ! {
    let Failure { stage, errno, message } = failure;
    if let Some(channel) = &mut channel {
        channel.send(&Event::SetupFailed { stage, errno, message });
    }
    finish(channel, code)
}

/// Reports the exit code, writes everything back, and restarts. The event comes after the writing, so that a host may
/// end the machine when it sees it.
pub fn finish(mut channel: Option<Channel>, code: i32) -> ! {
    report_and_sync(code);
    if let Some(channel) = &mut channel {
        channel.send(&Event::Exited { code });
        channel.flush_last();
    }
    sys::restart();
    sys::exit(code)
}

fn report_and_sync(code: i32) {
    // Only virtiofs knows the request; elsewhere the host learns the code from the control channel, or not at all.
    let _ = sys::ioctl_value(ROOT.load(Ordering::Relaxed), EXIT_CODE_IOCTL, code);
    sys::sync();
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = sys::write(2, b"purlin-init: internal error");
    if let Some(place) = info.location() {
        let mut line = alloc::string::String::from(" at ");
        line.push_str(place.file());
        line.push(':');
        crate::console::push_number(&mut line, place.line());
        line.push('\n');
        let _ = sys::write(2, line.as_bytes());
    }
    report_and_sync(EXIT_SETUP);
    sys::restart();
    sys::exit(EXIT_SETUP)
}
