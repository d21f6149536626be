//! The device around the worker.

use std::sync::Arc;
use std::time::Instant;

use purlin_snapshot::{Section, SectionId, Writer};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::config::{FsConfig, FsConfigError, TAG_MAX};
use super::exchange::Scratch;
use super::poll::Poll;
use super::server::{Dax, FileServer, Share};
use super::state::{load_session, payload, save_session};
use super::worker::{FsWorker, InFlight, WAITING_THREADS};
use crate::shell::{Breakage, EventLoop, OnFailure, Pool, WorkerSlot};
use crate::virtio::device::section_kind::DEVICE_BASE;
use crate::virtio::{
    ActivateContext, ActivateError, Busy, DeviceType, IoCounters, IoCounts, ResetProgress, RestoreError,
    SaveError, VirtioDevice, restore_queues, save_queues,
};

/// hiprio and one request queue.
const QUEUE_SIZES: [u16; 2] = [1024, 1024];
const SECTION_KIND: u32 = DEVICE_BASE + DeviceType::Fs as u32;
const SECTION_VERSION: u16 = 1;

/// A virtio-fs device (virtio 1.2 §5.11) with its own thread.
pub struct Fs {
    share: Arc<Share>,
    config: [u8; TAG_MAX + 4],
    features: u64,
    breakage: Breakage,
    dax_window: u64,
    counters: Arc<IoCounters>,
    // The slot goes before the loop it sends to.
    slot: WorkerSlot<FsWorker>,
    waiting: Arc<Pool>,
    thread: EventLoop,
}

impl Fs {
    /// Opens the share and starts the device's thread.
    ///
    /// # Errors
    ///
    /// [`FsConfigError`]: everything that can be wrong with the configuration is found here.
    pub fn new(config: FsConfig) -> Result<Self, FsConfigError> {
        let dax_window = config.dax_window;
        let share = Share::new(config)?;
        let mut space = [0; TAG_MAX + 4];
        for (to, from) in space.iter_mut().zip(share.tag.bytes()) {
            *to = from;
        }
        if let Some(number) = space.get_mut(TAG_MAX..) {
            // num_request_queues, little endian.
            number.copy_from_slice(&1u32.to_le_bytes());
        }
        let thread = EventLoop::spawn("purlin-fs")
            .map_err(|source| FsConfigError::Thread { tag: share.tag.clone(), source })?;
        let slot = WorkerSlot::new(thread.handle());
        let waiting = Arc::new(Pool::new("purlin-fs-wait", WAITING_THREADS));
        Ok(Fs {
            share,
            config: space,
            features: 0,
            dax_window,
            counters: Arc::default(),
            breakage: Breakage::new(DeviceType::Fs),
            slot,
            waiting,
            thread,
        })
    }

    /// Sets who hears that one of the device's threads failed.
    pub fn on_failure(&self, hook: OnFailure) {
        self.waiting.on_failure(Arc::clone(&hook));
        self.thread.on_failure(hook);
    }

    /// The tag the guest mounts.
    pub fn tag(&self) -> &str {
        &self.share.tag
    }

    fn worker(&self, context: ActivateContext, server: FileServer) -> Result<FsWorker, ActivateError> {
        let ActivateContext { memory, queues, interrupt, .. } = context;
        let (expected, found) = (QUEUE_SIZES.len(), queues.len());
        if found != expected {
            return Err(ActivateError::QueueCount { expected, found });
        }
        let (scratch, counters) = (Scratch::default(), self.counters.clone());
        let in_flight = InFlight::new(Arc::clone(&self.waiting))
            .map_err(|source| ActivateError::Host { what: "event descriptor", source })?;
        let (poll, breakage) = (Poll::default(), self.breakage.of_worker(false));
        Ok(FsWorker { memory, queues, interrupt, server, scratch, counters, in_flight, poll, breakage })
    }
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> DeviceType {
        DeviceType::Fs
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

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let rest = usize::try_from(offset).ok().and_then(|at| self.config.get(at..)).unwrap_or(&[]);
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn config_is_constant(&self) -> bool {
        true
    }

    fn shm_request(&self) -> Option<(u8, u64)> {
        // The cache of virtio 1.2 §5.11.6.4 has id 0.
        (self.dax_window > 0).then_some((0, self.dax_window))
    }

    fn io_counts(&self) -> IoCounts {
        self.counters.get()
    }

    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        let mut server = FileServer::new(Arc::clone(&self.share));
        server.dax = context.shm.clone().map(Dax::new);
        let worker = self.worker(context, server)?;
        self.slot.activate(worker)
    }

    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        self.slot.quiesce(DeviceType::Fs, deadline)
    }

    fn save(&self) -> Result<Section, SaveError> {
        let worker = self.slot.to_save(DeviceType::Fs)?;
        let mut w = Writer::new();
        w.str(&self.share.tag);
        w.u64(self.features);
        w.bool(worker.is_some());
        if let Some(worker) = worker {
            let broken = worker.breakage.is_broken();
            w.bool(broken);
            save_queues(&mut w, worker.queues.iter().map(|q| &q.queue));
            save_session(&mut w, &worker.server, !broken)?;
        }
        let id = SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance: 0 };
        Ok(Section::new(id, payload(w)?))
    }

    fn restore(&mut self, section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError> {
        if !self.slot.is_empty() {
            return Err(RestoreError::NotFresh);
        }
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        let tag = r.str("tag", TAG_MAX as u32)?;
        if tag != self.share.tag {
            let (saved, configured) = (tag.to_owned(), self.share.tag.clone());
            return Err(RestoreError::Mismatch { field: "tag", saved, configured });
        }
        let features = r.u64("features")?;
        let mut context = context;
        let mut worker = None;
        if r.bool("active")? {
            let broken = r.bool("failed")?;
            let breakage = self.breakage.of_worker(broken);
            restore_queues(&mut r, QUEUE_SIZES.len(), context.as_mut())?;
            let window = context.as_ref().and_then(|context| context.shm.clone());
            // Without a context the device waits for a reset, and no session goes on.
            let shown = context.is_some() && !broken;
            let server = load_session(&mut r, &self.share, window, shown)?;
            if let Some(context) = context {
                worker = Some(FsWorker { breakage, ..self.worker(context, server)? });
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
        let interrupt = Arc::clone(&worker.interrupt);
        let queues: Vec<u16> = worker.queues.iter().map(|q| q.index).collect();
        self.slot.resume(DeviceType::Fs, &*interrupt, &queues);
    }

    fn reset(&mut self) -> ResetProgress {
        let progress = self.slot.park_for_reset();
        if progress == ResetProgress::Done {
            // The session of the guest ends with its worker.
            self.slot.clear();
            self.features = 0;
        }
        progress
    }
}
