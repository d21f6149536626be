//! Signals of the process that runs a machine. No other call of this library touches them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use purlin_devices::virtio::console::terminal_size;
use signal_hook::consts::{SIGINT, SIGWINCH};
use signal_hook::iterator::Signals;
use vmm_sys_util::signal::{block_signal, unblock_signal};

use crate::vm::Vm;

/// While this lives, the calling thread and those it starts hear of a closed pipe by an error of `write`
/// and not by SIGPIPE, which would end the guest with its reader.
pub(super) struct BlockedPipe(bool);

impl BlockedPipe {
    pub fn new() -> Self {
        // Fails if it is blocked already; then it stays so.
        BlockedPipe(block_signal(libc::SIGPIPE).is_ok())
    }
}

impl Drop for BlockedPipe {
    fn drop(&mut self) {
        if self.0 {
            let _ = unblock_signal(libc::SIGPIPE);
        }
    }
}

/// Passes a new size of the terminal on to the guest and, if Ctrl-C does not come as a character, SIGINT as
/// one. Signals nothing would be done with keep their disposition. Lasts until the process ends.
pub(super) fn relay(vm: &Arc<Vm>, terminal: Option<OwnedFd>, interrupt: bool) {
    let wanted = terminal.is_some().then_some(SIGWINCH).into_iter().chain(interrupt.then_some(SIGINT));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return;
    }
    let vm = Arc::clone(vm);
    let started = Signals::new(wanted).and_then(|mut signals| {
        std::thread::Builder::new().name("purlin-signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                pass_on(&vm, signal, terminal.as_ref());
            }
        })
    });
    if let Err(e) = started {
        log::warn!("signals are not passed on to the guest: {e}");
    }
}

fn pass_on(vm: &Vm, signal: i32, terminal: Option<&OwnedFd>) {
    if signal == SIGINT {
        return vm.interrupt();
    }
    if let Some(Ok(size)) = terminal.map(|terminal| terminal_size(terminal.as_fd())) {
        vm.resize(size.cols, size.rows);
    }
}
