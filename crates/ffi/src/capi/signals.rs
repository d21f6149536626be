//! Signals of the process that runs a machine. No other call of this library touches them.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGWINCH};
use signal_hook::iterator::Signals;
use vmm_sys_util::signal::{block_signal, unblock_signal};

use super::rescue::Rescue;
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

/// Passes new sizes of terminals on to the guest and, if Ctrl-C does not come as a character, SIGINT as one.
/// Signals nothing would be done with keep their disposition. Lasts until the process ends.
pub(super) fn relay(vm: &Arc<Vm>, rescue: &Rescue) {
    let mut wanted = Vec::new();
    wanted.extend(vm.has_terminals().then_some(SIGWINCH));
    wanted.extend(vm.takes_interrupts().then_some(SIGINT));
    if wanted.is_empty() {
        return;
    }
    wanted.iter().for_each(|signal| rescue.release(*signal));
    let vm = Arc::clone(vm);
    let started = Signals::new(wanted).and_then(|mut signals| {
        std::thread::Builder::new().name("purlin-signals".to_owned()).spawn(move || {
            // A size that changed before somebody listened.
            vm.follow_terminals();
            for signal in signals.forever() {
                if signal == SIGINT { vm.interrupt() } else { vm.follow_terminals() }
            }
        })
    });
    if let Err(e) = started {
        log::warn!("signals are not passed on to the guest: {e}");
    }
}
