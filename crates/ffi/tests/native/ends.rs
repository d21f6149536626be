//! Observers, and how machines end that no init speaks for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use purlin::{Console, ConsoleStream, ExitReason, VmExit};

use crate::guest::{Kernels, RESET, SPIN, wait};
use crate::pty::{mode, terminal};

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

/// Raw while the machine runs, and as it was when its owner has panicked.
#[test]
fn a_panic_of_its_owner_gives_the_terminal_back() {
    let (master, slave) = terminal();
    let before = mode(&slave);
    let end = || ConsoleStream::Fd(slave.try_clone().unwrap());
    let console = Console::Streams { stdin: end(), stdout: end(), stderr: end() };
    let kernels = Kernels::new();
    let vm = kernels.machine(SPIN).console(console).build().unwrap();
    let owner = std::thread::spawn(move || {
        vm.start().unwrap();
        panic!("an owner of a test panics, {:?}", mode(&slave));
    });
    let words = owner.join().unwrap_err();
    let words = words.downcast_ref::<String>().unwrap();
    assert!(!words.contains(&format!("{before:?}")), "{words}");
    // A terminal's mode is the same at both its ends.
    assert_eq!(mode(&master), before);
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

#[test]
fn a_guest_that_may_take_for_ever_to_stop() {
    let vm = Kernels::new().machine(SPIN).build().unwrap();
    vm.start().unwrap();
    vm.stop(Duration::MAX).unwrap();
    assert_eq!(vm.wait_timeout(Duration::from_millis(200)).unwrap(), None);
    vm.kill();
    assert_eq!(wait(&vm).reason, ExitReason::Killed);
}
