//! How machines end that no init speaks for.

use purlin::ExitReason;

use crate::guest::{HALT, RESET, SPIN, build, wait};

#[test]
fn a_guest_that_resets_or_halts_without_a_status() {
    for (code, reason) in [(RESET, ExitReason::GuestReset), (HALT, ExitReason::GuestHalted)] {
        let vm = build(code);
        let exit = wait(vm.start().unwrap());
        assert_eq!((exit.code, exit.reason), (125, reason));
    }
}

#[test]
fn a_guest_that_is_killed() {
    let vm = build(SPIN);
    vm.start().unwrap().kill();
    let exit = wait(&vm);
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
}
