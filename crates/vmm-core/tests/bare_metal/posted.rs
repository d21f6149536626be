//! Registers whose bits are cleared without leaving the guest.

use std::sync::atomic::Ordering;
use std::time::Duration;

use purlin_vmm_core::memory::{Bytes, GuestAddress};

use crate::guest::{POSTED, machine, soon};

const _: () = assert!(POSTED == 0xd064, "the code below");

#[test]
fn a_write_clears_bits_without_an_exit() {
    // mov dword [0xd064],5; mov byte [0xd064],2 (too short for the register); mov dword [0xd060],7 (another register)
    // out 0x80,al; spin
    let code = [
        0x66, 0xc7, 0x06, 0x64, 0xd0, 5, 0, 0, 0, 0xc6, 0x06, 0x64, 0xd0, 2, 0x66, 0xc7, 0x06, 0x60, 0xd0, 7,
        0, 0, 0, 0xe6, 0x80, 0xeb, 0xfe,
    ];
    let mut guest = machine(&code, 1, Duration::ZERO);
    guest.word.store(0xff, Ordering::Release);
    guest.group.start().unwrap();
    assert!(guest.port.wait_until(|c| c.written.len() == 5));
    assert_eq!(guest.word.load(Ordering::Acquire), 0xff, "nobody has looked");
    guest.line.settle();
    assert_eq!(guest.word.load(Ordering::Acquire), 0xfa);
    guest.group.stop(soon()).unwrap();
    guest.line.settle();
    assert_eq!(guest.word.load(Ordering::Acquire), 0xfa, "once");
    assert_eq!(guest.port.get(|c| c.written.clone()), [7, 0, 0, 0, 0]);
    assert_eq!(guest.group.exit_counters().counts()[0].mmio_writes, 1);
}

/// More writes than the kernel has room for leave the guest, so that none is lost; and there is room again afterwards.
#[test]
fn writes_that_find_no_room_leave_the_guest() {
    // mov cx,200; again: mov dword [0xd064],1; loop again; out 0x80,al
    // wait: mov al,[0x3000]; test al,al; jz wait; mov dword [0xd064],2; out 0x80,al; spin
    let code = [
        0xb9, 200, 0, 0x66, 0xc7, 0x06, 0x64, 0xd0, 1, 0, 0, 0, 0xe2, 0xf5, 0xe6, 0x80, 0xa0, 0x00, 0x30,
        0x84, 0xc0, 0x74, 0xf9, 0x66, 0xc7, 0x06, 0x64, 0xd0, 2, 0, 0, 0, 0xe6, 0x80, 0xeb, 0xfe,
    ];
    let mut guest = machine(&code, 1, Duration::ZERO);
    guest.word.store(7, Ordering::Release);
    guest.group.start().unwrap();
    let left = (200 - 169) * 4;
    assert!(guest.port.wait_until(|c| c.written.len() == left + 1));
    guest.line.settle();
    assert_eq!(guest.word.load(Ordering::Acquire), 6);
    guest.ram.write_obj(1u8, GuestAddress(0x3000)).unwrap();
    assert!(guest.port.wait_until(|c| c.written.len() == left + 2));
    guest.line.settle();
    assert_eq!(guest.word.load(Ordering::Acquire), 4);
    assert_eq!(guest.group.exit_counters().counts()[0].mmio_writes, 31);
    guest.group.stop(soon()).unwrap();
}
