//! Edges on a pin that several threads ask for.

use std::sync::atomic::{AtomicU8, Ordering};

const IDLE: u8 = 0;
/// A thread is sending an edge.
const BUSY: u8 = 1;
/// It has to send another one after that.
const AGAIN: u8 = 2;

/// Sends edges one after another, without making a thread wait for another one.
///
/// An edge is a level that rises and falls. Two threads that do this to the same pin at once can lose one: if the second
/// rise comes before the first fall, the pin does not change, although the guest may have answered the first rise already
/// and never looks at what the second was for. So a thread that finds another one at work leaves its request with it.
#[derive(Debug, Default)]
pub struct Edges(AtomicU8);

impl Edges {
    /// Sends an edge by `edge` after everything the caller did before, or leaves that to the thread that is at it. One edge
    /// serves all requests that came before it began.
    ///
    /// # Errors
    ///
    /// Of the last edge this thread sent. A thread that left its request hears of none.
    pub fn send<E>(&self, mut edge: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        if self.leave_request() {
            return Ok(());
        }
        loop {
            let sent = edge();
            if self.0.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return sent;
            }
            // Acquires what the requests are about, so that it happened before the edge that serves them.
            self.0.swap(BUSY, Ordering::AcqRel);
        }
    }

    /// True if another thread is at work and sends an edge after this.
    fn leave_request(&self) -> bool {
        let next = |state| Some(if state == IDLE { BUSY } else { AGAIN });
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        before.is_ok_and(|state| state != IDLE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, AtomicU32};
    use std::thread;

    use super::*;

    /// The pin of an interrupt controller, and a guest that takes the status at each edge.
    #[derive(Default)]
    struct Pin {
        high: AtomicBool,
        status: AtomicU32,
        taken: AtomicU32,
    }

    impl Pin {
        fn rise(&self) {
            if !self.high.swap(true, Ordering::SeqCst) {
                self.taken.fetch_add(self.status.swap(0, Ordering::SeqCst), Ordering::SeqCst);
            }
        }

        fn edge(&self) -> Result<(), Infallible> {
            self.rise();
            // The other threads' turn, where it hurts.
            thread::yield_now();
            self.high.store(false, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn every_status_is_taken() {
        const EACH: u32 = 20_000;
        let (pin, edges) = (Pin::default(), Edges::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        pin.status.fetch_add(1, Ordering::SeqCst);
                        edges.send(|| pin.edge()).unwrap();
                    }
                });
            }
        });
        assert_eq!(pin.status.load(Ordering::SeqCst), 0, "left behind");
        assert_eq!(pin.taken.load(Ordering::SeqCst), 4 * EACH);
    }

    /// A request that comes while an edge is being sent makes one more, however many there are.
    #[test]
    fn requests_meanwhile_are_one_more_edge() {
        let (edges, mut sent) = (Edges::default(), 0);
        edges
            .send(|| {
                sent += 1;
                for _ in 0..if sent == 1 { 3 } else { 0 } {
                    edges
                        .send(|| -> Result<(), Infallible> { unreachable!("another one is at it") })
                        .unwrap();
                }
                Ok::<(), Infallible>(())
            })
            .unwrap();
        assert_eq!(sent, 2);
    }

    #[test]
    fn a_failed_edge_is_reported_and_does_not_stop_later_ones() {
        let edges = Edges::default();
        assert_eq!(edges.send(|| Err(5)), Err(5));
        assert_eq!(edges.send(|| Ok::<(), u8>(())), Ok(()));
    }
}
