//! Start, pause, resume, stop; and what happens to an access in flight.

use std::time::{Duration, Instant};

use purlin_vmm_core::kvm::GroupError;
use purlin_vmm_core::kvm::affinity::CpuMask;
use purlin_vmm_core::run_state::RunState;

use crate::guest::{LIMIT, machine, soon};

/// inc ax; jmp back
const SPIN: [u8; 3] = [0x40, 0xeb, 0xfd];
/// in al,0x80; out 0x80,al; jmp back
const ECHO: [u8; 6] = [0xe4, 0x80, 0xe6, 0x80, 0xeb, 0xfa];
/// cli; hlt; jmp back
const CLI_HLT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
/// sti; hlt; jmp back
const STI_HLT: [u8; 4] = [0xfb, 0xf4, 0xeb, 0xfd];

#[test]
fn a_guest_that_never_exits_is_paused_resumed_and_stopped() {
    let mut guest = machine(&SPIN, 4, Duration::ZERO);
    assert_eq!(guest.group.state(), RunState::Created);
    guest.group.start().unwrap();
    for _ in 0..20 {
        guest.group.pause(soon()).unwrap();
        guest.group.pause(soon()).unwrap();
        assert_eq!(guest.group.state(), RunState::Paused);
        guest.group.resume().unwrap();
        guest.group.resume().unwrap();
    }
    guest.group.stop(soon()).unwrap();
    assert_eq!(guest.group.state(), RunState::Stopped);
}

#[test]
fn a_halted_guest_is_paused_and_stopped() {
    for code in [CLI_HLT, STI_HLT] {
        let mut guest = machine(&code, 1, Duration::ZERO);
        guest.group.start().unwrap();
        guest.group.pause(soon()).unwrap();
        guest.group.resume().unwrap();
        guest.group.stop(soon()).unwrap();
    }
}

/// A read whose result was fetched from the device is delivered to the guest before the pause is
/// acknowledged: the device's numbers arrive without gap or repetition however often the guest is paused.
#[test]
fn pending_reads_are_completed_before_the_pause_is_acknowledged() {
    let mut guest = machine(&ECHO, 1, Duration::from_micros(200));
    guest.group.start().unwrap();
    for i in 0..100u64 {
        assert!(guest.port.wait_until(|c| c.reads > i));
        guest.group.pause(soon()).unwrap();
        let before = guest.port.get(|c| (c.reads, c.written.len()));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(guest.port.get(|c| (c.reads, c.written.len())), before, "paused means at rest");
        guest.group.resume().unwrap();
    }
    guest.group.stop(soon()).unwrap();
    let written = guest.port.get(|c| c.written.clone());
    let expected: Vec<u8> = (1..=written.len()).map(|n| n as u8).collect();
    assert_eq!(written, expected);
}

#[test]
fn a_parked_guest_is_told_from_an_idle_one() {
    let parked = |code: &[u8]| {
        let mut guest = machine(code, 2, Duration::ZERO);
        guest.group.start().unwrap();
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let parked = guest.group.all_parked(soon()).unwrap();
            if parked || Instant::now() > until {
                return parked;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    assert!(parked(&CLI_HLT), "cli; hlt and a processor never started");
    assert!(!parked(&STI_HLT), "an interrupt can wake it");
    assert!(!parked(&SPIN), "it runs");
}

#[test]
fn illegal_moves_are_named() {
    let mut guest = machine(&SPIN, 1, Duration::ZERO);
    assert!(matches!(guest.group.pause(soon()), Err(GroupError::State(_))));
    assert!(matches!(guest.group.resume(), Err(GroupError::State(_))));
    guest.group.start().unwrap();
    assert!(matches!(guest.group.start(), Err(GroupError::State(_))));
    guest.group.stop(soon()).unwrap();
    let refused = guest.group.resume().unwrap_err();
    assert!(refused.to_string().contains("stopped"), "{refused}");
}

/// A device that does not return in time makes the pause fail, names the vCPU, and leaves the guest running.
#[test]
fn a_pause_past_its_deadline_leaves_the_guest_running() {
    let mut guest = machine(&ECHO, 1, Duration::from_millis(600));
    guest.group.start().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let refused = guest.group.pause(Instant::now() + Duration::from_millis(50));
    assert!(matches!(refused, Err(GroupError::Timeout { missing: 1, total: 1, first: 0 })), "{refused:?}");
    let before = guest.port.get(|c| c.reads);
    assert!(guest.port.wait_until(|c| c.reads > before + 1));
}

/// Nothing is asked of a guest that is paused already, so there is nothing to be late.
#[test]
fn a_second_pause_past_its_deadline_leaves_the_guest_paused() {
    let mut guest = machine(&ECHO, 1, Duration::ZERO);
    guest.group.start().unwrap();
    guest.group.pause(soon()).unwrap();
    let before = guest.port.get(|c| c.reads);
    for _ in 0..50 {
        guest.group.pause(Instant::now()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((guest.port.get(|c| c.reads), guest.group.state()), (before, RunState::Paused));
}

#[test]
fn threads_and_descriptors_after_a_machine_equal_those_before() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let cycle = || {
        let mut guest = machine(&ECHO, 3, Duration::ZERO);
        guest.group.start().unwrap();
        assert!(guest.port.wait_until(|c| c.reads > 3));
    };
    cycle();
    let before = (count("task"), count("fd"));
    for _ in 0..5 {
        cycle();
    }
    let until = Instant::now() + LIMIT;
    while (count("task"), count("fd")) != before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((count("task"), count("fd")), before);
}

/// What the kernel says of a vCPU's thread, by the name that the thread soon gives itself.
fn allowed_cpus(vcpu: &str) -> String {
    let name = format!("Name:\t{vcpu}\n");
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut all = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
        if let Some(status) = all.find(|status| status.starts_with(&name)) {
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
            return line.unwrap().to_owned();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_vcpu_runs_where_it_is_pinned() {
    let mut guest = machine(&SPIN, 2, Duration::ZERO);
    let here = allowed_cpus("vcpu0");
    let first: u32 = here.split(['-', ',']).next().unwrap().parse().unwrap();
    guest.group.pin(1, &CpuMask::new([first]).unwrap()).unwrap();
    guest.group.start().unwrap();
    assert_eq!(allowed_cpus("vcpu1"), first.to_string());
    assert_eq!(allowed_cpus("vcpu0"), here, "the other one is as it was");
    let refused = guest.group.pin(0, &CpuMask::new([1023]).unwrap()).unwrap_err().to_string();
    assert!(refused.contains("vCPU 0") && refused.contains("1023"), "{refused}");
    assert!(guest.group.pin(2, &CpuMask::new([first]).unwrap()).is_err());
    guest.group.stop(soon()).unwrap();
}
