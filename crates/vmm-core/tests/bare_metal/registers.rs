//! Registers that a guest reads as memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use purlin_vmm_core::memory::{Bytes, GuestAddress};

use crate::guest::{Guest, MMIO, POSTED, machine, soon};

const COMMAND: GuestAddress = GuestAddress(0x3000);
const READ: GuestAddress = GuestAddress(0x3004);
const _: () = assert!(MMIO == 0xd000 && POSTED == 0xd064, "the code below");

/// Lets the guest read the register once; what it read, and how many reads have left the guest by then.
fn turn(guest: &Guest) -> (u32, u64) {
    let before = guest.port.get(|c| c.written.len());
    guest.ram.write_obj(1u8, COMMAND).unwrap();
    assert!(guest.port.wait_until(|c| c.written.len() == before + 4), "the write leaves the guest");
    (guest.ram.read_obj(READ).unwrap(), guest.port.get(|c| c.reads))
}

#[test]
fn a_page_that_is_shown_is_read_without_an_exit_and_not_written() {
    // wait: mov al,[0x3000]; test al,al; jz wait; mov byte [0x3000],0
    // mov eax,[0xd060]; mov [0x3004],eax; mov dword [0xd064],2; mov dword [0xd070],9; jmp wait
    let code = [
        0xa0, 0x00, 0x30, 0x84, 0xc0, 0x74, 0xf9, 0xc6, 0x06, 0x00, 0x30, 0, 0x66, 0xa1, 0x60, 0xd0, 0x66,
        0xa3, 0x04, 0x30, 0x66, 0xc7, 0x06, 0x64, 0xd0, 2, 0, 0, 0, 0x66, 0xc7, 0x06, 0x70, 0xd0, 9, 0, 0, 0,
        0xeb, 0xd8,
    ];
    let mut guest = machine(&code, 1, Duration::ZERO);
    let window = guest.window.take().expect("this test needs a KVM with read-only memory");
    let register = guest.page.register(0x60);
    guest.group.start().unwrap();
    assert_eq!(turn(&guest), (1, 1), "not shown");

    guest.word.store(0xff, Ordering::Release);
    register.store(0x1234_5678, Ordering::Release);
    window.show().unwrap();
    assert_eq!(turn(&guest), (0x1234_5678, 1));
    register.store(7, Ordering::Release);
    assert_eq!(turn(&guest), (7, 1), "what the host changes is seen");
    assert_eq!(guest.page.word(0x70).load(Ordering::Acquire), 0, "the guest does not write it");
    assert_eq!(guest.port.get(|c| c.written.clone()), [9, 0, 0, 0].repeat(3));
    assert_eq!(guest.word.load(Ordering::Acquire), 0xff);
    guest.line.settle();
    assert_eq!(guest.word.load(Ordering::Acquire), 0xfd, "posted writes are posted");

    window.hide().unwrap();
    assert_eq!(turn(&guest), (2, 2), "hidden");
    window.show().unwrap();
    assert_eq!(turn(&guest), (7, 2), "shown again");
    guest.group.stop(soon()).unwrap();
}
