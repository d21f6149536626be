//! The machine's virtio devices as its owner sees them: what there is, and a look at one of them.
//!
//! An owner's references are weak, so that nothing of a machine outlives it.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, Weak};

use purlin_devices::virtio::mmio::MmioTransport;
use purlin_devices::virtio::{DeviceType, VirtioDevice};

use super::slots::lock;

/// A virtio device of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What it is.
    pub device_type: DeviceType,
    /// Its name among the devices of its type: the tag of a share, otherwise a number from 0 in the order of
    /// the configuration.
    pub id: String,
    /// Guest-physical address of its registers.
    pub address: u64,
    /// Its interrupt line.
    pub interrupt: u32,
}

/// The devices of a machine.
#[derive(Clone, Default)]
pub(crate) struct DeviceTable(Vec<Entry>);

#[derive(Clone)]
struct Entry {
    info: DeviceInfo,
    device: Weak<dyn Any + Send + Sync>,
}

impl DeviceTable {
    /// Adds a device; `id` or, without one, the number of those of its type there are.
    pub fn add<D: VirtioDevice + 'static>(
        &mut self,
        id: Option<&str>,
        (address, interrupt): (u64, u32),
        device: &Arc<Mutex<MmioTransport<D>>>,
    ) {
        let device_type = lock(device).device().device_type();
        let number = || self.0.iter().filter(|e| e.info.device_type == device_type).count().to_string();
        let id = id.map_or_else(number, str::to_owned);
        let info = DeviceInfo { device_type, id, address, interrupt };
        let device: Weak<Mutex<MmioTransport<D>>> = Arc::downgrade(device);
        self.0.push(Entry { info, device });
    }

    pub fn infos(&self) -> impl Iterator<Item = &DeviceInfo> {
        self.0.iter().map(|entry| &entry.info)
    }

    /// The first device of Rust type `D` with this name, as long as the machine is there.
    pub fn find<D: VirtioDevice + 'static>(&self, id: &str) -> Option<DeviceRef<D>> {
        let is_it = |entry: &&Entry| entry.info.id == id && typed::<D>(&entry.device).is_some();
        let Entry { info, device } = self.0.iter().find(is_it)?.clone();
        Some(DeviceRef { info, device, of: PhantomData })
    }
}

fn typed<D: VirtioDevice + 'static>(
    device: &Weak<dyn Any + Send + Sync>,
) -> Option<Arc<Mutex<MmioTransport<D>>>> {
    device.upgrade()?.downcast().ok()
}

/// One device of a machine, from [`Vm::device`](crate::Vm::device). Does not keep the machine.
pub struct DeviceRef<D> {
    info: DeviceInfo,
    device: Weak<dyn Any + Send + Sync>,
    of: PhantomData<fn() -> D>,
}

impl<D: VirtioDevice + 'static> DeviceRef<D> {
    /// What and where it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Calls `look` with the device; `None` if the machine is gone. The guest's accesses to the device's
    /// registers wait meanwhile, so `look` takes out what it needs (a handle, a number) and returns.
    pub fn with<R>(&self, look: impl FnOnce(&D) -> R) -> Option<R> {
        let device = typed::<D>(&self.device)?;
        let answer = look(lock(&device).device());
        Some(answer)
    }
}

impl<D> Clone for DeviceRef<D> {
    fn clone(&self) -> Self {
        DeviceRef { info: self.info.clone(), device: self.device.clone(), of: PhantomData }
    }
}

impl<D> fmt::Debug for DeviceRef<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceRef").field(&self.info).finish()
    }
}
