//! What `/dev/kvm` can refuse.

use std::io;

use thiserror::Error;

/// An operation on the KVM interface failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KvmError {
    /// `/dev/kvm` cannot be opened; see [`probe`](super::probe()) for the reason and its remedy.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// The kernel's KVM lacks something every machine here needs.
    #[error("this host's KVM has no {0}")]
    MissingCapability(&'static str),
    /// An ioctl failed.
    #[error("{call}: {source}")]
    Ioctl {
        /// Name of the ioctl.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A model specific register was refused.
    #[error("KVM_SET_MSRS stopped at register {index:#x}")]
    Msr {
        /// The register.
        index: u32,
    },
    /// More CPUID entries than KVM takes.
    #[error("{0} CPUID entries are more than KVM takes")]
    CpuidEntries(usize),
    /// A vCPU's thread cannot run where it should.
    #[error("vCPU {vcpu} cannot be bound to the host's processors {cpus}: {source}")]
    Affinity {
        /// The vCPU.
        vcpu: u8,
        /// The processors.
        cpus: String,
        /// The host's answer.
        source: io::Error,
    },
    /// An event descriptor or a thread was refused.
    #[error("{what}: {source}")]
    Host {
        /// What was asked of the host.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

impl KvmError {
    /// For `map_err` on an ioctl.
    pub(super) fn ioctl(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
        move |e| KvmError::Ioctl { call, source: e.into() }
    }

    /// The errno behind this error, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KvmError::Open(e) | KvmError::Ioctl { source: e, .. } | KvmError::Host { source: e, .. } => {
                e.raw_os_error()
            }
            _ => None,
        }
    }
}
