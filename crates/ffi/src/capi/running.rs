//! The machines that `krun_start_enter` runs, for calls of other threads meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::guard::{Failure, done};
use crate::vm::Vm;

/// By the id of the context. No other call knows these ids any more.
static RUNNING: Mutex<BTreeMap<u32, Arc<Vm>>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<u32, Arc<Vm>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a machine known until the process ends.
pub(super) fn insert(ctx_id: u32, vm: &Arc<Vm>) {
    lock().insert(ctx_id, Arc::clone(vm));
}

/// The machine started from this context.
pub(super) fn find(ctx_id: u32) -> Result<Arc<Vm>, Failure> {
    let vm = lock().get(&ctx_id).cloned();
    vm.ok_or_else(|| Failure::new(libc::ENOENT, format!("no machine of context {ctx_id} runs")))
}

/// Types Ctrl-Alt-Del in a running machine.
#[unsafe(no_mangle)]
pub extern "C" fn krun_send_ctrl_alt_del(ctx_id: u32) -> i32 {
    done(|| Ok(find(ctx_id)?.send_ctrl_alt_del()?))
}
