//! The virtio device around the worker.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use purlin_devices::shell::{Breakage, EventLoop, OnFailure, WorkerSlot};
use purlin_devices::virtio::section_kind::DEVICE_BASE;
use purlin_devices::virtio::{
    ActivateContext, ActivateError, Busy, DeviceType, IoCounters, IoCounts, ResetProgress, RestoreError,
    SaveError, VirtioDevice, restore_queues, save_queues,
};
use purlin_egress::Policy;
use purlin_snapshot::{Section, SectionId, Writer};
use rustix::process::{Resource, getrlimit};
use thiserror::Error;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;

use super::egress::{EgressHandle, Shared};
use super::events::{EventRing, ResetNews};
use super::gate::Gate;
use super::host::Host;
use super::rx::RxRing;
use super::sockets::Sockets;
use super::state;
use super::tx::TxRing;
use super::worker::{POLICY_TOKEN, VsockWorker};
use crate::config::{ConfigError, Dial, MuxerConfig};
use crate::muxer::Muxer;
use crate::wire::UnixAddr;

/// To the guest, from the guest, events.
const QUEUE_SIZES: [u16; 3] = [256, 256, 256];
const SECTION_KIND: u32 = DEVICE_BASE + DeviceType::Vsock as u32;
/// 2: answers the guest has not taken.
const SECTION_VERSION: u16 = 2;
/// VIRTIO_VSOCK_F_DGRAM of libkrunfw's kernel: datagrams, which TSI needs.
const F_DGRAM: u64 = 1 << 3;
/// Listeners named one by one that could not be opened again.
const LOST_LOGGED: usize = 8;
/// Descriptors left to the rest of the process.
const FD_RESERVE: u64 = 128;

/// What the device is made of.
pub struct VsockConfig {
    /// Sockets and ports. `ask_policy` and `first_port` are set by the device, and `limits.sockets` is
    /// lowered to what the process may open.
    pub muxer: MuxerConfig,
    /// Decides what may leave. Default: everything. [`Vsock::egress`] replaces it while the device runs.
    pub egress: Policy,
}

impl VsockConfig {
    /// These sockets and ports, and nothing is forbidden.
    pub fn new(muxer: MuxerConfig) -> Self {
        VsockConfig { muxer, egress: Policy::unrestricted() }
    }
}

/// A device cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VsockError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mapped port cannot be listened on.
    #[error("vsock port {port}: cannot listen on {path}: {source}")]
    Listen {
        /// The port.
        port: u32,
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host refused a descriptor or a thread.
    #[error("vsock: {0}")]
    Host(#[from] io::Error),
}

/// A virtio-vsock device with its own thread.
pub struct Vsock {
    cid: u64,
    features: u64,
    counters: Arc<IoCounters>,
    egress: EgressHandle,
    /// The host side, while no driver is there.
    host: Option<Box<Host>>,
    breakage: Breakage,
    // The slot goes before the loop it sends to.
    pub(super) slot: WorkerSlot<VsockWorker>,
    thread: EventLoop,
}

impl Vsock {
    /// Opens the listeners of mapped ports and starts the device's thread. Clients may connect at once; the
    /// guest gets their connections when its driver is there.
    ///
    /// # Errors
    ///
    /// [`VsockError`]: everything that can be wrong with the configuration is found here.
    pub fn new(config: VsockConfig) -> Result<Self, VsockError> {
        let VsockConfig { mut muxer, egress } = config;
        muxer.ask_policy = true;
        muxer.first_port = random();
        muxer.limits.sockets = muxer.limits.sockets.min(spare_descriptors());
        let cid = muxer.cid;
        let ports = muxer.unix_ports.clone();
        let shared = Arc::new(Shared::new(egress.clone())?);
        let gate = Gate::new(egress, Arc::clone(&shared));
        let mut host = Box::new(Host::new(Muxer::new(muxer)?, Sockets::new()?, gate));
        host.sockets.watch(shared.wake_fd(), POLICY_TOKEN)?;
        host.act(Instant::now());
        // Listeners are opened in the order of the ports.
        if let Some((socket, error)) = host.refused.pop_front() {
            let mut listening = ports.iter().filter(|p| p.dial == Dial::Host);
            let entry = listening.nth(socket.slot() as usize);
            let (port, path) = entry.map_or((0, PathBuf::new()), |p| (p.port, path_of(&p.path)));
            return Err(VsockError::Listen { port, path, source: io::Error::from_raw_os_error(error) });
        }
        let thread = EventLoop::spawn_for_one("purlin-vsock")?;
        let slot = WorkerSlot::new(thread.handle());
        Ok(Vsock {
            cid,
            features: 0,
            counters: Arc::default(),
            egress: EgressHandle::new(shared),
            host: Some(host),
            breakage: Breakage::new(DeviceType::Vsock),
            slot,
            thread,
        })
    }

    /// Sets who hears that the device's thread failed.
    pub fn on_failure(&self, hook: OnFailure) {
        self.thread.on_failure(hook);
    }

    /// The policy, for whoever replaces it or reads what it decided.
    pub fn egress(&self) -> EgressHandle {
        self.egress.clone()
    }

    /// Makes a worker of a driver's queues and the host side, which is given back if that fails.
    fn worker(&mut self, context: ActivateContext) -> Result<VsockWorker, ActivateError> {
        let ActivateContext { memory, queues, interrupt, .. } = context;
        let (expected, found) = (QUEUE_SIZES.len(), queues.len());
        let Ok([rx, tx, events]) = <[_; 3]>::try_from(queues) else {
            return Err(ActivateError::QueueCount { expected, found });
        };
        let counters = || self.counters.clone();
        let rings = (
            RxRing::new(rx, counters()),
            TxRing::new(tx, counters()),
            EventRing { queue: events, news: ResetNews::None },
        );
        let host = self.host.take().ok_or(ActivateError::AlreadyActive)?;
        VsockWorker::new(memory, interrupt, rings, host, self.breakage.of_worker(false)).map_err(
            |(host, source)| {
                self.host = Some(host);
                ActivateError::Host { what: "deadline timer", source }
            },
        )
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> DeviceType {
        DeviceType::Vsock
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        F_DGRAM | 1 << VIRTIO_RING_F_EVENT_IDX
    }

    fn ack_features(&mut self, features: u64) {
        self.features = features;
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space = self.cid.to_le_bytes();
        let rest = usize::try_from(offset).ok().and_then(|at| space.get(at..)).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn config_is_constant(&self) -> bool {
        true
    }

    fn io_counts(&self) -> IoCounts {
        self.counters.get()
    }

    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        if !self.slot.is_empty() {
            return Err(ActivateError::AlreadyActive);
        }
        let mut worker = self.worker(context)?;
        if let Some(host) = &mut worker.host {
            host.muxer.start();
        }
        self.slot.activate(worker)
    }

    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        self.slot.quiesce(DeviceType::Vsock, deadline)
    }

    fn save(&self) -> Result<Section, SaveError> {
        let worker = self.slot.to_save(DeviceType::Vsock)?;
        let mut w = Writer::new();
        w.u64(self.cid);
        w.u64(self.features);
        w.bool(worker.is_some());
        if let Some(worker) = worker {
            w.bool(worker.breakage.is_broken());
            if let Some(host) = &worker.host {
                state::save(&mut w, &host.muxer.save());
            }
            let queues = [&worker.rx.queue, &worker.tx.queue, &worker.events.queue];
            save_queues(&mut w, queues.into_iter().map(|q| &q.queue));
        }
        let id = SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance: 0 };
        Ok(Section::new(id, w.into_bytes()))
    }

    fn restore(&mut self, section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError> {
        if !self.slot.is_empty() {
            return Err(RestoreError::NotFresh);
        }
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        let cid = r.u64("cid")?;
        if cid != self.cid {
            let (saved, configured) = (cid.to_string(), self.cid.to_string());
            return Err(RestoreError::Mismatch { field: "cid", saved, configured });
        }
        let features = r.u64("features")?;
        let mut context = context;
        let mut saved = None;
        if r.bool("active")? {
            let failed = r.bool("failed")?;
            let state = state::load(&mut r, section.id.version)?;
            restore_queues(&mut r, QUEUE_SIZES.len(), context.as_mut())?;
            saved = Some((failed, state));
        }
        r.finish()?;
        if let (Some((failed, state)), Some(context)) = (saved, context) {
            let mut worker = self.worker(context)?;
            if let Some(host) = &mut worker.host {
                let refuse = |e: crate::StateError| RestoreError::Mismatch {
                    field: "sockets",
                    saved: e.to_string(),
                    configured: "none".to_owned(),
                };
                if let Err(e) = host.muxer.restore(&state) {
                    self.host = worker.take_host();
                    return Err(refuse(e));
                }
                host.act(Instant::now());
                // Saved state may hold any number of them.
                for addr in host.muxer.lost_listeners().take(LOST_LOGGED) {
                    log::warn!("vsock: the guest's listener on {addr:?} could not be opened again");
                }
                let more = host.muxer.lost_listeners().count().saturating_sub(LOST_LOGGED);
                if more > 0 {
                    log::warn!("vsock: {more} more listeners could not be opened again");
                }
            }
            worker.breakage = self.breakage.of_worker(failed);
            worker.events.news = ResetNews::Due;
            self.slot.put(worker);
        }
        self.features = features;
        Ok(())
    }

    fn resume(&mut self) {
        let Some(worker) = self.slot.parked() else { return };
        let interrupt = Arc::clone(&worker.interrupt);
        let queues = [&worker.rx.queue, &worker.tx.queue, &worker.events.queue];
        let ready: Vec<u16> = queues.into_iter().filter(|q| q.queue.ready()).map(|q| q.index).collect();
        self.slot.resume(DeviceType::Vsock, &*interrupt, &ready);
    }

    fn reset(&mut self) -> ResetProgress {
        let progress = self.slot.park_for_reset();
        if progress == ResetProgress::Done {
            if let Some(mut host) = self.slot.parked_mut().and_then(VsockWorker::take_host) {
                host.reset(Instant::now());
                self.host = Some(host);
            }
            self.slot.clear();
            self.features = 0;
        }
        progress
    }
}

/// Anything a guest of an earlier run does not know.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// How many sockets the process may open.
fn spare_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let spare = limit.saturating_sub(FD_RESERVE).max(limit / 2);
    usize::try_from(spare).unwrap_or(usize::MAX)
}

fn path_of(name: &UnixAddr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(name.path().unwrap_or_default()).into()
}
