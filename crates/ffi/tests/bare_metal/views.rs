//! What an owner sees of a machine: memory, devices, counters.

use std::time::Duration;

use purlin::devices::DeviceType;
use purlin::devices::fs::Fs;
use purlin::devices::rng::Rng;
use purlin::{Share, VmError};

use crate::guest::{RESET, SPIN, build, config, wait};

/// 16 bytes at 1 MiB, where the kernel is.
const KERNEL: u64 = 0x10_0000;

#[test]
fn memory_is_where_the_regions_say() {
    use purlin::memory::{Bytes, GuestAddress};
    let vm = build(RESET);
    let memory = vm.memory().unwrap();
    let [region] = memory.regions()[..] else { panic!("{memory:?}") };
    assert_eq!((region.guest_address, region.len), (0, 16 << 20));
    assert_eq!(region.host_address % 4096, 0);
    let mut code = vec![0; RESET.len()];
    memory.ram().read_slice(&mut code, GuestAddress(KERNEL)).unwrap();
    assert_eq!(code, RESET);

    wait(vm.start().unwrap());
    assert_eq!(vm.memory().unwrap().regions(), memory.regions(), "a view keeps the memory");
    drop(memory);
    assert!(matches!(vm.memory(), Err(VmError::Ended)));
}

#[test]
fn devices_are_found_by_type_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _file) = config(SPIN);
    let vm = config.share(Share::new("work", dir.path())).share(Share::new("more", dir.path())).build();
    let vm = vm.unwrap();
    let names: Vec<_> = vm.devices().into_iter().map(|d| (d.device_type, d.id, d.interrupt)).collect();
    let name = |device_type, id: &str, interrupt| (device_type, id.to_owned(), interrupt);
    let expected = [
        name(DeviceType::Rng, "0", 5),
        name(DeviceType::Fs, "work", 6),
        name(DeviceType::Fs, "more", 7),
        name(DeviceType::Console, "0", 9),
    ];
    assert_eq!(names, expected);

    let more = vm.device::<Fs>("more").unwrap();
    assert_eq!(
        (more.info().address, more.with(|fs| fs.tag().to_owned())),
        (0xd000_2000, Some("more".into()))
    );
    assert!(vm.device::<Fs>("0").is_none());
    assert!(vm.device::<Rng>("work").is_none());
    assert!(vm.device::<Rng>("0").is_some());
    vm.start().unwrap().kill();
    wait(&vm);
    assert_eq!(more.with(|_| ()), None, "the machine is gone");
    assert!(vm.device::<Fs>("more").is_none());
    assert_eq!(vm.devices().len(), 4);
}

#[test]
fn counters_are_there_before_during_and_after() {
    // in al,0x84 (nobody there); mov al,0xfe; out 0x64,al; jmp $
    let vm = build(&[0xe4, 0x84, 0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe]);
    let before = vm.stats().unwrap();
    assert_eq!((before.uptime, before.vcpus.len(), before.vcpus[0].total()), (Duration::ZERO, 1, 0));
    let phases: Vec<_> = before.boot.iter().map(|phase| phase.name).collect();
    assert_eq!((phases.first(), phases.last()), (Some(&"kernel opened"), Some(&"processors made")));

    wait(vm.start().unwrap());
    let after = vm.stats().unwrap();
    let [vcpu] = after.vcpus[..] else { panic!("{after:?}") };
    assert_eq!((vcpu.port_reads, vcpu.port_writes, vcpu.unclaimed), (1, 1, 1), "{vcpu:?}");
    assert!(after.uptime > Duration::ZERO && after.vcpu_time > Duration::ZERO, "{after:?}");
    assert_eq!(after.devices.len(), 2);
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
    let vm = build(&code);
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
