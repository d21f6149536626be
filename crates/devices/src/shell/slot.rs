//! Where a device keeps its worker: parked inside the device, or running in a loop.

use std::any::Any;
use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

use super::event_loop::{Asked, LoopHandle, QueueWorker, TakeReply, WorkerId};

enum State<W> {
    Empty,
    Parked(Box<W>),
    Running(WorkerId),
    /// Asked for, not answered yet; the worker still runs, or waits in the channel.
    Leaving(WorkerId, Asked),
}

/// Moves one worker between its device and a loop.
///
/// Ownership moves by message: whoever holds the worker is the only one that touches its queues.
pub struct WorkerSlot<W> {
    handle: LoopHandle,
    state: State<W>,
}

impl<W: QueueWorker> WorkerSlot<W> {
    /// An empty slot whose worker will run in the loop behind `handle`.
    pub fn new(handle: LoopHandle) -> Self {
        WorkerSlot { handle, state: State::Empty }
    }

    /// True if there is no worker: the device is not active.
    pub fn is_empty(&self) -> bool {
        matches!(self.state, State::Empty)
    }

    /// The worker, while it is parked.
    pub fn parked(&self) -> Option<&W> {
        match &self.state {
            State::Parked(worker) => Some(worker),
            _ => None,
        }
    }

    /// The worker, while it is parked.
    pub fn parked_mut(&mut self) -> Option<&mut W> {
        match &mut self.state {
            State::Parked(worker) => Some(worker),
            _ => None,
        }
    }

    /// Puts a worker into an empty slot without starting it.
    pub fn put(&mut self, worker: W) {
        self.state = State::Parked(Box::new(worker));
    }

    /// Starts the parked worker; no-op if none is parked.
    ///
    /// # Errors
    ///
    /// The loop has ended. The worker is gone then, and the slot empty.
    pub fn start(&mut self) -> io::Result<()> {
        self.settle();
        match std::mem::replace(&mut self.state, State::Empty) {
            State::Parked(worker) => {
                self.state = State::Running(self.handle.add(worker)?);
                Ok(())
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Takes the worker out of its loop and parks it. `Ok` at once if it does not run.
    ///
    /// # Errors
    ///
    /// What the worker waits for, past `deadline`. It then runs on.
    pub fn park(&mut self, deadline: Instant) -> Result<(), String> {
        let parked = self.park_some_time(deadline);
        let State::Leaving(id, asked) = &self.state else { return parked };
        let id = *id;
        match asked.give_up() {
            None => {
                self.state = State::Running(id);
                parked
            }
            Some(Ok(answer)) => self.take_answer(id, answer),
            Some(Err(_)) => self.lost(),
        }
    }

    /// As [`WorkerSlot::park`], but past `deadline` the worker may also park itself a little later; a further call finds out.
    pub(super) fn park_some_time(&mut self, deadline: Instant) -> Result<(), String> {
        self.settle();
        let mut asked = self.ask(deadline)?;
        loop {
            let State::Leaving(id, question) = &self.state else { return Ok(()) };
            let id = *id;
            let answer = match question.wait(deadline) {
                Ok(answer) => self.take_answer(id, answer),
                Err(RecvTimeoutError::Timeout) => return Err("its worker is still in a request".to_owned()),
                Err(RecvTimeoutError::Disconnected) => return self.lost(),
            };
            // The refusal of an earlier request, which had less time, does not count.
            if answer.is_ok() || asked {
                return answer;
            }
            asked = self.ask(deadline)?;
        }
    }

    /// Asks the loop for a worker that runs; true if it does.
    fn ask(&mut self, deadline: Instant) -> Result<bool, String> {
        let State::Running(id) = self.state else { return Ok(false) };
        let asked = self.handle.take(id, deadline).map_err(|e| e.to_string())?;
        self.state = State::Leaving(id, asked);
        Ok(true)
    }

    fn lost(&mut self) -> Result<(), String> {
        self.state = State::Empty;
        Err("its loop has ended".to_owned())
    }

    /// Drops the parked worker, if any; the slot is then empty.
    pub fn clear(&mut self) {
        if matches!(self.state, State::Parked(_)) {
            self.state = State::Empty;
        }
    }

    /// A late answer to an earlier [`WorkerSlot::park`] is taken, so that `start` finds the worker.
    fn settle(&mut self) {
        if let State::Leaving(id, asked) = &self.state {
            let id = *id;
            if let Ok(answer) = asked.wait(Instant::now()) {
                let _ = self.take_answer(id, answer);
            }
        }
    }

    fn take_answer(&mut self, id: WorkerId, answer: TakeReply) -> Result<(), String> {
        let outcome = answer.and_then(|any| {
            (any as Box<dyn Any>).downcast::<W>().map_err(|_| "a worker of another type came back".to_owned())
        });
        match outcome {
            Ok(worker) => {
                self.state = State::Parked(worker);
                Ok(())
            }
            Err(reason) => {
                self.state = State::Running(id);
                Err(reason)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use event_manager::{EventOps, Events, MutEventSubscriber};
    use vmm_sys_util::epoll::EventSet;
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;
    use crate::shell::EventLoop;

    /// Says that it works, and does so until it may go on.
    struct Slow {
        event: EventFd,
        works: Sender<()>,
        go_on: Receiver<()>,
    }

    impl MutEventSubscriber for Slow {
        fn process(&mut self, _events: Events, _ops: &mut EventOps) {
            let _ = self.event.read();
            self.works.send(()).unwrap();
            self.go_on.recv().unwrap();
        }

        fn init(&mut self, ops: &mut EventOps) {
            ops.add(Events::new(&self.event, EventSet::IN)).unwrap();
        }
    }

    impl QueueWorker for Slow {
        fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
            Ok(())
        }
    }

    fn soon(wait: u64) -> Instant {
        Instant::now() + Duration::from_millis(wait)
    }

    #[test]
    fn a_worker_that_is_too_late_to_be_parked_runs_on() {
        let devices = EventLoop::spawn("test").unwrap();
        let mut slot = WorkerSlot::new(devices.handle());
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let ((works, heard), (go_on, told)) = (channel(), channel());
        slot.put(Slow { event: event.try_clone().unwrap(), works, go_on: told });
        slot.start().unwrap();
        for _ in 0..3 {
            event.write(1).unwrap();
            heard.recv().unwrap();
            slot.park(soon(10)).unwrap_err();
            slot.park(soon(0)).unwrap_err();
            slot.start().unwrap();
            go_on.send(()).unwrap();
        }
        slot.park(soon(10_000)).unwrap();
        assert!(slot.parked().is_some());
        // One that may be late, as for a reset, is found later.
        slot.start().unwrap();
        event.write(1).unwrap();
        heard.recv().unwrap();
        slot.park_some_time(soon(10)).unwrap_err();
        go_on.send(()).unwrap();
        slot.park_some_time(soon(10_000)).unwrap();
        assert!(slot.parked().is_some());
    }
}
