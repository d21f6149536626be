//! Giving way to the guest's processor while it is about to say more.
//!
//! Some packets of a guest are followed by another within microseconds. Where thread and vCPU share a processor, the first of
//! them would stop the vCPU, only for the thread to find nothing it can act on, to sleep, and to be woken by the second. So it
//! lets the vCPU go on before it asks for a notification. On a processor of its own that is a system call that returns at once.

use std::time::{Duration, Instant};

use crate::wire::{Header, control, kind, op};

/// A processor that was away for so long has others to serve than the vCPU that was about to say more.
const TOO_LONG: Duration = Duration::from_micros(500);
/// How long nothing is given away after that: longer each time in a row, so that a busy host loses a time slice per second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Times in one turn.
const MOST: u32 = 4;

/// Whether to give way.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    paused_until: Option<Instant>,
    pause: Duration,
}

impl Courtesy {
    /// True if the guest's kernel sends another packet right after this one: a socket's window is announced when the program
    /// has read, and may answer; what is created is connected or sent from, and what is released was open.
    pub fn is_prelude(header: &Header) -> bool {
        match header.kind {
            kind::STREAM => header.op == op::CREDIT_UPDATE,
            kind::DGRAM => {
                [control::CREATE, control::RELEASE, control::SENDTO_ADDR].contains(&header.dst_port)
            }
            _ => false,
        }
    }

    /// Gives way, unless it took too long lately, for the time of the turn that it was asked in. `times` counts for one turn.
    /// True if there may be more now.
    pub fn give_way(&mut self, now: Instant, times: &mut u32) -> bool {
        if *times >= MOST || self.paused_until.is_some_and(|until| now < until) {
            return false;
        }
        *times += 1;
        let before = Instant::now();
        std::thread::yield_now();
        self.took(now, before.elapsed());
        true
    }

    fn took(&mut self, now: Instant, time: Duration) {
        if time > TOO_LONG {
            self.pause = self.pause.saturating_mul(2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            self.paused_until = now.checked_add(self.pause);
        } else {
            (self.pause, self.paused_until) = (Duration::ZERO, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_does_not_come_back_is_not_given_away_again_soon() {
        let (mut courtesy, now) = (Courtesy::default(), Instant::now());
        let long = TOO_LONG + Duration::from_micros(1);
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            courtesy.took(now, long);
            assert!(!courtesy.give_way(now, &mut 0));
            assert!(courtesy.pause > last || courtesy.pause == LONGEST_PAUSE);
            last = courtesy.pause;
        }
        assert_eq!(last, LONGEST_PAUSE);
        courtesy.took(now, TOO_LONG);
        assert!(courtesy.give_way(now, &mut 0));
        courtesy.took(now, TOO_LONG);
        courtesy.took(now, long);
        assert_eq!(courtesy.pause, SHORTEST_PAUSE);
        assert!(courtesy.give_way(now + SHORTEST_PAUSE, &mut 0));
    }

    #[test]
    fn a_turn_ends() {
        let (mut courtesy, now) = (Courtesy::default(), Instant::now());
        let mut times = 0;
        let given = (0..100).filter(|_| {
            courtesy.paused_until = None;
            courtesy.give_way(now, &mut times)
        });
        assert_eq!(given.count(), 4);
    }

    #[test]
    fn preludes() {
        let packet = |kind, op, dst_port| Header { kind, op, dst_port, ..Header::default() };
        assert!(Courtesy::is_prelude(&packet(kind::STREAM, op::CREDIT_UPDATE, 620)));
        assert!(Courtesy::is_prelude(&packet(kind::DGRAM, op::RW, control::CREATE)));
        assert!(!Courtesy::is_prelude(&packet(kind::STREAM, op::RW, control::CREATE)));
        assert!(!Courtesy::is_prelude(&packet(kind::DGRAM, op::RW, control::CONNECT)));
    }
}
