//! The device: configuration space, life, saved state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use purlin_snapshot::{Section, SectionId, Writer};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::config::{ConsoleConfig, ConsoleError, MAX_PORTS, PortConfig, PortInput, PortOutput};
use super::control::Control;
use super::handle::{ConsoleHandle, Shared};
use super::io::{FdEnd, HostInput, HostOutput};
use super::lines::LineSplitter;
use super::order::Registration;
use super::port::{Port, PortRole, PortSpec};
use super::protocol::{MAX_NAME_LEN, ResizeOrder};
use super::state::{self, PortProgress};
use super::worker::{Ends, PortWork, Retired, Worker};
use super::{F_MULTIPORT, F_SIZE, QUEUE_SIZE};
use crate::shell::{Breakage, LoopHandle, WorkerSlot};
use crate::virtio::{
    ActivateContext, ActivateError, Busy, DeviceType, IoCounts, ResetProgress, RestoreError, SaveError,
    VirtioDevice, restore_queues, save_queues, section_kind,
};

const SECTION_KIND: u32 = section_kind::DEVICE_BASE + DeviceType::Console as u32;
const SECTION_VERSION: u16 = 1;

/// How long dropping the device waits for its worker.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// A virtio console with several ports. See the [module](super).
pub struct Console {
    specs: Vec<PortSpec>,
    queue_sizes: Vec<u16>,
    resize_order: ResizeOrder,
    multiport: bool,
    shared: Arc<Shared>,
    after: Option<Arc<Registration>>,
    breakage: Breakage,
    /// Here while there is no worker.
    ends: Option<Vec<Ends>>,
    slot: WorkerSlot<Worker>,
}

impl Console {
    /// A console whose worker will run in the loop behind `handle`.
    ///
    /// # Errors
    ///
    /// [`ConsoleError`] names the port.
    pub fn new(config: ConsoleConfig, handle: LoopHandle) -> Result<Self, ConsoleError> {
        let count = config.ports.len();
        if count == 0 || count > MAX_PORTS {
            return Err(ConsoleError::Ports(count));
        }
        let host = |port, what| move |source| ConsoleError::Host { port, what, source };
        let shared = Arc::new(Shared::new(count).map_err(host(0, "event descriptor"))?);
        let (mut specs, mut ends) = (Vec::new(), Vec::new());
        for (index, port) in config.ports.into_iter().enumerate() {
            let len = port.name.len();
            if len > MAX_NAME_LEN || port.name.contains('\0') {
                return Err(ConsoleError::Name { port: index, len });
            }
            if let (Some(size), Some(shared)) = (port.size, shared.ports.get(index)) {
                shared.set_size(size);
            }
            specs.push(PortSpec { role: port.role, name: port.name.clone() });
            ends.push(open_ends(port).map_err(host(index, "descriptor"))?);
        }
        Ok(Console {
            specs,
            queue_sizes: vec![QUEUE_SIZE; 2 + 2 * count],
            resize_order: config.resize_order,
            multiport: false,
            shared,
            after: None,
            breakage: Breakage::new(DeviceType::Console),
            ends: Some(ends),
            slot: WorkerSlot::new(handle),
        })
    }

    /// Announces this console's ports to the driver when it has registered the terminals of `other`, if that one has a driver.
    /// Linux numbers terminals in the order in which they come up.
    ///
    /// A driver that never registers those (by PORT_OPEN) does not hear of these ports. Takes effect with the next
    /// activation.
    pub fn follow(&mut self, other: &ConsoleHandle) {
        other.0.registration.add_follower(&self.shared.wake);
        self.after = Some(other.0.registration.clone());
    }

    /// For other threads: sizes and counters.
    pub fn handle(&self) -> ConsoleHandle {
        ConsoleHandle(self.shared.clone())
    }

    /// Writes out what the guest printed before it ended.
    ///
    /// To be called when the virtual CPUs have stopped for good. The device is quiesced afterwards. Returns
    /// how many bytes no reader took before `deadline`; they are lost when the device is dropped.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the loop did not give the worker back before `deadline`.
    pub fn flush(&mut self, deadline: Instant) -> Result<u64, Busy> {
        self.quiesce(deadline)?;
        Ok(self.parked().map_or(0, |worker| worker.flush(deadline)))
    }

    fn fresh_control(&self, ends: &[Ends]) -> Control {
        let ports = self.specs.iter().zip(&self.shared.ports).zip(ends).map(|((spec, shared), ends)| {
            let mut port = Port::new(spec.clone(), is_connected(spec, ends), shared.size());
            if ends.to_remove() {
                port.remove();
            }
            port
        });
        Control::new(ports.collect(), self.multiport)
    }

    /// A worker from a context, not started. The ends move into it.
    fn make_worker(&mut self, context: ActivateContext) -> Result<Worker, ActivateError> {
        if !self.slot.is_empty() {
            return Err(ActivateError::AlreadyActive);
        }
        let (expected, found) = (self.queue_sizes.len(), context.queues.len());
        if expected != found {
            return Err(ActivateError::QueueCount { expected, found });
        }
        let lost = || std::io::Error::other("its host ends were lost with the loop");
        let ends = self.ends.take().ok_or_else(|| ActivateError::Host { what: "console", source: lost() })?;
        Ok(Worker {
            memory: context.memory,
            interrupt: context.interrupt,
            queues: context.queues,
            control: self.fresh_control(&ends),
            work: ends.iter().map(|_| PortWork::default()).collect(),
            ends,
            shared: self.shared.clone(),
            after: self.after.clone(),
            resize_order: self.resize_order,
            announce: false,
            breakage: self.breakage.of_worker(false),
            retired: Retired::default(),
        })
    }

    /// Activation, up to starting the worker.
    pub(super) fn place(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        let worker = self.make_worker(context)?;
        self.slot.put(worker);
        Ok(())
    }

    /// The worker, while it does not run.
    pub(super) fn parked(&mut self) -> Option<&mut Worker> {
        self.slot.parked_mut()
    }

    /// Takes the ends back from a parked worker and drops it.
    fn take_ends(&mut self) {
        if let Some(worker) = self.slot.parked_mut() {
            self.ends = Some(std::mem::take(&mut worker.ends));
            self.slot.clear();
            self.shared.registration.set(false);
        }
    }

    /// Goes on counting where the saved device stopped; the size may have changed meanwhile.
    fn set_generation(&self, saved: u32) {
        self.shared.generation.store(saved.wrapping_add(1), Ordering::Release);
    }

    fn config_space(&self) -> [u8; 12] {
        let size = self.shared.ports.first().and_then(|p| p.size()).unwrap_or_default();
        let ports = u32::try_from(self.specs.len()).unwrap_or(u32::MAX);
        let mut space = [0; 12];
        let fields = size.cols.to_le_bytes().into_iter().chain(size.rows.to_le_bytes());
        for (to, from) in space.iter_mut().zip(fields.chain(ports.to_le_bytes())) {
            *to = from;
        }
        space
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The loop may live on, and must not keep the host's descriptors open.
        let _ = self.slot.park(Instant::now() + DROP_WAIT);
    }
}

impl VirtioDevice for Console {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        F_SIZE | F_MULTIPORT | 1 << VIRTIO_RING_F_EVENT_IDX
    }

    fn ack_features(&mut self, features: u64) {
        self.multiport = features & F_MULTIPORT != 0;
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let Ok(offset) = usize::try_from(offset) else { return };
        for (to, from) in data.iter_mut().zip(self.config_space().iter().skip(offset)) {
            *to = *from;
        }
    }

    /// Nothing is writable: `emerg_wr` belongs to a feature that is not offered, and is ignored.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn io_counts(&self) -> IoCounts {
        self.shared.io_counts()
    }

    fn config_generation(&self) -> u32 {
        self.shared.generation.load(Ordering::Acquire)
    }

    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        self.place(context)?;
        self.slot.start().map_err(|source| ActivateError::Host { what: "device loop", source })
    }

    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        self.slot.quiesce(DeviceType::Console, deadline)
    }

    fn save(&self) -> Result<Section, SaveError> {
        let mut w = Writer::new();
        state::save_identity(&mut w, &self.specs);
        w.u32(self.config_generation());
        match self.slot.to_save(DeviceType::Console)? {
            // One that needs a reset has nothing to go on with.
            Some(worker) if !worker.breakage.is_broken() => {
                w.bool(true);
                state::save_control(&mut w, &worker.control);
                state::save_progress(&mut w, worker.progress());
                save_queues(&mut w, worker.queues.iter().map(|q| &q.queue));
            }
            _ => w.bool(false),
        }
        let id = SectionId { kind: SECTION_KIND, version: SECTION_VERSION, instance: 0 };
        Ok(Section::new(id, w.into_bytes()))
    }

    fn restore(&mut self, section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError> {
        if !self.slot.is_empty() {
            return Err(RestoreError::NotFresh);
        }
        let mut context = context;
        let mut control = self.fresh_control(self.ends.as_deref().unwrap_or_default());
        let mut r = section.expect_kind(SECTION_KIND, SECTION_VERSION)?;
        state::check_identity(&mut r, &self.specs)?;
        let generation = r.u32("config_generation")?;
        let active = r.bool("active")?;
        if active != context.is_some() {
            return Err(RestoreError::Mismatch {
                field: "active",
                saved: active.to_string(),
                configured: context.is_some().to_string(),
            });
        }
        if !active {
            r.finish()?;
            self.set_generation(generation);
            return Ok(());
        }
        state::load_control(&mut r, &mut control)?;
        let progress = state::load_progress(&mut r, control.ports.len())?;
        restore_queues(&mut r, self.queue_sizes.len(), context.as_mut())?;
        r.finish()?;

        let Some(context) = context else { return Err(RestoreError::NotFresh) };
        let mut worker = self.make_worker(context)?;
        worker.control = control;
        worker.put_progress(progress);
        worker.share_sizes();
        self.slot.put(worker);
        self.set_generation(generation);
        Ok(())
    }

    fn resume(&mut self) {
        if let Some(worker) = self.slot.parked_mut() {
            worker.announce = true;
        }
        if let Err(e) = self.slot.start() {
            log::error!("console cannot resume: {e}");
        }
    }

    fn reset(&mut self) -> ResetProgress {
        if !self.slot.is_empty() {
            if self.slot.park_for_reset() == ResetProgress::Pending {
                return ResetProgress::Pending;
            }
            self.take_ends();
        }
        self.multiport = false;
        ResetProgress::Done
    }
}

impl Worker {
    fn progress(&self) -> impl Iterator<Item = PortProgress> {
        self.work.iter().zip(&self.ends).map(|(work, ends)| PortProgress {
            tx_done: u32::try_from(work.tx_done).unwrap_or(u32::MAX),
            line: ends.output.partial_line().to_vec(),
        })
    }

    fn put_progress(&mut self, progress: Vec<PortProgress>) {
        for ((work, ends), saved) in self.work.iter_mut().zip(&mut self.ends).zip(progress) {
            work.tx_done = saved.tx_done as usize;
            ends.output.set_partial_line(&saved.line);
        }
    }

    /// Sizes that came with the saved state become what the configuration space shows.
    fn share_sizes(&self) {
        for (port, shared) in self.control.ports.iter().zip(&self.shared.ports) {
            if let Some(size) = port.size {
                shared.set_size(size);
            }
        }
    }
}

/// Whether the guest is told that the host end is connected. A console always is.
fn is_connected(spec: &PortSpec, ends: &Ends) -> bool {
    // The end of the input disconnects a port; one that never had an input is connected by its output.
    spec.role == PortRole::Console || !ends.input_ended
}

fn open_ends(port: PortConfig) -> std::io::Result<Ends> {
    let input = match port.input {
        None => None,
        Some(PortInput::Fd(fd)) => Some(HostInput::Fd(FdEnd::new(fd)?)),
        Some(PortInput::Injector(source)) => Some(HostInput::Interrupts(source.0)),
    };
    let output = match port.output {
        None => HostOutput::Nowhere,
        Some(PortOutput::Fd(fd)) => HostOutput::Fd(FdEnd::new(fd)?),
        Some(PortOutput::Lines(sink)) => HostOutput::Lines(sink, LineSplitter::default()),
    };
    Ok(Ends { input, output, when_broken: port.when_broken, input_ended: false })
}
