//! Serves the two queues.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_vmm_core::memory::SharedRam;
use thiserror::Error;
use virtio_queue::{QueueOwnedT, QueueT};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::exchange::{Outcome, Rest, Scratch, exchange};
use super::poll::Poll;
use super::server::FileServer;
use super::sys;
use crate::shell::{Breakage, Pool, QueueWorker};
use crate::virtio::{DeviceQueue, Interrupt, IoCounters, Signal};

/// Requests served per wake-up: between batches the loop can take the worker away.
const BATCH: usize = 32;

/// What a guest can do wrong with its rings.
#[derive(Debug, Error)]
pub(super) enum RingError {
    #[error("ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    #[error("head {head} in a ring of {size}")]
    Head { head: u16, size: u16 },
}

/// Requests that other threads may have at one time: what a driver with one queue can have in its ring.
const MAX_IN_FLIGHT: usize = 1024;
/// Threads for requests that may wait for the host. They are started when they are needed.
pub(super) const WAITING_THREADS: usize = 4;
/// What the event of finished requests carries; queues carry their numbers.
const FINISHED: u32 = u32::MAX;

/// A request another thread has finished: queue, head and bytes written.
type Finished = (usize, u16, u32);

/// Requests in other threads' hands.
pub(super) struct InFlight {
    pool: Arc<Pool>,
    wake: Arc<EventFd>,
    finished: (Sender<Finished>, Receiver<Finished>),
    count: usize,
}

impl InFlight {
    pub fn new(pool: Arc<Pool>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        Ok(InFlight { pool, wake, finished: channel(), count: 0 })
    }

    /// True if requests have to stay in their rings.
    fn is_full(&self) -> bool {
        self.count >= MAX_IN_FLIGHT
    }

    /// Gives a task to another thread. Without one it is done here. It is finished even if it panics: the pool tells.
    fn start(&mut self, index: usize, head: u16, mut task: Box<dyn Rest>) {
        let (wake, done) = (Arc::clone(&self.wake), self.finished.0.clone());
        let call = move || {
            let ran = catch_unwind(AssertUnwindSafe(|| task.run()));
            let written = match &ran {
                Ok(written) => *written,
                Err(_) => catch_unwind(AssertUnwindSafe(|| task.fail())).unwrap_or(0),
            };
            // It holds guest memory.
            drop(task);
            let _ = done.send((index, head, written));
            let _ = wake.write(1);
            if let Err(panic) = ran {
                resume_unwind(panic);
            }
        };
        self.count += 1;
        if let Err(call) = self.pool.run(Box::new(call)) {
            call();
        }
    }
}

/// Owns queues and session while the device is active.
pub(super) struct FsWorker {
    pub memory: SharedRam,
    pub queues: Vec<DeviceQueue>,
    pub interrupt: Arc<dyn Interrupt>,
    pub server: FileServer,
    pub scratch: Scratch,
    pub counters: Arc<IoCounters>,
    pub in_flight: InFlight,
    pub poll: Poll,
    pub breakage: Breakage,
}

impl FsWorker {
    fn run(&mut self, index: usize) {
        if self.breakage.is_broken() {
            return;
        }
        let more = self.batch(index);
        self.breakage.after_batch(more, self.queues.get(index), &*self.interrupt);
    }

    /// Serves up to [`BATCH`] requests of one queue; true if more may be waiting.
    fn batch(&mut self, index: usize) -> Result<bool, RingError> {
        let ready = self.queues.get(index).is_some_and(|q| q.queue.ready());
        if !ready {
            return Ok(false);
        }
        self.poll.woken(Instant::now());
        let mut left = BATCH;
        loop {
            self.serve(index, &mut left)?;
            if self.in_flight.is_full() {
                // Goes on when one of them is finished; until then no notification could change anything.
                return Ok(false);
            }
            if left == 0 || !self.look_for_more(index)? {
                break;
            }
        }
        let Some(DeviceQueue { queue, .. }) = self.queues.get_mut(index) else { return Ok(false) };
        Ok(left == 0 || queue.enable_notification(&*self.memory)?)
    }

    /// Serves what is there, `left` requests at most, and interrupts for all of them.
    fn serve(&mut self, index: usize, left: &mut usize) -> Result<(), RingError> {
        let Self { memory, queues, server, scratch, counters, in_flight, .. } = self;
        let Some(DeviceQueue { queue, index: number, .. }) = queues.get_mut(index) else { return Ok(()) };
        let ram = &**memory;
        queue.disable_notification(ram)?;
        let mut answered = false;
        while *left > 0 {
            if in_flight.is_full() {
                break;
            }
            let Some(chain) = queue.iter(ram)?.next() else { break };
            let head = chain.head_index();
            if head >= queue.size() {
                return Err(RingError::Head { head, size: queue.size() });
            }
            *left -= 1;
            scratch.taken = 0;
            let outcome = exchange(server, scratch, memory, chain);
            counters.from_guest(scratch.taken as u64);
            match outcome {
                Outcome::Written(written) => {
                    queue.add_used(ram, head, written)?;
                    counters.to_guest(written.into());
                    answered = true;
                }
                Outcome::Later(task) => in_flight.start(index, head, task),
            }
        }
        if answered && queue.needs_notification(ram)? {
            self.interrupt.trigger(Signal::Queue(*number));
        }
        Ok(())
    }

    /// Waits for the next request awake, if that is likely to come soon. True if it came.
    fn look_for_more(&mut self, index: usize) -> Result<bool, RingError> {
        let Self { memory, queues, in_flight, poll, .. } = self;
        let Some(DeviceQueue { queue, .. }) = queues.get(index) else { return Ok(false) };
        let start = Instant::now();
        // Finished requests of other threads are told through the event loop.
        if !poll.idle(start) || in_flight.count > 0 {
            return Ok(false);
        }
        loop {
            std::thread::yield_now();
            if queue.avail_idx(&**memory, Ordering::Acquire)?.0 != queue.next_avail() {
                return Ok(true);
            }
            if !poll.go_on(start, Instant::now()) {
                return Ok(false);
            }
        }
    }

    /// Gives finished requests back to the driver.
    fn give_back(&mut self) -> Result<(), RingError> {
        let was_full = self.in_flight.is_full();
        let mut answered = vec![false; self.queues.len()];
        while let Ok(finished) = self.in_flight.finished.1.try_recv() {
            self.give_one_back(finished, &mut answered)?;
        }
        self.interrupt_for(&answered)?;
        if was_full {
            for index in 0..self.queues.len() {
                self.run(index);
            }
        }
        Ok(())
    }

    fn give_one_back(
        &mut self,
        (index, head, written): Finished,
        answered: &mut [bool],
    ) -> Result<(), RingError> {
        self.in_flight.count = self.in_flight.count.saturating_sub(1);
        if self.breakage.is_broken() {
            return Ok(());
        }
        if let (Some(DeviceQueue { queue, .. }), Some(answered)) =
            (self.queues.get_mut(index), answered.get_mut(index))
        {
            queue.add_used(&*self.memory, head, written)?;
            self.counters.to_guest(written.into());
            *answered = true;
        }
        Ok(())
    }

    fn interrupt_for(&mut self, answered: &[bool]) -> Result<(), RingError> {
        for (DeviceQueue { queue, index, .. }, answered) in self.queues.iter_mut().zip(answered) {
            if *answered && queue.needs_notification(&*self.memory)? {
                self.interrupt.trigger(Signal::Queue(*index));
            }
        }
        Ok(())
    }

    /// Waits until no other thread has a request any more.
    fn wait_for_all(&mut self, deadline: Instant) -> Result<bool, RingError> {
        let was_full = self.in_flight.is_full();
        let mut answered = vec![false; self.queues.len()];
        while self.in_flight.count > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(finished) = self.in_flight.finished.1.recv_timeout(left) else { break };
            self.give_one_back(finished, &mut answered)?;
        }
        self.interrupt_for(&answered)?;
        if was_full {
            // Whoever stays in the loop goes on with them there.
            self.queues.iter().for_each(|queue| drop(queue.event.write(1)));
        }
        Ok(self.in_flight.count == 0)
    }
}

impl MutEventSubscriber for FsWorker {
    fn init(&mut self, ops: &mut EventOps) {
        // Where that is refused, new files are given their mode a second time.
        let _ = sys::private_umask();
        // Edge triggered, so that the counters need not be read: every notification is an edge. The index of a
        // queue fits: there are two.
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let queues = (0u32..).zip(&self.queues).map(|(index, q)| Events::with_data(&*q.event, index, edge));
        let finished = Events::with_data(&*self.in_flight.wake, FINISHED, edge);
        let watched: Result<Vec<()>, _> = queues.chain([finished]).map(|events| ops.add(events)).collect();
        if let Err(e) = watched {
            self.breakage.report(&format_args!("cannot watch its queues: {e}"), &*self.interrupt);
        }
        for index in 0..self.queues.len() {
            self.run(index);
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        if events.data() != FINISHED {
            return self.run(events.data() as usize);
        }
        if let Err(e) = self.give_back() {
            self.breakage.report(&e, &*self.interrupt);
        }
    }
}

impl QueueWorker for FsWorker {
    fn drain(&mut self, deadline: Instant) -> Result<(), String> {
        match self.wait_for_all(deadline) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{} requests wait for the host", self.in_flight.count)),
            Err(e) => self.breakage.report(&e, &*self.interrupt),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
