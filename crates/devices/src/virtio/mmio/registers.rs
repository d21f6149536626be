//! The register file (virtio 1.2 §4.2.2) as a pure machine.

use purlin_snapshot::{DecodeError, Reader, Writer};

use crate::virtio::QueueSetup;

/// Device status bits (virtio 1.2 §2.1).
pub mod status {
    /// The driver found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is set up.
    pub const DRIVER_OK: u32 = 4;
    /// Feature negotiation is complete.
    pub const FEATURES_OK: u32 = 8;
    /// The device cannot go on without a reset.
    pub const NEEDS_RESET: u32 = 0x40;
    /// The driver gave up.
    pub const FAILED: u32 = 0x80;
}

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = 0;
/// VIRTIO_F_VERSION_1 (virtio 1.2 §6).
pub(super) const F_VERSION_1: u64 = 1 << 32;
/// Offsets of registers that others than the register file keep.
pub(super) const INTERRUPT_STATUS: u64 = 0x60;
pub(super) const STATUS: u64 = 0x70;
pub(super) const CONFIG_SPACE: u64 = 0x100;

/// A shared memory region of the device, as the driver finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShmRegion {
    /// Region id.
    pub id: u8,
    /// First guest-physical address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

/// What a register write asks for. The caller executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nothing outside the register file.
    None,
    /// Hand these features to the device: FEATURES_OK was set.
    AckFeatures(u64),
    /// Activate the device: DRIVER_OK was set.
    Activate,
    /// Reset the device: 0 was written. When it is done, call [`Registers::reset_done`].
    Reset,
    /// Queue notification.
    Notify(u16),
    /// InterruptACK with these bits.
    AckInterrupt(u32),
    /// Write the configuration space at this offset.
    WriteConfig(u64),
}

/// Where the answer to a register read comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// This value.
    Value(u32),
    /// The device status: this, plus NEEDS_RESET if the device asked for it.
    Status(u32),
    /// The interrupt status word.
    InterruptStatus,
    /// The device's configuration generation.
    ConfigGeneration,
    /// The device's configuration space at this offset.
    Config(u64),
    /// A width or offset no register has: zeros.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct QueueRegs {
    max: u16,
    setup: QueueSetup,
}

/// The register file of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    device_id: u32,
    device_features: u64,
    shm: Option<ShmRegion>,
    queues: Vec<QueueRegs>,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    shm_sel: u32,
    status: u32,
    resetting: bool,
}

impl Registers {
    /// A device in its initial state. VERSION_1 is added to `features`.
    pub fn new(device_id: u32, features: u64, queue_sizes: &[u16], shm: Option<ShmRegion>) -> Self {
        let queues = queue_sizes.iter().map(|&max| QueueRegs { max, setup: QueueSetup::default() });
        Registers {
            device_id,
            device_features: features | F_VERSION_1,
            shm,
            queues: queues.collect(),
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            shm_sel: 0,
            status: 0,
            resetting: false,
        }
    }

    /// Status bits set by the driver.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// True from DRIVER_OK until reset.
    pub fn is_active(&self) -> bool {
        self.status & status::DRIVER_OK != 0
    }

    /// Features the driver accepted so far.
    pub fn driver_features(&self) -> u64 {
        self.driver_features
    }

    pub(super) fn queue_setups(&self) -> impl ExactSizeIterator<Item = (u16, &QueueSetup)> {
        self.queues.iter().map(|q| (q.max, &q.setup))
    }

    /// Reads `len` bytes at `offset` from the start of the device's range.
    ///
    /// Registers below 0x100 answer aligned 32-bit reads only (virtio 1.2 §4.2.2.2); the configuration
    /// space answers any.
    pub fn read(&self, offset: u64, len: usize) -> Read {
        if let Some(config) = offset.checked_sub(CONFIG_SPACE) {
            return Read::Config(config);
        }
        if len != 4 {
            return Read::Nothing;
        }
        let queue = self.selected_queue();
        Read::Value(match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => self.device_id,
            0x0c => VENDOR,
            0x10 => page(self.device_features, self.device_features_sel),
            0x34 => queue.map_or(0, |q| u32::from(q.max)),
            0x44 => queue.map_or(0, |q| u32::from(q.setup.ready)),
            INTERRUPT_STATUS => return Read::InterruptStatus,
            STATUS => return Read::Status(self.status),
            0xb0 => self.shm_word(|r| r.len, 0),
            0xb4 => self.shm_word(|r| r.len, 32),
            0xb8 => self.shm_word(|r| r.base, 0),
            0xbc => self.shm_word(|r| r.base, 32),
            0xfc => return Read::ConfigGeneration,
            _ => return Read::Nothing,
        })
    }

    /// Writes `data` at `offset`; see [`Registers::read`] for widths. Anything else is ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        if self.resetting {
            // The driver must wait for status 0; until then nothing may reach the device.
            return Action::None;
        }
        if let Some(config) = offset.checked_sub(CONFIG_SPACE) {
            return Action::WriteConfig(config);
        }
        let Ok(bytes) = <[u8; 4]>::try_from(data) else { return Action::None };
        let value = u32::from_le_bytes(bytes);
        match offset {
            0x14 => self.device_features_sel = value,
            0x20 => self.write_driver_features(value),
            0x24 => self.driver_features_sel = value,
            0x30 => self.queue_sel = value,
            0x50 => return self.notify(value),
            0x64 => return Action::AckInterrupt(value),
            STATUS => return self.write_status(value),
            0xac => self.shm_sel = value,
            _ => self.write_queue(offset, value),
        }
        Action::None
    }

    /// Everything back to the initial state; the driver reads status 0 from now on.
    pub fn reset_done(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|q| q.max).collect();
        *self = Registers::new(self.device_id, self.device_features, &sizes, self.shm);
    }

    /// True between [`Action::Reset`] and [`Registers::reset_done`].
    pub fn is_resetting(&self) -> bool {
        self.resetting
    }

    fn selected_queue(&self) -> Option<&QueueRegs> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    /// Ids 0 and 1 both name the one region: Linux asks for 0, older guests of libkrun for 1.
    fn shm_word(&self, field: impl Fn(&ShmRegion) -> u64, shift: u32) -> u32 {
        let word = match &self.shm {
            Some(region) if self.shm_sel <= 1 => field(region),
            _ => u64::MAX,
        };
        (word >> shift) as u32
    }

    fn negotiating(&self) -> bool {
        self.status & (status::DRIVER | status::FEATURES_OK) == status::DRIVER
    }

    fn write_driver_features(&mut self, value: u32) {
        if !self.negotiating() {
            return;
        }
        let value = u64::from(value);
        match self.driver_features_sel {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    fn notify(&self, queue: u32) -> Action {
        match u16::try_from(queue) {
            Ok(q) if self.is_active() && usize::from(q) < self.queues.len() => Action::Notify(q),
            _ => Action::None,
        }
    }

    /// Queue registers may be written between FEATURES_OK and DRIVER_OK, and only while the queue is not
    /// ready (virtio 1.2 §4.2.3.2).
    fn write_queue(&mut self, offset: u64, value: u32) {
        let configuring = self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::FEATURES_OK;
        let Ok(index) = usize::try_from(self.queue_sel) else { return };
        let Some(QueueRegs { setup: q, .. }) = self.queues.get_mut(index).filter(|_| configuring) else {
            return;
        };
        if offset == 0x44 {
            q.ready = value & 1 == 1;
            return;
        }
        if q.ready {
            return;
        }
        match offset {
            // A size that does not fit becomes 0, which activation refuses.
            0x38 => q.size = u16::try_from(value).unwrap_or(0),
            0x80 => set_low(&mut q.desc, value),
            0x84 => set_high(&mut q.desc, value),
            0x90 => set_low(&mut q.avail, value),
            0x94 => set_high(&mut q.avail, value),
            0xa0 => set_low(&mut q.used, value),
            0xa4 => set_high(&mut q.used, value),
            _ => {}
        }
    }

    /// The driver adds bits in the order of virtio 1.2 §3.1.1; it cannot clear one except by writing 0.
    fn write_status(&mut self, value: u32) -> Action {
        use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK};
        if value == 0 {
            self.resetting = true;
            return Action::Reset;
        }
        if value & FAILED != 0 {
            self.status |= FAILED;
            return Action::None;
        }
        // NEEDS_RESET is the device's: a driver that writes back what it read does not set it.
        let value = value & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        let added = value & !self.status;
        if self.status & !value & !FAILED != 0 {
            return Action::None;
        }
        let (needed, action) = match added {
            ACKNOWLEDGE => (0, Action::None),
            DRIVER => (ACKNOWLEDGE, Action::None),
            FEATURES_OK => {
                let unknown = self.driver_features & !self.device_features;
                if unknown != 0 || self.driver_features & F_VERSION_1 == 0 {
                    // Refused: the driver reads the bit back as 0 (virtio 1.2 §2.2.2).
                    return Action::None;
                }
                (DRIVER, Action::AckFeatures(self.driver_features))
            }
            DRIVER_OK => (FEATURES_OK, Action::Activate),
            _ => return Action::None,
        };
        if self.status & needed != needed || self.status & FAILED != 0 {
            return Action::None;
        }
        self.status |= added;
        action
    }

    /// Appends everything the driver wrote, and the offers for comparison.
    pub(super) fn save(&self, w: &mut Writer) {
        w.u32(self.device_id);
        w.u64(self.device_features);
        w.u64(self.driver_features);
        for word in [self.device_features_sel, self.driver_features_sel, self.queue_sel, self.shm_sel] {
            w.u32(word);
        }
        w.u32(self.status);
        w.bool(self.resetting);
        w.u32(u32::try_from(self.queues.len()).unwrap_or(u32::MAX));
        for QueueRegs { max, setup } in &self.queues {
            w.u16(*max);
            w.u16(setup.size);
            w.bool(setup.ready);
            w.u64(setup.desc);
            w.u64(setup.avail);
            w.u64(setup.used);
        }
    }

    /// Reads what [`Registers::save`] wrote, into a register file with the offers and shared memory of the
    /// machine it came from; the caller compares those.
    pub(super) fn load(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let device_id = r.u32("device_id")?;
        let device_features = r.u64("device_features")?;
        let driver_features = r.u64("driver_features")?;
        let device_features_sel = r.u32("device_features_sel")?;
        let driver_features_sel = r.u32("driver_features_sel")?;
        let queue_sel = r.u32("queue_sel")?;
        let shm_sel = r.u32("shm_sel")?;
        let status = r.u32("status")?;
        let resetting = r.bool("resetting")?;
        let mut queues = Vec::new();
        for _ in 0..r.count("queues", 1024)? {
            queues.push(QueueRegs {
                max: r.u16("queue.max")?,
                setup: QueueSetup {
                    size: r.u16("queue.size")?,
                    ready: r.bool("queue.ready")?,
                    desc: r.u64("queue.desc")?,
                    avail: r.u64("queue.avail")?,
                    used: r.u64("queue.used")?,
                },
            });
        }
        Ok(Registers {
            device_id,
            device_features,
            shm: None,
            queues,
            device_features_sel,
            driver_features_sel,
            driver_features,
            queue_sel,
            shm_sel,
            status,
            resetting,
        })
    }

    /// Takes over the driver's state from `saved` if the offers are the same (a subset of features is
    /// enough: what the driver accepted must still be offered). Names the first difference.
    pub(super) fn adopt(&mut self, saved: Registers) -> Result<(), (&'static str, String, String)> {
        let differs = |field, saved: String, ours: String| Err((field, saved, ours));
        if saved.device_id != self.device_id {
            return differs("device id", saved.device_id.to_string(), self.device_id.to_string());
        }
        if saved.driver_features & !self.device_features != 0 {
            let (s, o) = (saved.driver_features, self.device_features);
            return differs("features", format!("{s:#x}"), format!("{o:#x}"));
        }
        let maxima = |r: &Registers| r.queues.iter().map(|q| q.max).collect::<Vec<_>>();
        if maxima(&saved) != maxima(self) {
            return differs("queue sizes", format!("{:?}", maxima(&saved)), format!("{:?}", maxima(self)));
        }
        *self = Registers { device_features: self.device_features, shm: self.shm, ..saved };
        Ok(())
    }
}

fn page(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn set_low(word: &mut u64, value: u32) {
    *word = *word & !0xffff_ffff | u64::from(value);
}

fn set_high(word: &mut u64, value: u32) {
    *word = *word & 0xffff_ffff | u64::from(value) << 32;
}
