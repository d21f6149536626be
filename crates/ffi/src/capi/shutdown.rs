//! Asking the guest to end from outside of the library.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::guard::{Failure, call};
use super::table;
use crate::vm::Vm;

/// What the workload gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// An event descriptor that, when written, asks the guest to end. It is the context's: the same one every
/// time, closed with the context or with the process.
#[unsafe(no_mangle)]
pub extern "C" fn krun_get_shutdown_eventfd(ctx_id: u32) -> i32 {
    call(|| {
        table::with(ctx_id, |context| {
            if context.shutdown.is_none() {
                let event = EventFd::new(EFD_CLOEXEC).map_err(|e| Failure::host("eventfd", &e))?;
                context.shutdown = Some(event);
            }
            context.shutdown.as_ref().map(AsRawFd::as_raw_fd).ok_or_else(|| Failure::invalid("no descriptor"))
        })
    })
}

/// Waits for the event on a thread of its own, until the process ends.
pub(super) fn relay(vm: &Arc<Vm>, event: EventFd) {
    let vm = Arc::clone(vm);
    let started = std::thread::Builder::new().name("purlin-shutdown".to_owned()).spawn(move || {
        while wait(&event) {
            if vm.stop(GRACE).is_err() {
                return;
            }
        }
    });
    if let Err(e) = started {
        log::warn!("the shutdown descriptor has no effect: {e}");
    }
}

/// False if the descriptor does not work any more.
fn wait(event: &EventFd) -> bool {
    loop {
        match event.read() {
            Ok(_) => return true,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                log::warn!("the shutdown descriptor has no effect: {e}");
                return false;
            }
        }
    }
}
