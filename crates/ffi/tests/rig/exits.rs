//! Every way a guest ends has its status, and only a workload that exits with 0 gives 0.

use purlin::{Exec, ExitReason, Share};

use crate::support::{config, rootfs, run, sh, without_root};

fn exit_of(exec: Exec) -> (i32, ExitReason) {
    let exit = run(config(exec)).exit;
    (exit.code, exit.reason)
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_workload_that_succeeds_gives_0() {
    assert_eq!(exit_of(Exec::new("/bin/true")), (0, ExitReason::Exited));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_status_comes_back() {
    assert_eq!(exit_of(sh("exit 7")), (7, ExitReason::Exited));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_signal_is_128_and_its_number() {
    assert_eq!(exit_of(sh("kill -9 $$")), (137, ExitReason::Exited));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_program_that_cannot_be_executed_gives_126() {
    let (code, reason) = exit_of(Exec::new("/etc"));
    assert_eq!(code, 126);
    assert!(matches!(reason, ExitReason::SetupFailed(_)), "{reason:?}");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_program_that_is_missing_gives_127_and_says_so() {
    let (code, reason) = exit_of(Exec::new("/bin/no-such-program"));
    assert_eq!(code, 127);
    assert!(matches!(reason, ExitReason::SetupFailed(_)), "{reason:?}");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_working_directory_that_is_missing_gives_125() {
    let (code, reason) = exit_of(Exec::new("/bin/true").workdir("/no/such/directory"));
    assert_eq!(code, 125);
    assert!(matches!(reason, ExitReason::SetupFailed(_)), "{reason:?}");
}

/// `init=` names nothing: the kernel panics and restarts.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_kernel_panic_is_not_success() {
    let words = "reboot=k panic=-1 console=hvc0 rootfstype=virtiofs rw quiet init=/no-such-init";
    let exit = run(config(Exec::new("/bin/true")).cmdline(words)).exit;
    assert_eq!((exit.code, exit.reason), (125, ExitReason::GuestReset));
}

/// PID 1 exits by itself without a word; the guest kernel restarts.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_lost_init_is_not_success() {
    let words = "reboot=k panic=-1 console=hvc0 rootfstype=virtiofs rw quiet init=/bin/true";
    let exit = run(config(Exec::new("/bin/true")).cmdline(words)).exit;
    assert_eq!((exit.code, exit.reason), (125, ExitReason::GuestReset));
}

/// Without ACPI a powered-off guest makes no exit at all: its processor halts for good. (Several: see the
/// bare-metal tests of vmm-core.)
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_guest_that_powers_off_is_noticed() {
    let exit = run(config(Exec::new("/bin/busybox").args(["poweroff", "-f"]))).exit;
    assert_eq!((exit.code, exit.reason), (125, ExitReason::GuestHalted));
}

/// The kernel finds no root and panics.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_machine_without_a_root_is_not_success() {
    let config = without_root(Exec::new("/bin/true")).share(Share::new("data", rootfs()));
    let exit = run(config).exit;
    assert_eq!((exit.code, exit.reason), (125, ExitReason::GuestReset));
}
