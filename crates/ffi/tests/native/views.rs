//! What an owner sees of a machine: memory, devices, counters.

use std::time::Duration;

use purlin::devices::DeviceType;
use purlin::devices::fs::Fs;
use purlin::devices::rng::Rng;
use purlin::{Share, VmError};

use crate::guest::{Kernels, LOAD, RESET, SPIN, wait};

#[test]
fn memory_is_where_the_regions_say() {
    use purlin::memory::{Bytes, GuestAddress};
    let vm = Kernels::new().machine(RESET).build().unwrap();
    let memory = vm.memory().unwrap();
    let [region] = memory.regions()[..] else { panic!("{memory:?}") };
    assert_eq!((region.guest_address, region.len), (0, 64 << 20));
    assert_eq!(region.host_address % 4096, 0);
    let mut code = vec![0; RESET.len()];
    memory.ram().read_slice(&mut code, GuestAddress(LOAD)).unwrap();
    assert_eq!(code, RESET);

    wait(vm.start().unwrap());
    assert_eq!(vm.memory().unwrap().regions(), memory.regions(), "a view keeps the memory");
    drop(memory);
    assert!(matches!(vm.memory(), Err(VmError::Ended)));
}

#[test]
fn devices_are_found_by_type_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let vm = Kernels::new()
        .machine(SPIN)
        .share(Share::new("work", dir.path()))
        .share(Share::new("more", dir.path()))
        .build();
    let vm = vm.unwrap();
    let devices = vm.devices();
    let shares: Vec<_> = devices.iter().filter(|d| d.device_type == DeviceType::Fs).collect();
    let [work, other] = shares[..] else { panic!("{devices:?}") };
    assert_eq!((work.id.as_str(), other.id.as_str()), ("work", "more"));
    assert_eq!(other.address, work.address + 0x1000, "one slot after the other");
    let mut lines: Vec<u32> = devices.iter().map(|d| d.interrupt).collect();
    lines.dedup();
    assert_eq!(lines.len(), devices.len(), "a line for each: {devices:?}");

    let more = vm.device::<Fs>("more").unwrap();
    assert_eq!((more.info(), more.with(|fs| fs.tag().to_owned())), (other, Some("more".into())));
    assert!(vm.device::<Fs>("0").is_none());
    assert!(vm.device::<Rng>("work").is_none());
    assert!(vm.device::<Rng>("0").is_some());
    vm.start().unwrap().kill();
    wait(&vm);
    assert_eq!(more.with(|_| ()), None, "the machine is gone");
    assert!(vm.device::<Fs>("more").is_none());
    assert_eq!(vm.devices(), devices);
}

#[test]
fn counters_are_there_before_during_and_after() {
    // in al,0x84 (nobody there); mov al,0xfe; out 0x64,al; jmp $
    let vm = Kernels::new().machine(&[0xe4, 0x84, 0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe]).build().unwrap();
    let before = vm.stats().unwrap();
    assert_eq!((before.uptime, before.vcpus.len(), before.vcpus[0].total()), (Duration::ZERO, 1, 0));
    let phases: Vec<_> = before.boot.iter().map(|phase| phase.name).collect();
    assert_eq!((phases.first(), phases.last()), (Some(&"kernel opened"), Some(&"processors made")));

    wait(vm.start().unwrap());
    let after = vm.stats().unwrap();
    let [vcpu] = after.vcpus[..] else { panic!("{after:?}") };
    assert_eq!((vcpu.port_reads, vcpu.port_writes, vcpu.unclaimed), (1, 1, 1), "{vcpu:?}");
    assert!(after.uptime > Duration::ZERO && after.vcpu_time > Duration::ZERO, "{after:?}");
    assert_eq!(after.devices.len(), vm.devices().len());
    assert_eq!(after.boot, before.boot, "nobody said that it booted");
    assert_eq!(vm.stats().unwrap(), after);
}

#[test]
fn ctrl_alt_del_reaches_a_keyboard_driver() {
    // mov al,0x60; out 0x64,al; mov al,5; out 0x60,al; (a driver is there)
    // in al,0x64; test al,1; jz back; mov al,0xfe; out 0x64,al; jmp $
    let code = [
        0xb0, 0x60, 0xe6, 0x64, 0xb0, 0x05, 0xe6, 0x60, 0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xb0, 0xfe, 0xe6,
        0x64, 0xeb, 0xfe,
    ];
    let vm = Kernels::new().machine(&code).build().unwrap();
    assert!(matches!(vm.send_ctrl_alt_del(), Err(VmError::NotStarted)));
    vm.start().unwrap();
    // The driver polls: wait until it does.
    while vm.stats().unwrap().vcpus[0].port_reads == 0 {
        std::thread::yield_now();
    }
    vm.send_ctrl_alt_del().unwrap();
    let exit = wait(&vm);
    assert_eq!(exit.reason, purlin::ExitReason::GuestReset);
    vm.send_ctrl_alt_del().unwrap();
}
