//! Fills the driver's buffers.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_vmm_core::memory::{Bytes, GuestMemoryError, GuestRam, SharedRam};
use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{QueueOwnedT, QueueT};
use vmm_sys_util::epoll::EventSet;

use crate::shell::{Breakage, QueueWorker};
use crate::virtio::{DeviceQueue, Interrupt, IoCounters, Signal};

/// Most bytes given for one buffer. Linux asks for 64; a guest that offers more gets the rest next time.
const MAX_FILL: usize = 4096;
/// Buffers handled per wake-up, so that a guest that keeps offering does not hold the shared loop.
const BATCH: usize = 64;

/// What a guest can do wrong here.
#[derive(Debug, Error)]
pub(super) enum RngError {
    #[error("ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    #[error("buffer: {0}")]
    Buffer(#[from] GuestMemoryError),
    #[error("random source: {0}")]
    Source(#[from] io::Error),
}

/// Owns the queue while the device is active.
pub(super) struct RngWorker {
    pub memory: SharedRam,
    pub queue: DeviceQueue,
    pub interrupt: Arc<dyn Interrupt>,
    /// The host kernel if there is none.
    pub source: Option<File>,
    pub counters: Arc<IoCounters>,
    pub breakage: Breakage,
}

impl RngWorker {
    fn run(&mut self) {
        if self.breakage.is_broken() || !self.queue.queue.ready() {
            return;
        }
        let more = self.fill_batch();
        self.breakage.after_batch(more, Some(&self.queue), &*self.interrupt);
    }

    fn fill_batch(&mut self) -> Result<bool, RngError> {
        let Self { memory, queue, source, counters, .. } = self;
        let queue = &mut queue.queue;
        let mut handled = 0;
        while handled < BATCH {
            let Some(chain) = queue.iter(&**memory)?.next() else { break };
            let head = chain.head_index();
            let written = fill(chain.writable(), memory, source)?;
            queue.add_used(&**memory, head, written)?;
            counters.to_guest(written.into());
            handled += 1;
        }
        if handled > 0 && queue.needs_notification(&**memory)? {
            self.interrupt.trigger(Signal::Queue(self.queue.index));
        }
        Ok(handled == BATCH || self.queue.queue.enable_notification(&**memory)?)
    }
}

/// `getrandom(2)`, which may give less than was asked for.
struct Kernel;

impl Read for Kernel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(getrandom(bytes, GetRandomFlags::empty())?)
    }
}

fn fill(
    buffers: impl Iterator<Item = Descriptor>,
    ram: &GuestRam,
    source: &mut Option<File>,
) -> Result<u32, RngError> {
    let mut bytes = [0; MAX_FILL];
    let mut total = 0usize;
    for buffer in buffers {
        let room = MAX_FILL.saturating_sub(total).min(buffer.len() as usize);
        let Some(part) = bytes.get_mut(..room) else { break };
        match source {
            Some(file) => file.read_exact(part)?,
            None => Kernel.read_exact(part)?,
        }
        ram.write_slice(part, buffer.addr())?;
        total = total.saturating_add(room);
    }
    // At most MAX_FILL.
    Ok(total as u32)
}

impl MutEventSubscriber for RngWorker {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(e) = ops.add(Events::new(&*self.queue.event, EventSet::IN)) {
            log::error!("rng: cannot watch its queue: {e}");
        }
        self.run();
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = self.queue.event.read();
        self.run();
    }
}

impl QueueWorker for RngWorker {
    /// Every request is finished before `process` returns.
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}
