use proptest::prelude::*;

use super::*;

fn stream(peer_window: u32) -> Credit {
    let mut credit = Credit::new(256 << 10);
    credit.peer(peer_window, 0).unwrap();
    credit
}

fn fill(credit: &mut Credit, packet: u32) -> Allowance {
    let given = credit.allowance(packet);
    let mut left = given.bytes;
    for _ in 0..given.packets {
        let len = left.min(packet);
        credit.send(len);
        left -= len;
    }
    assert_eq!(left, 0);
    given
}

#[test]
fn a_full_window_leaves_room_for_the_cost_of_packets() {
    let mut credit = stream(256 << 10);
    let given = fill(&mut credit, 3732);
    assert_eq!(given, Allowance { bytes: 60 * 3732, packets: 60 });
    assert_eq!(credit.allowance(3732), Allowance::default());
    credit.peer(256 << 10, 60 * 3732).unwrap();
    assert_eq!(credit.allowance(3732).packets, 60);
}

#[test]
fn tiny_windows_still_move_one_packet_at_a_time() {
    for window in [1, 128, 575, 576, 700] {
        let mut credit = stream(window);
        assert_eq!(credit.allowance(3732), Allowance { bytes: window, packets: 1 });
        credit.send(window);
        assert_eq!(credit.allowance(3732), Allowance::default());
        credit.peer(window, window).unwrap();
        assert_eq!(credit.allowance(3732).bytes, window);
    }
    assert_eq!(stream(0).allowance(3732), Allowance::default());
}

#[test]
fn a_window_that_shrinks_below_what_is_in_flight_gives_nothing() {
    let mut credit = stream(256 << 10);
    credit.send(200_000);
    credit.peer(1000, 0).unwrap();
    assert_eq!(credit.allowance(3732), Allowance::default());
}

#[test]
fn progress_that_cannot_be_is_refused() {
    let mut credit = stream(1 << 20);
    credit.send(100);
    assert_eq!(credit.peer(1 << 20, 101), Err(Violation::Consumed { consumed: 101, sent: 100 }));
    credit.peer(1 << 20, 60).unwrap();
    assert_eq!(credit.peer(1 << 20, 59), Err(Violation::Consumed { consumed: u32::MAX, sent: 40 }));
}

#[test]
fn more_than_our_window_is_refused() {
    let mut credit = stream(1 << 20);
    credit.receive(256 << 10).unwrap();
    assert!(matches!(credit.receive(1), Err(Violation::Window { len: 1, .. })));
    credit.consume(1);
    credit.receive(1).unwrap();
}

#[test]
fn small_packets_keep_below_the_packet_count() {
    let mut credit = stream(256 << 10);
    let mut sent = 0;
    while credit.allowance(200).packets > 0 {
        credit.send(200);
        sent += 1;
    }
    assert!((sent + 1) * 576 <= 256 << 10, "{sent}");
    assert!(sent > 300);
}

/// A guest that takes its whole window hears of progress before it stops, whatever its own buffer is.
#[test]
fn updates_come_before_a_guest_stops() {
    for peer_window in [1, 4096, 64 << 10, 256 << 10, 64 << 20] {
        let mut credit = stream(peer_window);
        let window = (256u32 << 10).min(peer_window);
        let (mut in_window, mut moved) = (0, 0u64);
        while moved < 4 << 20 {
            let len = (window - in_window).min(65536);
            assert!(len > 0, "stopped with a peer window of {peer_window}");
            credit.receive(len).unwrap();
            in_window += len;
            credit.consume(len);
            moved += u64::from(len);
            if credit.update_due() {
                credit.announce();
                in_window = 0;
            }
        }
    }
}

proptest! {
    /// In flight bytes never exceed what the guest offered when they were sent, and counters never cross.
    #[test]
    fn windows_hold(ops in proptest::collection::vec((0u8..4, any::<u32>()), 1..300)) {
        let mut credit = stream(1 << 18);
        let mut window = 1u32 << 18;
        for (op, value) in ops {
            match op {
                0 => {
                    let packet = value % 4096 + 1;
                    let before = credit.allowance(packet);
                    if before.packets > 0 {
                        let len = before.bytes.min(packet);
                        credit.send(len);
                        prop_assert!(credit.unconsumed() <= window);
                    }
                }
                1 => {
                    window = value % (1 << 20);
                    let consumed = credit.peer_consumed.wrapping_add(value % (credit.unconsumed() + 1));
                    credit.peer(window, consumed).unwrap();
                    prop_assert!(credit.in_flight.len() as u32 <= credit.unconsumed());
                    prop_assert_eq!(credit.in_flight.is_empty(), credit.unconsumed() == 0);
                }
                2 => { let _ = credit.receive(value % 70_000); }
                _ => credit.consume(value % 70_000),
            }
            prop_assert!(credit.unread() <= 256 << 10);
        }
    }
}
