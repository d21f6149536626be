//! Observers, and how machines end that no init speaks for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use purlin::{ExitReason, VmExit};

use crate::guest::{Kernels, RESET, SPIN, wait};

/// cli; hlt; jmp back
const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];

#[test]
fn a_guest_that_resets_or_halts_without_a_status() {
    for (code, reason) in [(RESET, ExitReason::GuestReset), (HALT, ExitReason::GuestHalted)] {
        let vm = Kernels::new().machine(code).build().unwrap();
        let exit = wait(vm.start().unwrap());
        assert_eq!((exit.code, exit.reason), (125, reason));
    }
}

#[test]
fn observers_of_the_end_hear_it_once_before_who_waits() {
    let heard = Arc::<Mutex<Vec<VmExit>>>::default();
    let (first, second) = (heard.clone(), heard.clone());
    let kernels = Kernels::new();
    let config = kernels.machine(SPIN);
    let config = config.on_boot(|| unreachable!("no init says so")).on_exit(move |exit| {
        first.lock().unwrap().push(exit.clone());
        panic!("an observer of a test panics");
    });
    let vm = config.on_exit(move |exit| second.lock().unwrap().push(exit.clone())).build().unwrap();
    vm.start().unwrap().kill();
    let exit = wait(&vm);
    assert_eq!(*heard.lock().unwrap(), [exit.clone(), exit]);
    drop(vm);
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[test]
fn a_machine_that_never_ran_has_no_end_to_hear_of() {
    let vm = Kernels::new().machine(SPIN).on_exit(|_| unreachable!("it never ran")).build().unwrap();
    vm.kill();
    drop(vm);
}

#[test]
fn a_guest_that_does_not_stop_in_time() {
    let vm = Kernels::new().machine(SPIN).build().unwrap();
    vm.start().unwrap();
    vm.stop(Duration::ZERO).unwrap();
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (137, ExitReason::StopTimedOut));
}
