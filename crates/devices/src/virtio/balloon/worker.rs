//! Serves the queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestRam, MemoryReclaim, SharedRam};
use thiserror::Error;
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vmm_sys_util::epoll::EventSet;

use super::handle::Shared;
use super::pages::{numbers, runs};
use super::stats::{GuestMemoryStats, MAX_BYTES};
use super::{Role, role};
use crate::shell::{Breakage, QueueWorker};
use crate::virtio::{DeviceQueue, Interrupt, Signal};

/// Chains handled per wake-up, so that a guest that keeps offering does not hold the shared loop.
const BATCH: usize = 32;
/// Most bytes of page numbers looked at in one buffer. Linux sends 1 KiB.
const MAX_ARRAY: usize = 16 << 10;
/// Descriptors looked at in one chain: the queue's size.
const MAX_DESCRIPTORS: usize = 256;
/// What the event of the shared wake-up carries; queues carry their numbers.
const WAKE: u32 = u32::MAX;

/// What a guest can do wrong with its rings.
#[derive(Debug, Error)]
pub(super) enum RingError {
    #[error("ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    #[error("head {head} in a ring of {size}")]
    Head { head: u16, size: u16 },
}

/// Owns the queues while the device is active.
pub(super) struct BalloonWorker {
    pub memory: SharedRam,
    pub reclaim: Arc<dyn MemoryReclaim>,
    pub queues: Vec<DeviceQueue>,
    pub interrupt: Arc<dyn Interrupt>,
    pub shared: Arc<Shared>,
    pub features: u64,
    /// The target the driver was last interrupted for.
    pub told_target: u32,
    /// The driver's statistics buffer: head and queue.
    pub stats: Option<(u16, u16)>,
    pub breakage: Breakage,
}

impl BalloonWorker {
    pub(super) fn run(&mut self, index: usize) {
        if self.breakage.is_broken() {
            return;
        }
        let more = self.batch(index);
        self.breakage.after_batch(more, self.queues.get(index), &*self.interrupt);
    }

    /// Handles up to [`BATCH`] buffers of one queue; true if more may be waiting.
    fn batch(&mut self, index: usize) -> Result<bool, RingError> {
        let role = role(self.features, index);
        let memory = Arc::clone(&self.memory);
        let ram = &*memory;
        let mut handled = 0;
        let mut returned = false;
        while handled < BATCH {
            let Some(DeviceQueue { queue, .. }) = self.queues.get_mut(index) else { return Ok(false) };
            if !queue.ready() {
                return Ok(false);
            }
            let Some(chain) = queue.iter(ram)?.next() else { break };
            let (head, size) = (chain.head_index(), queue.size());
            if head >= size {
                return Err(RingError::Head { head, size });
            }
            handled += 1;
            match self.serve(role, ram, chain) {
                Outcome::Return => {
                    self.give_back(index, head)?;
                    returned = true;
                }
                Outcome::Keep => {
                    // One is enough; a driver that offers another has the older one back.
                    if let Some((older, _)) = self.stats.replace((head, index as u16)) {
                        self.give_back(index, older)?;
                        returned = true;
                    }
                }
            }
        }
        if returned {
            self.interrupt(index)?;
        }
        if role == Role::Stats && self.return_stats()? {
            self.interrupt(index)?;
        }
        let Some(DeviceQueue { queue, .. }) = self.queues.get_mut(index) else { return Ok(false) };
        Ok(handled == BATCH || queue.enable_notification(ram)?)
    }

    fn give_back(&mut self, index: usize, head: u16) -> Result<(), RingError> {
        if let Some(DeviceQueue { queue, .. }) = self.queues.get_mut(index) {
            queue.add_used(&*self.memory, head, 0)?;
        }
        Ok(())
    }

    fn interrupt(&mut self, index: usize) -> Result<(), RingError> {
        let Some(DeviceQueue { queue, index, .. }) = self.queues.get_mut(index) else { return Ok(()) };
        if queue.needs_notification(&*self.memory)? {
            self.interrupt.trigger(Signal::Queue(*index));
        }
        Ok(())
    }

    fn serve(&mut self, role: Role, ram: &GuestRam, chain: DescriptorChain<&GuestRam>) -> Outcome {
        match role {
            Role::Inflate => self.inflate(ram, chain),
            Role::Reporting => {
                for buffer in chain.take(MAX_DESCRIPTORS) {
                    let given = self.give(buffer.addr(), u64::from(buffer.len()));
                    self.shared.reported.fetch_add(given, Ordering::Relaxed);
                }
            }
            Role::Stats => {
                let mut bytes = [0; MAX_BYTES];
                let len = read(ram, chain, &mut bytes);
                // Before the news: who asks from here on gets newer ones.
                self.shared.stats_wanted.store(false, Ordering::Release);
                self.shared.tell(GuestMemoryStats::parse(bytes.get(..len).unwrap_or(&[])));
                return Outcome::Keep;
            }
            Role::Deflate | Role::Hint | Role::Unused => {}
        }
        Outcome::Return
    }

    fn inflate(&mut self, ram: &GuestRam, chain: DescriptorChain<&GuestRam>) {
        let mut bytes = vec![0; MAX_ARRAY];
        let len = read(ram, chain, &mut bytes);
        let mut pages: Vec<u32> = numbers(bytes.get(..len).unwrap_or(&[])).collect();
        let mut given = 0u64;
        runs(&mut pages, |start, len| given = given.saturating_add(self.give(GuestAddress(start), len)));
        self.shared.inflated.fetch_add(given, Ordering::Relaxed);
    }

    fn give(&self, start: GuestAddress, len: u64) -> u64 {
        self.reclaim.reclaim(start, len).unwrap_or_else(|e| {
            // Counted, and told once: a guest can repeat it at will.
            if self.shared.refused.fetch_add(1, Ordering::Relaxed) == 0 {
                log::warn!("balloon: {e}; more of this is only counted");
            }
            0
        })
    }

    /// Gives the statistics buffer back if somebody waits for new ones; the driver then fills it again.
    fn return_stats(&mut self) -> Result<bool, RingError> {
        if !self.shared.stats_wanted.load(Ordering::Acquire) {
            return Ok(false);
        }
        let Some((head, queue)) = self.stats.take() else { return Ok(false) };
        self.give_back(queue.into(), head)?;
        Ok(true)
    }

    /// Does what other threads asked for.
    pub(super) fn look(&mut self) {
        if self.breakage.is_broken() {
            return;
        }
        let target = self.shared.target.load(Ordering::Acquire);
        if target != self.told_target {
            self.told_target = target;
            self.interrupt.trigger(Signal::Config);
        }
        let queue = self.stats.map(|(_, queue)| usize::from(queue));
        let returned = self.return_stats().and_then(|returned| match queue {
            Some(index) if returned => self.interrupt(index),
            _ => Ok(()),
        });
        if let Err(e) = returned {
            self.breakage.report(&e, &*self.interrupt);
        }
    }
}

enum Outcome {
    Return,
    Keep,
}

/// Copies the readable part of a chain, as far as it is in RAM and fits; returns its length.
fn read(ram: &GuestRam, chain: DescriptorChain<&GuestRam>, to: &mut [u8]) -> usize {
    let mut filled = 0;
    for buffer in chain.readable().take(MAX_DESCRIPTORS) {
        let room = to.get_mut(filled..).unwrap_or(&mut []);
        let len = room.len().min(buffer.len() as usize);
        let Some(part) = room.get_mut(..len) else { break };
        if ram.read_slice(part, buffer.addr()).is_err() {
            break;
        }
        filled += len;
    }
    filled
}

impl MutEventSubscriber for BalloonWorker {
    fn init(&mut self, ops: &mut EventOps) {
        let wake = Events::with_data(&self.shared.wake, WAKE, EventSet::IN);
        let queues = (0u32..).zip(&self.queues).filter(|(_, q)| q.queue.ready());
        let events = queues.map(|(index, q)| Events::with_data(&*q.event, index, EventSet::IN));
        let watched: Result<Vec<()>, _> = events.chain([wake]).map(|events| ops.add(events)).collect();
        if let Err(e) = watched {
            self.breakage.report(&format_args!("cannot watch its queues: {e}"), &*self.interrupt);
        }
        for index in 0..self.queues.len() {
            self.run(index);
        }
        self.look();
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        if events.data() == WAKE {
            let _ = self.shared.wake.read();
            return self.look();
        }
        let index = events.data() as usize;
        if let Some(queue) = self.queues.get(index) {
            let _ = queue.event.read();
        }
        self.run(index);
    }
}

impl QueueWorker for BalloonWorker {
    /// Every buffer is finished before `process` returns; the statistics buffer is saved.
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}
