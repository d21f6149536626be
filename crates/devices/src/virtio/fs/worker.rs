//! Serves the two queues.

use std::sync::Arc;
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_vmm_core::memory::SharedRam;
use thiserror::Error;
use virtio_queue::{QueueOwnedT, QueueT};
use vmm_sys_util::epoll::EventSet;

use super::exchange::{Scratch, exchange};
use super::server::FileServer;
use super::sys;
use crate::shell::QueueWorker;
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

/// Owns queues and session while the device is active.
pub(super) struct FsWorker {
    pub memory: SharedRam,
    pub queues: Vec<DeviceQueue>,
    pub interrupt: Arc<dyn Interrupt>,
    pub server: FileServer,
    pub scratch: Scratch,
    pub counters: Arc<IoCounters>,
    /// Set after a malformed ring; the queues are not touched until reset.
    pub failed: bool,
}

impl FsWorker {
    fn run(&mut self, index: usize) {
        if self.failed {
            return;
        }
        match self.batch(index) {
            Ok(true) => {
                // More is waiting; commands of the loop go first.
                if let Some(queue) = self.queues.get(index) {
                    let _ = queue.event.write(1);
                }
            }
            Ok(false) => {}
            Err(e) => self.fail(&e),
        }
    }

    fn fail(&mut self, reason: &dyn std::fmt::Display) {
        log::error!("virtio-fs: {reason}; the device stops until the driver resets it");
        self.failed = true;
        self.interrupt.needs_reset();
    }

    /// Serves up to [`BATCH`] requests of one queue; true if more may be waiting.
    fn batch(&mut self, index: usize) -> Result<bool, RingError> {
        let Self { memory, queues, server, scratch, counters, .. } = self;
        let Some(DeviceQueue { queue, index, .. }) = queues.get_mut(index) else { return Ok(false) };
        if !queue.ready() {
            return Ok(false);
        }
        let ram = &**memory;
        queue.disable_notification(ram)?;
        let mut served = 0;
        while served < BATCH {
            let Some(chain) = queue.iter(ram)?.next() else { break };
            let head = chain.head_index();
            if head >= queue.size() {
                return Err(RingError::Head { head, size: queue.size() });
            }
            scratch.taken = 0;
            let written = exchange(server, scratch, ram, chain);
            queue.add_used(ram, head, written)?;
            counters.from_guest(scratch.taken as u64);
            counters.to_guest(written.into());
            served += 1;
        }
        if served > 0 && queue.needs_notification(ram)? {
            self.interrupt.trigger(Signal::Queue(*index));
        }
        Ok(served == BATCH || queue.enable_notification(ram)?)
    }
}

impl MutEventSubscriber for FsWorker {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(e) = sys::private_umask() {
            self.fail(&format_args!("cannot set up the thread: {e}"));
        }
        for index in 0..self.queues.len() {
            let Some(queue) = self.queues.get(index) else { return };
            // Edge triggered, so that the counter need not be read: every notification is an edge. The index
            // of a queue fits: there are two.
            let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
            if let Err(e) = ops.add(Events::with_data(&*queue.event, index as u32, edge)) {
                self.fail(&format_args!("cannot watch a queue: {e}"));
            }
            self.run(index);
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        self.run(events.data() as usize);
    }
}

impl QueueWorker for FsWorker {
    /// Every request is finished before `process` returns.
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}
