//! What can be wrong with a configuration.

use purlin_devices::virtio::fs::FsConfigError;
use purlin_vmm_core::boot::cmdline::CmdlineError;
use purlin_vmm_core::boot::initramfs::InitramfsError;
use purlin_vmm_core::boot::initramfs::shell::LoadError;
use purlin_vmm_core::boot::initramfs::sizing::MemoryTooSmall;
use purlin_vmm_core::boot::kernel::KernelError;
use purlin_vmm_core::bundle::BundleError;
use purlin_vmm_core::memory::LayoutError;
use purlin_vmm_core::numa::NumaError;
use thiserror::Error;

/// A virtual machine cannot be made as configured. Nothing was created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field has a value that means nothing.
    #[error("{field}: {value} is not possible: {remedy}")]
    Field {
        /// Name of the field, as its method on [`VmConfig`](crate::VmConfig) is called.
        field: &'static str,
        /// The value given.
        value: String,
        /// What would be possible.
        remedy: String,
    },
    /// `memory_mib` cannot be laid out, or is too little for the kernel.
    #[error("memory_mib: {0}")]
    Memory(#[from] LayoutError),
    /// `kernel` cannot be loaded.
    #[error("kernel: {0}")]
    Kernel(#[from] BundleError),
    /// The file of `kernel` or `initramfs` cannot be loaded.
    #[error("{field}: {source}")]
    Image {
        /// `kernel` or `initramfs`.
        field: &'static str,
        /// Why.
        source: KernelError,
    },
    /// The archive of `initramfs` cannot be made.
    #[error("initramfs: {0}")]
    Initramfs(#[source] Box<InitramfsError>),
    /// The archive of `initramfs` cannot be put into RAM.
    #[error("initramfs: {0}")]
    InitramfsLoad(#[from] LoadError),
    /// `memory_mib` is too little for `initramfs`.
    #[error("memory_mib: {0}")]
    MemoryTooSmall(#[from] MemoryTooSmall),
    /// The nodes of `numa` are not those of this machine.
    #[error("numa: {0}")]
    Numa(#[from] NumaError),
    /// `root` or a `share` cannot be served.
    #[error("{field}: {source}")]
    Share {
        /// `root`, or `share` with its tag.
        field: String,
        /// Why.
        source: FsConfigError,
    },
    /// What should run cannot be put on the kernel command line, and there is no other way: the guest's
    /// init is not ours, or there is no root to put a file on.
    #[error("exec: {0}")]
    Cmdline(#[from] CmdlineError),
    /// The firmware cannot be put into the machine.
    #[error("firmware: {path}: {source}")]
    Firmware {
        /// Its file.
        path: String,
        /// Why not.
        source: purlin_vmm_core::boot::firmware::FirmwareError,
    },
    /// The guest's SMBIOS table cannot hold these strings.
    #[error("smbios_oem_strings: {0}")]
    Smbios(#[from] purlin_vmm_core::boot::smbios::SmbiosError),
    /// The CPU template is not for this host.
    #[error("cpu_template: {0}")]
    CpuTemplate(#[from] purlin_vmm_core::arch::x86_64::template::TemplateError),
    /// What should run cannot be handed over.
    #[error("exec: {0}")]
    Exec(#[from] purlin_init::workload::EncodeError),
}

impl From<InitramfsError> for ConfigError {
    fn from(e: InitramfsError) -> Self {
        ConfigError::Initramfs(Box::new(e))
    }
}

impl ConfigError {
    pub(crate) fn field(field: &'static str, value: impl ToString, remedy: impl Into<String>) -> Self {
        ConfigError::Field { field, value: value.to_string(), remedy: remedy.into() }
    }
}
