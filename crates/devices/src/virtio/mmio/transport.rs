//! The shell around the register file: executes its actions on the device.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use purlin_snapshot::{Section, SectionId, Writer};
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::memory::{Register, RegisterPage, RegisterWindow, SharedRam, Window};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::interrupt::MmioInterrupt;
use super::registers::{Action, Read, Registers, ShmRegion, status};
use super::shown::Shown;
use crate::virtio::device::section_kind::MMIO_TRANSPORT;
use crate::virtio::{
    ActivateContext, ActivateError, Busy, DeviceQueue, Interrupt, IoCounts, ResetProgress, RestoreError,
    SaveError, VirtioDevice, build_queue,
};

const SECTION_VERSION: u16 = 1;

/// What the transport needs from the machine.
pub struct TransportConfig {
    /// Guest RAM.
    pub memory: SharedRam,
    /// The device's interrupt line.
    pub irq: Arc<dyn IrqLine>,
    /// The window answering [`VirtioDevice::shm_request`], with the region's id.
    pub shm: Option<(u8, Window)>,
}

/// One virtio device behind MMIO registers.
///
/// As a [`BusDevice`] it is called by vCPU threads under the bus's lock; queue notifications normally come
/// through the descriptors of [`MmioTransport::queue_events`] (registered as ioeventfds) instead.
pub struct MmioTransport<D: VirtioDevice> {
    device: D,
    registers: Registers,
    memory: SharedRam,
    interrupt: Arc<MmioInterrupt>,
    events: Vec<Arc<EventFd>>,
    shm: Option<Window>,
    shown: Shown,
    /// That it cannot be activated is in the log. A driver can try as often as it likes.
    told: bool,
}

impl VirtioDevice for Box<dyn VirtioDevice> {
    fn device_type(&self) -> crate::virtio::DeviceType {
        (**self).device_type()
    }
    fn queue_sizes(&self) -> &[u16] {
        (**self).queue_sizes()
    }
    fn features(&self) -> u64 {
        (**self).features()
    }
    fn ack_features(&mut self, features: u64) {
        (**self).ack_features(features);
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        (**self).read_config(offset, data);
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        (**self).write_config(offset, data);
    }
    fn config_generation(&self) -> u32 {
        (**self).config_generation()
    }
    fn config_is_constant(&self) -> bool {
        (**self).config_is_constant()
    }
    fn shm_request(&self) -> Option<(u8, u64)> {
        (**self).shm_request()
    }
    fn io_counts(&self) -> IoCounts {
        (**self).io_counts()
    }
    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError> {
        (**self).activate(context)
    }
    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        (**self).quiesce(deadline)
    }
    fn save(&self) -> Result<Section, SaveError> {
        (**self).save()
    }
    fn restore(&mut self, section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError> {
        (**self).restore(section, context)
    }
    fn resume(&mut self) {
        (**self).resume();
    }
    fn abort(&mut self) {
        (**self).abort();
    }
    fn reset(&mut self) -> ResetProgress {
        (**self).reset()
    }
}

impl<D: VirtioDevice> MmioTransport<D> {
    /// Puts `device` behind registers.
    ///
    /// # Errors
    ///
    /// The host refused an event descriptor.
    pub fn new(device: D, config: TransportConfig) -> std::io::Result<Self> {
        let TransportConfig { memory, irq, shm } = config;
        let region = shm.as_ref().map(|(id, w)| ShmRegion { id: *id, base: w.guest_addr().0, len: w.len() });
        let id = device.device_type() as u32;
        let registers = Registers::new(id, device.features(), device.queue_sizes(), region);
        let page = Arc::default();
        let events =
            device.queue_sizes().iter().map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new));
        Ok(MmioTransport {
            events: events.collect::<Result<_, _>>()?,
            device,
            registers,
            memory,
            interrupt: Arc::new(MmioInterrupt::new(irq, &page)),
            shown: Shown::new(page),
            shm: shm.map(|(_, window)| window),
            told: false,
        })
    }

    /// The descriptor notifications of each queue arrive on, in queue order.
    pub fn queue_events(&self) -> &[Arc<EventFd>] {
        &self.events
    }

    /// The interrupt's status. A hypervisor may take writes to [`INTERRUPT_ACK`](super::INTERRUPT_ACK) itself and clear the
    /// written bits here, also later, provided that [`IrqLine::settle`] of the transport's line makes it do so.
    pub fn interrupt_status(&self) -> &Register {
        self.interrupt.word()
    }

    /// The page of registers that [`MmioTransport::show_registers_in`] shows.
    pub fn register_page(&self) -> &Arc<RegisterPage> {
        self.shown.page()
    }

    /// Shows the driver the registers as memory, in `window`, so that reading one does not leave the guest. This is so while the
    /// device is active, if its configuration space never changes ([`VirtioDevice::config_is_constant`]). Registers then answer reads of any
    /// width, and acknowledgements that the hypervisor has kept for later ([`MmioTransport::interrupt_status`]) are not seen: not for a
    /// driver that reads InterruptStatus until it is empty. Before the driver is at work.
    pub fn show_registers_in(&mut self, window: Box<dyn RegisterWindow>) {
        if self.device.config_is_constant() {
            self.shown.set_window(window);
        }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Quiesces the device; see [`VirtioDevice::quiesce`].
    ///
    /// # Errors
    ///
    /// [`Busy`].
    pub fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        self.device.quiesce(deadline)
    }

    /// Transport and device state, as two sections with this instance number.
    ///
    /// # Errors
    ///
    /// [`SaveError`] of the device.
    pub fn save(&self, instance: u32) -> Result<[Section; 2], SaveError> {
        let mut w = Writer::new();
        self.registers.save(&mut w);
        w.u32(self.interrupt.status());
        w.bool(self.interrupt.reset_needed());
        let id = SectionId { kind: MMIO_TRANSPORT, version: SECTION_VERSION, instance };
        let mut device = self.device.save()?;
        device.id.instance = instance;
        Ok([Section::new(id, w.into_bytes()), device])
    }

    /// Restores what [`MmioTransport::save`] gave into a fresh transport; the device is then quiesced.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; the transport is then as before.
    pub fn restore(&mut self, sections: &[Section; 2]) -> Result<(), RestoreError> {
        if self.registers.status() != 0 {
            return Err(RestoreError::NotFresh);
        }
        let [transport, device] = sections;
        let mut r = transport.expect_kind(MMIO_TRANSPORT, SECTION_VERSION)?;
        let saved = Registers::load(&mut r)?;
        let interrupt_status = r.u32("interrupt_status")?;
        let needs_reset = r.bool("needs_reset")?;
        r.finish()?;

        let mut registers = self.registers.clone();
        registers.adopt(saved).map_err(|(field, saved, configured)| RestoreError::Mismatch {
            field,
            saved,
            configured,
        })?;
        let active = registers.is_active() && !needs_reset;
        let context = active.then(|| self.context(&registers)).transpose()?;
        if registers.status() & status::FEATURES_OK != 0 {
            self.device.ack_features(registers.driver_features());
        }
        if let Err(e) = self.device.restore(device, context) {
            // What it was told of has not happened.
            self.device.ack_features(self.registers.driver_features());
            return Err(e);
        }
        self.registers = registers;
        self.interrupt.restore(interrupt_status, needs_reset);
        self.show();
        Ok(())
    }

    /// Ends rest; see [`VirtioDevice::resume`].
    pub fn resume(&mut self) {
        self.device.resume();
    }

    /// Ends rest after a failed snapshot; see [`VirtioDevice::abort`].
    pub fn abort(&mut self) {
        self.device.abort();
    }

    fn context(&self, registers: &Registers) -> Result<ActivateContext, ActivateError> {
        let event_idx = registers.driver_features() & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let mut queues = Vec::new();
        for ((index, (max, setup)), event) in (0u16..).zip(registers.queue_setups()).zip(&self.events) {
            let queue = build_queue(setup, max, event_idx, &self.memory)
                .map_err(|source| ActivateError::Queue { index, source })?;
            queues.push(DeviceQueue { index, queue, event: event.clone() });
        }
        Ok(ActivateContext {
            memory: self.memory.clone(),
            queues,
            interrupt: self.interrupt.clone(),
            shm: self.shm.clone(),
        })
    }

    fn activate(&mut self) {
        let outcome = self.context(&self.registers).and_then(|context| self.device.activate(context));
        if let Err(e) = outcome {
            if !std::mem::replace(&mut self.told, true) {
                log::error!("{:?} cannot be activated: {e}", self.device.device_type());
            }
            self.interrupt.needs_reset();
        }
        self.show();
    }

    /// Shows the registers of an active device, if there is a window for them.
    fn show(&mut self) {
        if self.registers.is_active() && self.shown.is_possible() {
            self.put_registers();
            self.shown.put_config(|data| self.device.read_config(0, data));
            self.shown.show();
        }
    }

    /// What reads give, into the page.
    fn put_registers(&self) {
        for (offset, word) in self.shown.registers() {
            match self.registers.read(offset, size_of::<u32>()) {
                Read::Value(value) => word.store(value, Ordering::Release),
                Read::Status(value) => self.interrupt.put_device_status(value),
                Read::ConfigGeneration => word.store(self.device.config_generation(), Ordering::Release),
                // The first is in the page already; the others are not the register file's.
                Read::InterruptStatus | Read::Config(_) | Read::Nothing => {}
            }
        }
    }

    fn reset(&mut self) {
        if self.device.reset() == ResetProgress::Done {
            for event in &self.events {
                // A notification from before the reset must not reach the next driver's queues.
                let _ = event.read();
            }
            self.interrupt.restore(0, false);
            self.registers.reset_done();
        }
    }
}

impl<D: VirtioDevice> BusDevice for MmioTransport<D> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if self.registers.is_resetting() {
            self.reset();
        }
        data.fill(0);
        let value = match self.registers.read(offset, data.len()) {
            Read::Value(v) => v,
            Read::Status(v) => v | if self.interrupt.reset_needed() { status::NEEDS_RESET } else { 0 },
            Read::InterruptStatus => self.interrupt.status(),
            Read::ConfigGeneration => self.device.config_generation(),
            Read::Config(at) => return self.device.read_config(at, data),
            Read::Nothing => return,
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if self.registers.is_resetting() {
            self.reset();
        }
        match self.registers.write(offset, data) {
            Action::None => {}
            Action::AckFeatures(features) => self.device.ack_features(features),
            // What it shows is complete.
            Action::Activate => return self.activate(),
            Action::Reset => {
                // Reads drive a reset that is pending.
                self.shown.hide();
                self.reset();
            }
            Action::Notify(queue) => {
                if let Some(event) = self.events.get(usize::from(queue)) {
                    // Fails only when the counter is full, which is a pending notification.
                    let _ = event.write(1);
                }
            }
            Action::AckInterrupt(bits) => self.interrupt.acknowledge(bits),
            Action::WriteConfig(at) => self.device.write_config(at, data),
        }
        if self.shown.is_shown() {
            self.put_registers();
        }
    }
}
