use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use purlin_vmm_core::memory::{Bytes, GuestAddress, RamRange};
use virtio_queue::QueueOwnedT;

use super::*;
use crate::testing::{DriverRing, guest_ram};

/// A chain of (address, length, flags without NEXT).
fn chain(ram: &SharedRam, parts: &[(u64, u32, u16)]) -> Chain {
    chain_with(ram, None, parts)
}

fn chain_with(ram: &SharedRam, window: Option<&Window>, parts: &[(u64, u32, u16)]) -> Chain {
    let mut ring = DriverRing::new(ram, 0, 0x1_0000, 64);
    for (i, (addr, len, flags)) in (0u16..).zip(parts) {
        let next = if usize::from(i) + 1 < parts.len() { 1 } else { 0 };
        ring.write_descriptor(i, *addr, *len, flags | next, i + 1);
    }
    ring.publish(0);
    let mut queue = ring.device_queue(0, false).queue;
    let chain = queue.iter(&**ram).unwrap().next().unwrap();
    Chain::parse(ram, window, chain)
}

const WRITE: u16 = 2;

#[test]
fn bytes_go_through_pieces_in_order() {
    let ram = guest_ram(1 << 20);
    ram.write_slice(b"abcdefgh", GuestAddress(0x2_0000)).unwrap();
    let mut c = chain(
        &ram,
        &[(0x2_0000, 3, 0), (0x9_0000, 0, 0), (0x2_0003, 5, 0), (0x3_0000, 2, WRITE), (0x4_0000, 6, WRITE)],
    );
    assert!(c.whole);
    assert_eq!((c.readable.left(), c.writable.left()), (8, 8));
    let mut four = [0; 4];
    assert!(c.readable.read(&mut four));
    assert_eq!(&four, b"abcd");
    assert!(!c.readable.read(&mut [0; 5]), "there are four");
    assert_eq!(c.readable.read_obj::<[u8; 4]>(), Some(*b"efgh"));
    let mut head = c.writable.split_front(3);
    assert_eq!((head.left(), c.writable.left()), (3, 5));
    assert!(c.writable.write(b"45"));
    assert!(head.write(b"123"));
    assert!(!head.write(b"x"));
    assert!(!c.writable.write(b"6789"), "room for three");
    let mut out = [0; 8];
    ram.read_slice(&mut out[..2], GuestAddress(0x3_0000)).unwrap();
    ram.read_slice(&mut out[2..], GuestAddress(0x4_0000)).unwrap();
    assert_eq!(&out, b"12345\0\0\0");
    assert_eq!(c.writable.split_front(100).left(), 3);
}

#[test]
fn files_are_read_and_written_in_place() {
    let ram = guest_ram(1 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    let mut c = chain(&ram, &[(0x2_0000, 4, WRITE), (0x3_0000, 100, WRITE)]);
    assert_eq!(c.writable.fill(&file, 6, 1, true).unwrap(), 6);
    assert_eq!(c.writable.left(), 98);
    assert_eq!(c.writable.fill(&file, 50, 7, true).unwrap(), 3, "end of the file");
    assert_eq!(c.writable.fill(&file, 50, 10, true).unwrap(), 0);
    assert!(c.writable.fill(&file, 50, u64::MAX, true).is_err());
    assert_eq!(c.writable.left(), 95);
    let mut got = [0; 5];
    ram.read_slice(&mut got, GuestAddress(0x3_0000)).unwrap();
    assert_eq!(&got, b"56789");
    let mut c = chain(&ram, &[(0x3_0000, 2, 0), (0x2_0000, 4, 0)]);
    assert_eq!(c.readable.drain(&file, 5, Target::At(2)).unwrap(), 5);
    assert_eq!(c.readable.left(), 1);
    assert_eq!(c.readable.drain(&file, 5, Target::At(20)).unwrap(), 1, "what there is");
    let mut text = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut text).unwrap();
    assert_eq!(text[..10], *b"0156123789");
}

#[test]
fn what_is_not_in_ram_is_left_out() {
    let ram = guest_ram(1 << 20);
    const END: u64 = 1 << 20;
    type Case = (&'static [(u64, u32, u16)], usize, usize, bool);
    let table: [Case; 6] = [
        (&[(0x2_0000, 8, 0), (END, 8, 0), (0x2_0000, 8, 0), (0x3_0000, 4, WRITE)], 8, 4, false),
        (&[(0x2_0000, 8, 0), (END - 4, 8, WRITE)], 8, 0, false),
        (&[(u64::MAX, 8, 0)], 0, 0, false),
        (&[(0x2_0000, u32::MAX, 0)], 0, 0, false),
        (&[(0x2_0000, 8, WRITE), (0x3_0000, 8, 0)], 0, 8, false),
        (&[(u64::MAX, 0, 0), (END - 8, 8, WRITE)], 0, 8, true),
    ];
    for (parts, readable, writable, whole) in table {
        let c = chain(&ram, parts);
        assert_eq!(
            (c.readable.left(), c.writable.left(), c.whole),
            (readable, writable, whole),
            "{parts:x?}"
        );
    }
}

#[test]
fn what_is_in_the_window_is_left_to_the_kernel() {
    let ram = guest_ram(1 << 20);
    let (start, page) = (1 << 32, 4096);
    let window = Window::reserve(RamRange { start, len: 2 << 20 }).unwrap();
    window.show_bytes(0, page, b"in the window").unwrap();
    let all =
        [(start, 13, 0), (start + 3 * page, 8, 0), (start, 2, WRITE), (start + (2 << 20) - 4, 4, WRITE)];
    let mut c = chain_with(&ram, Some(&window), &all);
    assert!(c.whole);
    let mut file = tempfile::tempfile().unwrap();
    assert_eq!(c.readable.drain(&file, 13, Target::At(0)).unwrap(), 13);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "in the window");
    let nothing_shown = c.readable.drain(&file, 8, Target::At(0)).unwrap_err();
    assert_eq!(nothing_shown.raw_os_error(), Some(libc::EFAULT));
    assert!(!c.readable.read(&mut [0; 4]) && !c.writable.write(b"1234"));
    let mut c = chain_with(&ram, Some(&window), &[(start, 2, WRITE)]);
    assert_eq!(c.writable.fill(&file, 2, 3, true).unwrap(), 2);
    let mut c = chain_with(&ram, Some(&window), &[(start, 2, 0)]);
    let copy = tempfile::tempfile().unwrap();
    assert_eq!(c.readable.drain(&copy, 2, Target::At(0)).unwrap(), 2);
    let mut two = [0; 2];
    copy.read_exact_at(&mut two, 0).unwrap();
    assert_eq!(&two, b"th");
    // Half outside, and without a window.
    assert!(!chain_with(&ram, Some(&window), &[(start + (2 << 20) - 4, 8, 0)]).whole);
    assert!(!chain_with(&ram, None, &[(start, 2, 0)]).whole);
}
