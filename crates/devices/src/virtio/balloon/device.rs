//! The device around the worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use purlin_snapshot::{DecodeError, Section, SectionId, Writer};
use purlin_vmm_core::memory::MemoryReclaim;
use virtio_queue::QueueT;

use super::feature;
use super::handle::{BalloonHandle, Shared};
use super::pages::PAGE;
use super::worker::BalloonWorker;
use crate::shell::{Breakage, LoopHandle, WorkerSlot};
use crate::virtio::device::section_kind::DEVICE_BASE;
use crate::virtio::{
    ActivateContext, ActivateError, Busy, DeviceType, ResetProgress, RestoreError, SaveError, VirtioDevice,
    restore_queues, save_queues,
};

/// Inflate, deflate, statistics, hints, reporting. Linux refuses a reporting queue of fewer than 32.
const QUEUE_SIZES: [u16; 5] = [256; 5];
const SECTION_KIND: u32 = DEVICE_BASE + DeviceType::Balloon as u32;
const SECTION_VERSION: u16 = 1;

/// Configuration of a balloon.
pub struct BalloonConfig {
    /// Who takes the memory back.
    pub reclaim: Arc<dyn MemoryReclaim>,
    /// What the guest is asked to give from its start on, in bytes. Default 0.
    pub target: u64,
    /// Lets a guest that runs out of memory take back what it gave before it kills a process. Without it the
    /// target is a limit. Default on.
    pub deflate_on_oom: bool,
}

impl BalloonConfig {
    /// An empty balloon.
    pub fn new(reclaim: Arc<dyn MemoryReclaim>) -> Self {
        BalloonConfig { reclaim, target: 0, deflate_on_oom: true }
    }
}

/// A memory balloon; runs on a loop it shares with other slow devices. See the [module](super).
pub struct Balloon {
    reclaim: Arc<dyn MemoryReclaim>,
    deflate_on_oom: bool,
    shared: Arc<Shared>,
    features: u64,
    breakage: Breakage,
    slot: WorkerSlot<BalloonWorker>,
}

impl Balloon {
    /// A balloon whose worker will run in the loop behind `handle`.
    ///
    /// # Errors
    ///
    /// The host refused an event descriptor.
    pub fn new(config: BalloonConfig, handle: LoopHandle) -> io::Result<Self> {
        let target = u32::try_from(config.target / PAGE).unwrap_or(u32::MAX);
        Ok(Balloon {
            reclaim: config.reclaim,
            deflate_on_oom: config.deflate_on_oom,
            shared: Arc::new(Shared::new(target)?),
            features: 0,
            breakage: Breakage::new(DeviceType::Balloon),
            slot: WorkerSlot::new(handle),
        })
    }

    /// For other threads: target, sizes and statistics.
    pub fn handle(&self) -> BalloonHandle {
        BalloonHandle(Arc::clone(&self.shared))
    }

    fn worker(&self, context: ActivateContext) -> Result<BalloonWorker, ActivateError> {
        let ActivateContext { memory, queues, interrupt, .. } = context;
        let (expected, found) = (QUEUE_SIZES.len(), queues.len());
        if expected != found {
            return Err(ActivateError::QueueCount { expected, found });
        }
        Ok(BalloonWorker {
            memory,
            reclaim: Arc::clone(&self.reclaim),
            queues,
            interrupt,
            shared: Arc::clone(&self.shared),
            features: self.features,
            // The driver reads it when it starts.
            told_target: self.shared.target.load(Ordering::Acquire),
            stats: None,
            breakage: self.breakage.of_worker(false),
        })
    }

    /// num_pages, actual, free_page_hint_cmd_id and poison_val (virtio 1.2 §5.5.4).
    fn space(&self) -> [u8; 16] {
        let words =
            [self.shared.target.load(Ordering::Acquire), self.shared.actual.load(Ordering::Acquire), 0, 0];
        let mut space = [0; 16];
        for (to, word) in space.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        space
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> DeviceType {
        DeviceType::Balloon
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        let oom = if self.deflate_on_oom { feature::DEFLATE_ON_OOM } else { 0 };
        feature::STATS_VQ | feature::FREE_PAGE_HINT | feature::REPORTING | oom
    }

    fn ack_features(&mut self, features: u64) {
        self.features = features;
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space = self.space();
        let rest = usize::try_from(offset).ok().and_then(|at| space.get(at..)).unwrap_or(&[]);
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        // Only `actual` is the driver's, and it writes it whole.
        if let (4, Ok(word)) = (offset, data.try_into()) {
            self.shared.actual.store(u32::from_le_bytes(word), Ordering::Release);
        }
    }

    fn config_generation(&self) -> u32 {
        self.shared.generation.load(Ordering::Acquire)
    }

    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        let worker = self.worker(context)?;
        self.slot.activate(worker)
    }

    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        self.slot.quiesce(DeviceType::Balloon, deadline)
    }

    fn save(&self) -> Result<Section, SaveError> {
        let worker = self.slot.to_save(DeviceType::Balloon)?;
        let mut w = Writer::new();
        w.u64(self.features);
        w.u32(self.shared.target.load(Ordering::Acquire));
        w.u32(self.shared.actual.load(Ordering::Acquire));
        w.u32(self.shared.generation.load(Ordering::Acquire));
        w.bool(worker.is_some());
        if let Some(worker) = worker {
            w.bool(worker.breakage.is_broken());
            w.u32(worker.told_target);
            w.bool(worker.stats.is_some());
            let (head, queue) = worker.stats.unwrap_or_default();
            w.u16(head);
            w.u16(queue);
            save_queues(&mut w, worker.queues.iter().map(|q| &q.queue));
        }
        let id = SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance: 0 };
        Ok(Section::new(id, w.into_bytes()))
    }

    fn restore(&mut self, section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError> {
        if !self.slot.is_empty() {
            return Err(RestoreError::NotFresh);
        }
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        let features = r.u64("features")?;
        let (target, actual) = (r.u32("balloon.target")?, r.u32("balloon.actual")?);
        let generation = r.u32("balloon.generation")?;
        let mut context = context;
        let mut worker = None;
        if r.bool("active")? {
            let breakage = self.breakage.of_worker(r.bool("failed")?);
            let told_target = r.u32("balloon.told_target")?;
            let has_stats = r.bool("balloon.has_stats")?;
            let stats = (r.u16("balloon.stats_head")?, r.u16("balloon.stats_queue")?);
            if usize::from(stats.1) >= QUEUE_SIZES.len() {
                return Err(DecodeError::Value { field: "balloon.stats_queue", value: stats.1.into() }.into());
            }
            restore_queues(&mut r, QUEUE_SIZES.len(), context.as_mut())?;
            if let Some(context) = context {
                let stats = has_stats.then_some(stats);
                worker =
                    Some(BalloonWorker { breakage, told_target, stats, features, ..self.worker(context)? });
            }
        }
        r.finish()?;
        self.features = features;
        self.shared.target.store(target, Ordering::Release);
        self.shared.actual.store(actual, Ordering::Release);
        self.shared.generation.store(generation, Ordering::Release);
        if let Some(worker) = worker {
            self.slot.put(worker);
        }
        Ok(())
    }

    fn resume(&mut self) {
        let Some(worker) = self.slot.parked() else { return };
        let interrupt = Arc::clone(&worker.interrupt);
        let queues: Vec<u16> = worker.queues.iter().filter(|q| q.queue.ready()).map(|q| q.index).collect();
        self.slot.resume(DeviceType::Balloon, &*interrupt, &queues);
    }

    /// The driver has its pages back, whatever it said; the target stays.
    fn reset(&mut self) -> ResetProgress {
        let progress = self.slot.park_for_reset();
        if progress == ResetProgress::Done {
            self.slot.clear();
            self.features = 0;
            self.shared.actual.store(0, Ordering::Release);
        }
        progress
    }
}
