//! From how a guest ended to the exit code of the process.

use super::guard::done;
use super::pointers::CBool;
use super::{logger, stdio, table};
use crate::vm::{ExitReason, VmExit};

/// Whether a guest that ends without having reported a status gives 125, and not 0 as with libkrun. Unless
/// this is called, it does if the root has this library's init, which reports one for every workload it ran.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_report_guest_failure(ctx_id: u32, enable: CBool) -> i32 {
    done(|| table::update(ctx_id, |context| context.report_guest_failure = Some(enable != 0)))
}

/// What the guest reported counts. Without a report libkrun's rules are: 0 for a guest that restarts, by
/// whatever means, or halts, which is how a system without our init ends well; 1 if a processor could not go
/// on.
pub(super) fn code(exit: &VmExit, report_failure: bool) -> i32 {
    if report_failure {
        return exit.code;
    }
    match exit.reason {
        ExitReason::Failed(_) => 1,
        _ if is_silent(exit) => 0,
        _ => exit.code,
    }
}

/// How much the end of a guest deserves to be noticed. A status that is missing where there should be one, or stands for a
/// workload that was not started, is all that its owner may ever see of a guest whose messages go to no console.
fn level(exit: &VmExit, report_failure: bool) -> log::Level {
    match exit.reason {
        ExitReason::Failed(_) => log::Level::Error,
        ExitReason::SetupFailed(_) => log::Level::Warn,
        _ if report_failure && is_silent(exit) => log::Level::Warn,
        _ => log::Level::Info,
    }
}

/// Says how the guest ended. Without a log, on standard error, if that takes it at once, and only what its owner would
/// not know otherwise: a code that is not the guest's own word.
pub(super) fn say(exit: &VmExit, report_failure: bool) {
    let level = level(exit, report_failure);
    log::log!(level, "exit code {}: {}", exit.code, exit.reason);
    if level <= log::Level::Warn && logger::is_absent() {
        stdio::try_say(&format!("libkrun: exit code {}: {}\n", code(exit, report_failure), exit.reason));
    }
}

/// True if the guest ended by itself, and said nothing.
fn is_silent(exit: &VmExit) -> bool {
    matches!(
        exit.reason,
        ExitReason::GuestReset | ExitReason::PoweredOff | ExitReason::GuestHalted | ExitReason::TripleFault
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SetupFailure;

    #[test]
    fn table() {
        let failed = || ExitReason::SetupFailed(SetupFailure::new("no such file"));
        let table = [
            (7, ExitReason::Exited, 7, 7),
            (0, ExitReason::Exited, 0, 0),
            (143, ExitReason::Stopped, 143, 143),
            (127, failed(), 127, 127),
            (125, ExitReason::GuestReset, 0, 125),
            (125, ExitReason::PoweredOff, 0, 125),
            (125, ExitReason::GuestHalted, 0, 125),
            (125, ExitReason::TripleFault, 0, 125),
            (125, ExitReason::Failed("KVM_RUN".into()), 1, 125),
            (137, ExitReason::Killed, 137, 137),
        ];
        for (vm, reason, stock, reported) in table {
            let exit = VmExit { code: vm, reason };
            assert_eq!((code(&exit, false), code(&exit, true)), (stock, reported), "{exit:?}");
            let not_started = matches!(exit.reason, ExitReason::SetupFailed(_));
            let without_status = (stock, reported) == (0, 125);
            assert_eq!(level(&exit, true) == log::Level::Warn, without_status || not_started, "{exit:?}");
            assert_eq!(level(&exit, false) == log::Level::Warn, not_started, "{exit:?}");
        }
    }
}
