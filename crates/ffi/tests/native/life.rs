//! Ends at any moment.

use std::time::Duration;

use purlin::{ExitReason, VmError};

use crate::guest::{Kernels, RESET, SPIN, field, statuses, wait};

/// Killed before it starts, while it starts, while it runs, paused or not, once or often: it always ends.
#[test]
fn a_kill_at_any_moment() {
    let kernels = Kernels::new();
    for moment in 0..20u64 {
        let vm = kernels.machine(SPIN).vcpus(2).build().unwrap();
        vm.start().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(300 * moment));
                vm.kill();
            });
            scope.spawn(|| {
                // It may end at any of these steps, and then each says so.
                while let Ok(()) | Err(VmError::Processors(_)) = vm.pause().and_then(|()| vm.resume()) {}
            });
        });
        let exit = wait(&vm);
        assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed), "after {moment} steps");
        assert!(matches!(vm.pause(), Err(VmError::Ended)));
        vm.kill();
        vm.stop(Duration::ZERO).unwrap();
    }
}

#[test]
fn a_drop_at_any_moment() {
    let kernels = Kernels::new();
    for moment in 0..10u64 {
        let vm = kernels.machine(SPIN).build().unwrap();
        vm.start().unwrap();
        std::thread::sleep(Duration::from_micros(150 * moment));
        drop(vm);
    }
}

#[test]
fn many_machines_at_once() {
    let kernels = Kernels::new();
    let machines: Vec<_> = (0..8).map(|_| kernels.machine(RESET).build().unwrap()).collect();
    for vm in &machines {
        vm.start().unwrap();
    }
    for vm in &machines {
        assert_eq!(wait(vm).reason, ExitReason::GuestReset);
    }
}

/// Nobody works for a machine that is paused. In a process of its own, as nextest has it: other machines' threads have the
/// same name.
#[test]
fn a_paused_machine_is_at_rest() {
    let kernels = Kernels::new();
    let vm = kernels.machine(SPIN).build().unwrap();
    vm.start().unwrap();
    vm.pause().unwrap();
    // Past the time of the next look at a running guest.
    std::thread::sleep(Duration::from_secs(1));
    let before = wake_ups("purlin-vm");
    std::thread::sleep(Duration::from_millis(500));
    let woken = wake_ups("purlin-vm") - before;
    assert!(woken < 20, "{woken} times");
    vm.resume().unwrap();
    vm.kill();
    wait(&vm);
}

/// How often a thread of this process has waited for something.
fn wake_ups(thread: &str) -> u64 {
    field(&statuses(thread)[0], "voluntary_ctxt_switches").parse().unwrap()
}
