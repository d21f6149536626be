//! The initial RAM disk, and the size of RAM that follows from it.

use std::path::PathBuf;
use std::thread::JoinHandle;

use purlin_vmm_core::boot::initramfs::InitramfsError;
use purlin_vmm_core::boot::initramfs::shell::Initramfs;
use purlin_vmm_core::boot::initramfs::sizing::{Footprint, RootShare};
use purlin_vmm_core::boot::kernel::{self, KernelFacts, LoadedKernel};
use purlin_vmm_core::boot::zero_page::Initrd;
use purlin_vmm_core::memory::{GuestRam, MemoryLayout};

use super::BuildError;
use crate::config::{ConfigError, RamDisk, RamDiskSource, VmConfig};

/// A RAM disk that may still be in the making.
pub(super) enum Job {
    None,
    File(PathBuf),
    Archive(Initramfs),
    Building(Option<JoinHandle<Result<Initramfs, InitramfsError>>>),
}

/// A RAM disk to be loaded.
pub(super) enum Disk {
    None,
    File(PathBuf),
    Archive(Initramfs),
}

/// A RAM disk in guest RAM.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LoadedDisk {
    pub initrd: Option<Initrd>,
    /// Bytes copied, if it is an archive.
    pub copied: u64,
    /// Bytes that lie in shared memory.
    pub mapped: u64,
}

impl Job {
    /// Starts to make it.
    pub fn start(disk: Option<RamDisk>) -> Result<Self, BuildError> {
        Ok(match disk.map(|disk| disk.0) {
            None => Job::None,
            Some(RamDiskSource::File(path)) => Job::File(path),
            Some(RamDiskSource::Archive(archive)) => Job::Archive(archive),
            Some(RamDiskSource::Builder(builder)) => {
                let thread = std::thread::Builder::new().name("purlin-initrd".to_owned());
                let thread = thread.spawn(move || builder.build());
                Job::Building(Some(thread.map_err(BuildError::host("initramfs thread"))?))
            }
        })
    }

    /// True for an archive whose sizes are known, once it is made.
    pub fn is_archive(&self) -> bool {
        matches!(self, Job::Archive(_) | Job::Building(_))
    }

    /// Waits until it is made.
    pub fn join(mut self) -> Result<Disk, ConfigError> {
        Ok(match &mut self {
            Job::None => Disk::None,
            Job::File(path) => Disk::File(std::mem::take(path)),
            Job::Archive(archive) => Disk::Archive(archive.clone()),
            Job::Building(thread) => match thread.take().map(JoinHandle::join) {
                Some(Ok(built)) => Disk::Archive(built?),
                _ => {
                    return Err(ConfigError::field(
                        "initramfs",
                        "builder",
                        "its thread panicked, see the log",
                    ));
                }
            },
        })
    }
}

impl Drop for Job {
    /// Nothing is left behind when a machine cannot be made, also no thread.
    fn drop(&mut self) {
        if let Job::Building(thread) = self
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// The share of RAM for the archive unpacked: what the kernel grants and is told, by the owner or by [`share_words`].
pub(super) fn root_share(job: &Job, config: &VmConfig, facts: &KernelFacts) -> RootShare {
    let words = config.cmdline.as_deref().unwrap_or_default();
    let mut own = words.split_ascii_whitespace().filter(|word| word.starts_with("initramfs_options="));
    match own.next() {
        Some(word) if word != RootShare::OPTION => RootShare::Half,
        _ if job.is_archive() => RootShare::of_kernel(facts.release),
        _ => RootShare::Half,
    }
}

/// Tells the kernel of the share that the size of RAM counts on, unless the owner's words do.
pub(super) fn share_words(share: RootShare, config: &VmConfig) -> &'static [&'static str] {
    let said = config.cmdline.as_ref().is_some_and(|words| words.contains("initramfs_options="));
    if share == RootShare::NineTenths && !said { &[RootShare::OPTION] } else { &[] }
}

impl Disk {
    /// The size of RAM in MiB: as asked for, if that is enough for an archive, or as the archive needs it.
    pub fn memory_mib(
        &self,
        config: &VmConfig,
        facts: &KernelFacts,
        share: RootShare,
    ) -> Result<u64, ConfigError> {
        let footprint = |unpacked, packed| Footprint { unpacked, packed, kernel: facts.init_size, share };
        match (self, config.deferred) {
            (Disk::Archive(archive), deferred) => {
                let sizes = archive.sizes();
                let footprint = footprint(sizes.unpacked, sizes.packed());
                if deferred {
                    return Ok(footprint.deferred_mib(config.memory_mib));
                }
                footprint.check(config.memory_mib)?;
                Ok(config.memory_mib)
            }
            (Disk::File(path), true) => {
                let remedy =
                    "the size of a file unpacked is not known: use memory_mib, or an InitramfsBuilder";
                Err(ConfigError::field("memory_deferred", path.display(), remedy))
            }
            (Disk::None, true) => Ok(Footprint::default().deferred_mib(config.memory_mib)),
            (Disk::File(_) | Disk::None, false) => Ok(config.memory_mib),
        }
    }

    pub fn load(
        &self,
        kernel: &LoadedKernel,
        ram: &GuestRam,
        layout: &MemoryLayout,
    ) -> Result<LoadedDisk, ConfigError> {
        match self {
            Disk::None => Ok(LoadedDisk::default()),
            Disk::File(path) => {
                let loaded = kernel::load_initrd(path, kernel, ram, layout);
                let initrd = loaded.map_err(|source| ConfigError::Image { field: "initramfs", source })?;
                Ok(LoadedDisk { initrd: Some(initrd), copied: initrd.len, mapped: 0 })
            }
            Disk::Archive(archive) => {
                let loaded = archive.load(ram, layout, kernel.end, kernel.initrd_addr_max())?;
                Ok(LoadedDisk { initrd: Some(loaded.initrd), copied: loaded.copied, mapped: loaded.mapped })
            }
        }
    }
}
