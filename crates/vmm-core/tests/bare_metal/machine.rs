//! What a guest sees of memory, ports, MMIO and interrupts.

use std::time::Duration;

use purlin_vmm_core::kvm::{HostKvm, VcpuEnd, probe};
use purlin_vmm_core::memory::{Bytes, GuestAddress};

use crate::guest::{LIMIT, machine, soon};

#[test]
fn port_and_mmio_reads_and_writes_reach_the_devices() {
    // in al,0x80; out 0x80,al; mov [0xd004],al; mov al,[0xd008]; out 0x80,al; spin
    let code = [0xe4, 0x80, 0xe6, 0x80, 0xa2, 0x04, 0xd0, 0xa0, 0x08, 0xd0, 0xe6, 0x80, 0xeb, 0xfe];
    let mut guest = machine(&code, 1, Duration::ZERO);
    guest.group.start().unwrap();
    assert!(guest.port.wait_until(|c| c.written.len() == 3));
    guest.group.stop(soon()).unwrap();
    assert_eq!(guest.port.get(|c| c.written.clone()), [1, 1, 2]);
    let counters = guest.group.exit_counters();
    drop(guest);
    let [counts] = counters.counts()[..] else { panic!("{counters:?}") };
    let kinds = (counts.port_reads, counts.port_writes, counts.mmio_reads, counts.mmio_writes);
    assert_eq!((kinds, counts.unclaimed, counts.other), ((1, 2, 1, 1), 0, 0), "{counts:?}");
    assert!(counts.kicks > 0, "the stop was one");
}

#[test]
fn an_unclaimed_port_reads_all_ones() {
    // in al,0x84; out 0x80,al; spin
    let mut guest = machine(&[0xe4, 0x84, 0xe6, 0x80, 0xeb, 0xfe], 1, Duration::ZERO);
    guest.group.start().unwrap();
    assert!(guest.port.wait_until(|c| c.written == [0xff]));
    assert_eq!(guest.group.exit_counters().counts()[0].unclaimed, 1);
}

#[test]
fn guest_writes_are_seen_in_shared_ram() {
    // mov byte [0x3000],0x5a; out 0x80,al; spin
    let mut guest = machine(&[0xc6, 0x06, 0x00, 0x30, 0x5a, 0xe6, 0x80, 0xeb, 0xfe], 1, Duration::ZERO);
    guest.group.start().unwrap();
    assert!(guest.port.wait_until(|c| c.written.len() == 1));
    let byte: u8 = guest.ram.read_obj(GuestAddress(0x3000)).unwrap();
    assert_eq!(byte, 0x5a);
}

/// Through the interrupt controller of old PCs, one interrupt per edge.
#[test]
fn an_edge_on_a_line_interrupts_the_guest() {
    #[rustfmt::skip]
    let code = [
        // Initialise the controller with vectors from 8 on, and let everything through.
        0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x08, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21,
        0xb0, 0x00, 0xe6, 0x21,
        // mov word [4*13],0x1026; mov word [4*13+2],0
        0xc7, 0x06, 0x34, 0x00, 0x26, 0x10, 0xc7, 0x06, 0x36, 0x00, 0x00, 0x00,
        // out 0x80,al; sti; hlt; jmp back
        0xe6, 0x80, 0xfb, 0xf4, 0xeb, 0xfd,
        // The handler: mov al,0x42; out 0x80,al; mov al,0x20; out 0x20,al; iret
        0xb0, 0x42, 0xe6, 0x80, 0xb0, 0x20, 0xe6, 0x20, 0xcf,
    ];
    let mut guest = machine(&code, 1, Duration::ZERO);
    guest.group.start().unwrap();
    assert!(guest.port.wait_until(|c| c.written == [0]));
    for count in 1..=3 {
        guest.line.trigger().unwrap();
        assert!(guest.port.wait_until(|c| c.written.len() == 1 + count), "interrupt {count}");
    }
    guest.group.stop(soon()).unwrap();
    assert_eq!(guest.port.get(|c| c.written.clone()), [0, 0x42, 0x42, 0x42]);
}

#[test]
fn a_triple_fault_ends_the_vcpu_with_shutdown() {
    // lidt [0x2000] (limit 0); int 3 through an empty table; ud2
    let code = [0x0f, 0x01, 0x1e, 0x00, 0x20, 0x0f, 0x0b];
    let mut guest = machine(&code, 1, Duration::ZERO);
    guest.group.start().unwrap();
    let event = guest.events.recv_timeout(LIMIT).unwrap();
    // Where KVM emulates every instruction, it may give up on the fault instead of delivering it.
    let ends = [VcpuEnd::Shutdown, VcpuEnd::InternalError];
    assert!(ends.contains(&event.end), "{event:?}");
    guest.group.pause(soon()).unwrap();
    guest.group.stop(soon()).unwrap();
    guest.group.stop(soon()).unwrap();
}

/// The device is broken, the thread is not: it reports, and answers its owner like any other.
#[test]
fn a_device_that_panics_ends_the_vcpu() {
    // mov al,[0xe000]; spin
    let mut guest = machine(&[0xa0, 0x00, 0xe0, 0xeb, 0xfe], 1, Duration::ZERO);
    guest.group.start().unwrap();
    let event = guest.events.recv_timeout(LIMIT).unwrap();
    assert_eq!((event.index, event.end), (0, VcpuEnd::Panicked));
    guest.group.pause(soon()).unwrap();
    guest.group.resume().unwrap();
    assert!(!guest.group.all_parked(soon()).unwrap());
    guest.group.stop(soon()).unwrap();
    assert!(guest.events.try_recv().is_err(), "it is told once");
}

#[test]
fn probe_tells_what_this_kvm_is() {
    match probe() {
        Ok(()) => println!("this KVM runs stock kernels"),
        Err(HostKvm::Paravirtual) => {
            println!("this KVM runs plain integer code only");
            assert!(HostKvm::Paravirtual.to_string().contains("hardware"));
        }
        Err(other) => panic!("{other}"),
    }
}
