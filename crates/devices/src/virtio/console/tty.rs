//! The host's terminal: raw mode that is always undone, and its size.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::protocol::WindowSize;
use super::sys;

/// A terminal in raw mode. Dropping this restores the mode it had before.
///
/// Take it before anything that can fail and keep it with the virtual machine: whichever way that ends, the
/// user's terminal works again. The mode belongs to the terminal, so it does not matter which descriptor
/// named it.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: libc::termios,
}

impl RawMode {
    /// Puts a terminal into raw mode (`cfmakeraw`).
    ///
    /// With `keep_signals`, Ctrl-C and its like still make signals on the host (ISIG): wanted if the
    /// guest's input does not come from this terminal.
    ///
    /// A process in the background is stopped here (SIGTTOU), as for any program that sets a terminal.
    ///
    /// # Errors
    ///
    /// ENOTTY if it is no terminal; EIO if it hung up.
    pub fn enable(terminal: OwnedFd, keep_signals: bool) -> io::Result<Self> {
        let before = sys::attributes(terminal.as_fd())?;
        let mut raw = sys::raw(&before);
        if keep_signals {
            raw.c_lflag |= libc::ISIG;
        }
        sys::set_attributes(terminal.as_fd(), &raw)?;
        Ok(RawMode { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // In the background, setting the terminal would stop the process with SIGTTOU; blocked, it works.
        let _block = sys::SignalBlock::new(libc::SIGTTOU);
        if let Err(e) = sys::set_attributes(self.terminal.as_fd(), &self.before) {
            log::warn!("the terminal's mode could not be restored: {e}");
        }
    }
}

/// The size of a terminal.
///
/// # Errors
///
/// ENOTTY if it is no terminal.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> io::Result<WindowSize> {
    sys::window_size(terminal)
}
