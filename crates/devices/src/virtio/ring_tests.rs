use crate::testing::{Buf, DriverRing, guest_ram};

use super::*;

const SIZE: u16 = 8;

#[test]
fn what_a_driver_offers_is_found_and_given_back() {
    let ram = guest_ram(1 << 20);
    let mut driver = DriverRing::new(&ram, 0x1000, 0x1_0000, SIZE);
    let device = driver.device_queue(0, true);
    let view = RingView::new(&device.queue, &ram).unwrap();
    assert_eq!(view.offered(0).unwrap(), 0);
    let first = driver.submit(&[Buf::Read(b"abc"), Buf::Write(5)]);
    driver.submit(&[Buf::Write(7)]);
    assert_eq!((view.offered(0).unwrap(), view.offered(1).unwrap()), (2, 1));
    assert_eq!(view.head(0).unwrap(), first);
    let pieces: Vec<_> = view.chain(first).map(|d| (d.len, d.is_write_only(), d.has_next())).collect();
    assert_eq!(pieces, [(3, false, true), (5, true, false)]);

    view.put_used(0, first, 5).unwrap();
    assert!(driver.used().is_empty(), "not published yet");
    view.publish(1).unwrap();
    let used = driver.used();
    assert_eq!((used.len(), used[0].head, used[0].len), (1, first, 5));
}

#[test]
fn positions_wrap() {
    let ram = guest_ram(1 << 20);
    let mut driver = DriverRing::new(&ram, 0x1000, 0x1_0000, SIZE);
    let device = driver.device_queue(0, true);
    let view = RingView::new(&device.queue, &ram).unwrap();
    for at in 0..3 * SIZE {
        let head = driver.submit(&[Buf::Write(1)]);
        assert_eq!((view.offered(at).unwrap(), view.head(at).unwrap()), (1, head));
        view.put_used(at, head, 1).unwrap();
        view.publish(at + 1).unwrap();
        assert_eq!(driver.used().len(), 1);
    }
}

#[test]
fn interrupts_only_when_asked_for() {
    let ram = guest_ram(1 << 20);
    let driver = DriverRing::new(&ram, 0x1000, 0x1_0000, SIZE);
    let device = driver.device_queue(0, true);
    let view = RingView::new(&device.queue, &ram).unwrap();
    // The driver's event index is 0: it wants to hear of the entry at position 0, and of no other.
    assert!(view.wants_interrupt(0, 1).unwrap());
    assert!(view.wants_interrupt(0, 3).unwrap());
    assert!(!view.wants_interrupt(1, 3).unwrap());
    assert!(view.wants_interrupt(u16::MAX, 1).unwrap());
    let plain = driver.device_queue(0, false);
    assert!(RingView::new(&plain.queue, &ram).unwrap().wants_interrupt(1, 3).unwrap());
}

#[test]
fn a_hostile_ring() {
    let ram = guest_ram(1 << 20);
    let mut driver = DriverRing::new(&ram, 0x1000, 0x1_0000, SIZE);
    let device = driver.device_queue(0, true);
    let view = RingView::new(&device.queue, &ram).unwrap();
    // A loop ends, and shows that it did not come to an end.
    driver.write_descriptor(0, 0x8000, 1, VRING_DESC_F_NEXT as u16, 1);
    driver.write_descriptor(1, 0x8000, 1, VRING_DESC_F_NEXT as u16, 0);
    assert_eq!(view.chain(0).count(), usize::from(SIZE));
    assert!(view.chain(0).last().unwrap().has_next());
    // So does a chain that leaves the table, and an indirect table is none.
    driver.write_descriptor(0, 0x8000, 1, VRING_DESC_F_NEXT as u16, SIZE);
    assert_eq!((view.chain(0).count(), view.chain(0).last().unwrap().has_next()), (1, true));
    driver.write_descriptor(0, 0x8000, 64, VRING_DESC_F_INDIRECT as u16, 0);
    assert_eq!(view.chain(0).count(), 0);
    driver.publish(SIZE);
    assert!(matches!(view.head(0), Err(RingError::Head(SIZE))));
    driver.set_avail_idx(SIZE + 1);
    assert!(matches!(view.offered(0), Err(RingError::TooMany(..))));
}

#[test]
fn a_ring_that_is_not_there() {
    let ram = guest_ram(1 << 20);
    let driver = DriverRing::new(&ram, 0x1000, 0x1_0000, SIZE);
    let mut queue = driver.device_queue(0, true).queue;
    queue.set_ready(false);
    assert!(matches!(RingView::new(&queue, &ram), Err(RingError::NotReady)));
    queue.set_ready(true);
    queue.set_desc_table_address(Some(1 << 20), Some(0));
    assert!(matches!(RingView::new(&queue, &ram), Err(RingError::Memory(_))));
}
