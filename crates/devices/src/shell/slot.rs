//! Where a device keeps its worker: parked inside the device, or running in a loop.

use std::any::Any;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use super::event_loop::{LoopHandle, QueueWorker, TakeReply, WorkerId};

enum State<W> {
    Empty,
    Parked(Box<W>),
    Running(WorkerId),
    /// Asked for, not answered yet; the worker still runs, or waits in the channel.
    Leaving(WorkerId, Receiver<TakeReply>),
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
    /// What the worker waits for, past `deadline`. It then still runs, or parks itself a little later; a
    /// further call finds out.
    pub fn park(&mut self, deadline: Instant) -> Result<(), String> {
        self.settle();
        let mut asked = self.ask(deadline)?;
        loop {
            let State::Leaving(id, reply) = &self.state else { return Ok(()) };
            let id = *id;
            let wait = deadline.saturating_duration_since(Instant::now());
            let answer = match reply.recv_timeout(wait) {
                Ok(answer) => self.take_answer(id, answer),
                Err(RecvTimeoutError::Timeout) => return Err("its worker is still in a request".to_owned()),
                Err(RecvTimeoutError::Disconnected) => {
                    self.state = State::Empty;
                    return Err("its loop has ended".to_owned());
                }
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
        let reply = self.handle.take(id, deadline).map_err(|e| e.to_string())?;
        self.state = State::Leaving(id, reply);
        Ok(true)
    }

    /// Drops the parked worker, if any; the slot is then empty.
    pub fn clear(&mut self) {
        if matches!(self.state, State::Parked(_)) {
            self.state = State::Empty;
        }
    }

    /// A late answer to an earlier [`WorkerSlot::park`] is taken, so that `start` finds the worker.
    fn settle(&mut self) {
        if let State::Leaving(id, reply) = &self.state {
            let id = *id;
            if let Ok(answer) = reply.try_recv() {
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
