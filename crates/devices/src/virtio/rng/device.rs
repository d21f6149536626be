//! The device around the worker.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use purlin_snapshot::{Section, SectionId, Writer};
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::worker::RngWorker;
use crate::shell::{Breakage, LoopHandle, WorkerSlot};
use crate::virtio::device::section_kind::DEVICE_BASE;
use crate::virtio::{
    ActivateContext, ActivateError, Busy, DeviceType, IoCounters, IoCounts, ResetProgress, RestoreError,
    SaveError, VirtioDevice, restore_queues, save_queues,
};

const QUEUE_SIZES: [u16; 1] = [256];
const SECTION_KIND: u32 = DEVICE_BASE + DeviceType::Rng as u32;
const SECTION_VERSION: u16 = 1;

/// The entropy device; runs on a loop it shares with other slow devices.
pub struct Rng {
    /// The host kernel if there is none.
    source: Option<File>,
    features: u64,
    breakage: Breakage,
    counters: Arc<IoCounters>,
    slot: WorkerSlot<RngWorker>,
}

impl Rng {
    /// Random bytes from the host kernel (`getrandom(2)`, which needs no device file).
    ///
    /// # Errors
    ///
    /// The host has none.
    pub fn new(handle: LoopHandle) -> io::Result<Self> {
        getrandom(&mut [0; 1], GetRandomFlags::empty())?;
        Ok(Self::made(handle, None))
    }

    /// Bytes from a file of the caller's choice. A source that ends stops the device.
    pub fn with_source(handle: LoopHandle, source: File) -> Self {
        Self::made(handle, Some(source))
    }

    fn made(handle: LoopHandle, source: Option<File>) -> Self {
        Rng {
            source,
            features: 0,
            counters: Arc::default(),
            breakage: Breakage::new(DeviceType::Rng),
            slot: WorkerSlot::new(handle),
        }
    }

    fn worker(&self, context: ActivateContext) -> Result<RngWorker, ActivateError> {
        let ActivateContext { memory, queues, interrupt, .. } = context;
        let found = queues.len();
        let [queue] = <[_; 1]>::try_from(queues)
            .map_err(|_| ActivateError::QueueCount { expected: QUEUE_SIZES.len(), found })?;
        let source = self
            .source
            .as_ref()
            .map(File::try_clone)
            .transpose()
            .map_err(|source| ActivateError::Host { what: "random source", source })?;
        let counters = self.counters.clone();
        let breakage = self.breakage.of_worker(false);
        Ok(RngWorker { memory, queue, interrupt, source, counters, breakage })
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX
    }

    fn ack_features(&mut self, features: u64) {
        self.features = features;
    }

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn config_is_constant(&self) -> bool {
        true
    }

    fn io_counts(&self) -> IoCounts {
        self.counters.get()
    }

    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        let worker = self.worker(context)?;
        self.slot.activate(worker)
    }

    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        self.slot.quiesce(DeviceType::Rng, deadline)
    }

    fn save(&self) -> Result<Section, SaveError> {
        let worker = self.slot.to_save(DeviceType::Rng)?;
        let mut w = Writer::new();
        w.u64(self.features);
        w.bool(worker.is_some());
        if let Some(worker) = worker {
            w.bool(worker.breakage.is_broken());
            save_queues(&mut w, std::iter::once(&worker.queue.queue));
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
        let mut context = context;
        let mut worker = None;
        if r.bool("active")? {
            let breakage = self.breakage.of_worker(r.bool("failed")?);
            restore_queues(&mut r, QUEUE_SIZES.len(), context.as_mut())?;
            if let Some(context) = context {
                worker = Some(RngWorker { breakage, ..self.worker(context)? });
            }
        }
        r.finish()?;
        self.features = features;
        if let Some(worker) = worker {
            self.slot.put(worker);
        }
        Ok(())
    }

    fn resume(&mut self) {
        let Some(worker) = self.slot.parked() else { return };
        let (interrupt, index) = (Arc::clone(&worker.interrupt), worker.queue.index);
        self.slot.resume(DeviceType::Rng, &*interrupt, &[index]);
    }

    fn reset(&mut self) -> ResetProgress {
        let progress = self.slot.park_for_reset();
        if progress == ResetProgress::Done {
            self.slot.clear();
            self.features = 0;
        }
        progress
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
