//! Devices on their MMIO slots, and what is done to all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use purlin_devices::legacy::serial::{Serial, SerialBusy};
use purlin_devices::legacy::{AcpiPower, I8042};
use purlin_devices::virtio::mmio::{INTERRUPT_ACK, MMIO_LEN, MmioTransport, QUEUE_NOTIFY, TransportConfig};
use purlin_devices::virtio::{Busy, DeviceType, IoCounts, SaveError, VirtioDevice};
use purlin_snapshot::Section;
use purlin_vmm_core::irq::IrqAllocator;
use purlin_vmm_core::kvm::{Buses, KvmVm};
use purlin_vmm_core::memory::layout::{FIRST_DEVICE_IRQ, LAST_DEVICE_IRQ, ShmWindows, mmio_slot};
use purlin_vmm_core::memory::{MemoryLayout, SharedRam, Window};

use super::BuildError;
use super::devices::DeviceTable;
use crate::config::Kernel;
use crate::vm::DeviceStats;

/// Linux claims this line for the CMOS clock and does not share it; a device there that is probed later fails.
const RTC_IRQ: u32 = 8;

/// What the machine does to a device it otherwise knows nothing of.
pub(super) trait Stoppable: Send {
    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy>;
    fn save(&self, instance: u32) -> Result<Vec<Section>, SaveError>;
    fn resume(&mut self);
    fn abort(&mut self);
    /// Bytes through it; `None` if it is no virtio device.
    fn io_counts(&self) -> Option<IoCounts>;
}

impl<D: VirtioDevice> Stoppable for MmioTransport<D> {
    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        MmioTransport::quiesce(self, deadline)
    }
    fn save(&self, instance: u32) -> Result<Vec<Section>, SaveError> {
        Ok(MmioTransport::save(self, instance)?.into())
    }
    fn resume(&mut self) {
        MmioTransport::resume(self);
    }
    fn abort(&mut self) {
        MmioTransport::abort(self);
    }
    fn io_counts(&self) -> Option<IoCounts> {
        Some(self.device().io_counts())
    }
}

impl Stoppable for Serial {
    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy> {
        let busy = |e: SerialBusy| Busy { device: DeviceType::Console, reason: e.to_string() };
        Serial::quiesce(self, deadline).map_err(busy)
    }
    fn save(&self, instance: u32) -> Result<Vec<Section>, SaveError> {
        Ok(vec![Serial::save(self, instance)])
    }
    fn resume(&mut self) {
        Serial::resume(self);
    }
    fn abort(&mut self) {
        Serial::resume(self);
    }
    fn io_counts(&self) -> Option<IoCounts> {
        None
    }
}

/// Nothing of it moves by itself.
impl Stoppable for I8042 {
    fn quiesce(&mut self, _: Instant) -> Result<(), Busy> {
        Ok(())
    }
    fn save(&self, instance: u32) -> Result<Vec<Section>, SaveError> {
        Ok(vec![I8042::save(self, instance)])
    }
    fn resume(&mut self) {}
    fn abort(&mut self) {}
    fn io_counts(&self) -> Option<IoCounts> {
        None
    }
}

/// Nothing of it moves by itself.
impl Stoppable for AcpiPower {
    fn quiesce(&mut self, _: Instant) -> Result<(), Busy> {
        Ok(())
    }
    fn save(&self, instance: u32) -> Result<Vec<Section>, SaveError> {
        Ok(vec![AcpiPower::save(self, instance)])
    }
    fn resume(&mut self) {}
    fn abort(&mut self) {}
    fn io_counts(&self) -> Option<IoCounts> {
        None
    }
}

/// A device the machine keeps typed access to.
pub(crate) type Attached<D> = Arc<Mutex<MmioTransport<D>>>;

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the guest reads registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// By exits.
    Exits,
    /// From memory, where a device can be shown so. An acknowledgement may be seen late there, so this is for a driver that reads
    /// InterruptStatus once per interrupt, as Linux does (drivers/virtio/virtio_mmio.c), and not until it is empty.
    Memory,
}

impl Reads {
    /// For what is known of a kernel's driver.
    pub fn by(kernel: &Kernel) -> Self {
        match kernel {
            Kernel::Libkrunfw | Kernel::Bundle(_) => Reads::Memory,
            _ => Reads::Exits,
        }
    }
}

/// All virtio devices of a machine, in slot order.
pub(crate) struct Slots {
    ram: SharedRam,
    devices: Vec<Arc<Mutex<dyn Stoppable>>>,
    table: DeviceTable,
    places: Vec<(u64, u32)>,
    words: Vec<(usize, &'static str)>,
    irqs: IrqAllocator,
    layout: MemoryLayout,
    reads: Reads,
    /// Known when the first is asked for.
    windows: Option<ShmWindows>,
    buses: Buses,
}

impl Slots {
    /// For devices on `ram`, which lies as `layout` says.
    pub fn new(ram: SharedRam, layout: MemoryLayout, reads: Reads) -> Self {
        Slots {
            ram,
            devices: Vec::new(),
            table: DeviceTable::default(),
            places: Vec::new(),
            words: Vec::new(),
            irqs: IrqAllocator::new(FIRST_DEVICE_IRQ, LAST_DEVICE_IRQ),
            layout,
            reads,
            windows: None,
            buses: Buses::default(),
        }
    }

    /// Puts a device into the next slot: registers, interrupt line and its acknowledgement, one notification per queue.
    pub fn attach<D: VirtioDevice + 'static>(
        &mut self,
        vm: &KvmVm,
        device: D,
    ) -> Result<Attached<D>, BuildError> {
        self.attach_as(vm, None, device)
    }

    /// As [`Slots::attach`], under a name of its own among the devices of its type.
    pub fn attach_as<D: VirtioDevice + 'static>(
        &mut self,
        vm: &KvmVm,
        id: Option<&str>,
        device: D,
    ) -> Result<Attached<D>, BuildError> {
        let number = self.places.len() as u32;
        // All but the clock's.
        let limit = LAST_DEVICE_IRQ - FIRST_DEVICE_IRQ;
        let too_many = BuildError::TooManyDevices { devices: number + 1, limit };
        let irq = self.irqs.allocate().filter(|&irq| irq != RTC_IRQ).or_else(|| self.irqs.allocate());
        let (Some(irq), Some(base)) = (irq, mmio_slot(number)) else { return Err(too_many) };
        let shm = self.window(vm, &device)?;
        let config = TransportConfig { memory: self.ram.clone(), irq: vm.irq_line(irq), shm };
        let mut transport =
            MmioTransport::new(device, config).map_err(BuildError::host("queue descriptor"))?;
        for (queue, event) in (0u32..).zip(transport.queue_events()) {
            vm.notify_on_write(event, base + QUEUE_NOTIFY, queue)?;
        }
        vm.clear_on_write(transport.interrupt_status(), base + INTERRUPT_ACK)?;
        if self.reads == Reads::Memory
            && let Some(window) = vm.register_window(transport.register_page(), base)
        {
            transport.show_registers_in(window);
        }
        let transport = Arc::new(Mutex::new(transport));
        self.buses.mmio.insert(base, MMIO_LEN, transport.clone())?;
        self.devices.push(transport.clone());
        self.table.add(id, (base, irq), &transport);
        self.places.push((base, irq));
        Ok(transport)
    }

    /// The shared memory window a device wants, if it does, behind RAM and earlier windows.
    fn window<D: VirtioDevice>(
        &mut self,
        vm: &KvmVm,
        device: &D,
    ) -> Result<Option<(u8, Window)>, BuildError> {
        let Some((id, len)) = device.shm_request() else { return Ok(None) };
        let windows = match &mut self.windows {
            Some(windows) => windows,
            none => none.insert(self.layout.windows(vm.address_bits()?)),
        };
        let range = windows.allocate(len).map_err(crate::ConfigError::from)?;
        let window = Window::reserve(range).map_err(BuildError::host("address space for a window"))?;
        vm.add_window(window.clone())?;
        Ok(Some((id, window)))
    }

    /// Adds a device without a slot to what is quiesced, saved and resumed.
    pub(super) fn add_legacy<D: Stoppable + 'static>(&mut self, device: Arc<Mutex<D>>) {
        self.devices.push(device);
    }

    /// The devices as the owner sees them.
    pub fn table(&self) -> &DeviceTable {
        &self.table
    }

    /// Bytes through each device so far.
    pub fn stats(&self) -> Vec<DeviceStats> {
        let counts = self.devices.iter().filter_map(|device| lock(device).io_counts());
        let both = self.table.infos().zip(counts);
        both.map(|(info, bytes)| DeviceStats::new(info.clone(), bytes)).collect()
    }

    /// Address and interrupt of each slot.
    pub fn places(&self) -> &[(u64, u32)] {
        &self.places
    }

    /// Puts words on the guest's command line, behind the device attached last.
    pub fn add_words(&mut self, words: &[&'static str]) {
        let devices = self.places.len();
        self.words.extend(words.iter().map(|&word| (devices, word)));
    }

    /// Words, each with the number of devices before it.
    pub fn words(&self) -> &[(usize, &'static str)] {
        &self.words
    }

    /// The buses, complete but for legacy devices.
    pub fn take_buses(&mut self) -> Buses {
        std::mem::take(&mut self.buses)
    }

    /// Quiesces every device, or none: if one is busy, the others run on.
    ///
    /// Last attached first: a device that feeds others comes later than those it needs.
    pub fn quiesce(&self, deadline: Instant) -> Result<(), Busy> {
        for (done, device) in self.devices.iter().rev().enumerate() {
            if let Err(busy) = lock(device).quiesce(deadline) {
                for device in self.devices.iter().rev().take(done) {
                    lock(device).abort();
                }
                return Err(busy);
            }
        }
        Ok(())
    }

    /// State of every device; all must be quiesced.
    pub fn save(&self) -> Result<Vec<Section>, SaveError> {
        let mut sections = Vec::new();
        for (instance, device) in (0u32..).zip(&self.devices) {
            sections.extend(lock(device).save(instance)?);
        }
        Ok(sections)
    }

    /// Lets every device run again.
    pub fn resume(&self) {
        for device in &self.devices {
            lock(device).resume();
        }
    }
}
