//! What a machine has done so far.

use std::time::Duration;

use purlin_devices::virtio::IoCounts;
use purlin_vmm_core::kvm::ExitCounts;

use crate::machine::DeviceInfo;

/// Counters of a machine, from [`Vm::stats`](crate::Vm::stats). They never go back while it lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VmStats {
    /// Time since the start, pauses included; zero before it.
    pub uptime: Duration,
    /// CPU time of all processors, including what this library did on their threads.
    pub vcpu_time: Duration,
    /// Why each processor left the guest, in order of their numbers.
    pub vcpus: Vec<ExitCounts>,
    /// Bytes through each virtio device, in the order of their slots.
    pub devices: Vec<DeviceStats>,
    /// What became of the initial RAM disk, if there is one.
    pub initramfs: Option<InitramfsStats>,
    /// How long each part of making and booting the machine took, in order.
    pub boot: Vec<BootPhase>,
}

/// Bytes through one device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceStats {
    /// Which device.
    pub device: DeviceInfo,
    /// Bytes.
    pub bytes: IoCounts,
}

/// How an initial RAM disk came into guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InitramfsStats {
    /// Bytes that were copied.
    pub copied: u64,
    /// Bytes that lie in memory shared by all machines with the same base, mapped copy on write.
    pub mapped: u64,
}

impl InitramfsStats {
    pub(crate) fn new(copied: u64, mapped: u64) -> Self {
        InitramfsStats { copied, mapped }
    }
}

/// One part of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootPhase {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl BootPhase {
    pub(crate) fn new(name: &'static str, took: Duration) -> Self {
        BootPhase { name, took }
    }
}

impl DeviceStats {
    pub(crate) fn new(device: DeviceInfo, bytes: IoCounts) -> Self {
        DeviceStats { device, bytes }
    }
}
