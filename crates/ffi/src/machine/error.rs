//! Why a machine could not be put together.

use std::io;

use purlin_devices::virtio::console::ConsoleError;
use purlin_tsi::shell::VsockError;
use purlin_vmm_core::arch::x86_64::cpuid::CpuidError;
use purlin_vmm_core::boot::BootError;
use purlin_vmm_core::boot::acpi::AcpiError;
use purlin_vmm_core::boot::mptable::MpTableError;
use purlin_vmm_core::bus::BusError;
use purlin_vmm_core::kvm::{HostKvm, KvmError};
use purlin_vmm_core::memory::AllocError;
use thiserror::Error;

use crate::config::ConfigError;

/// A virtual machine could not be made. Nothing of it is left: no thread, descriptor or memory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration asks for something impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This host cannot run it; the text names the remedy.
    #[error(transparent)]
    Host(#[from] HostKvm),
    /// Guest RAM was refused.
    #[error("guest RAM: {0}")]
    Ram(#[from] AllocError),
    /// A boot structure does not fit.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Too many processors for the MP table.
    #[error("vcpus: {0}")]
    MpTable(#[from] MpTableError),
    /// The machine cannot be described in ACPI tables.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// No CPUID for a processor.
    #[error("vcpus: {0}")]
    Cpuid(#[from] CpuidError),
    /// A console could not be made.
    #[error("console: {0}")]
    Console(#[from] ConsoleError),
    /// The network or a vsock port cannot be served.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// More devices than interrupt lines.
    #[error(
        "{devices} devices are more than the {limit} this machine has interrupt lines for; remove shares"
    )]
    TooManyDevices {
        /// Devices asked for.
        devices: u32,
        /// Lines there are.
        limit: u32,
    },
    /// The host refused something.
    #[error("{what}: {source}")]
    Os {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// Two devices claim one address: a defect of this library.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl BuildError {
    pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> BuildError {
        move |source| BuildError::Os { what, source }
    }
}

/// A failed ioctl here means that the host cannot do it: the probe's words tell more than the ioctl's name.
impl From<KvmError> for BuildError {
    fn from(e: KvmError) -> Self {
        BuildError::Host(e.into())
    }
}
