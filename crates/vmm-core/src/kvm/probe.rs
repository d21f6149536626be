//! What kind of KVM this host has, found out by using it.

use std::io;
use std::sync::Arc;

use kvm_ioctls::{Kvm, VcpuExit};
use thiserror::Error;

use super::sys::MappedVm;
use super::{KvmError, KvmVm};
use crate::memory::{Bytes, GuestAddress, GuestRam, SharedRam};

/// Why this host cannot run virtual machines, and what helps.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostKvm {
    /// There is no `/dev/kvm`.
    #[error(
        "/dev/kvm does not exist; load the module (modprobe kvm-intel or kvm-amd), enable virtualization in \
         the firmware, or, inside a virtual machine or container, ask its host for nested virtualization \
         or for the device"
    )]
    Missing,
    /// `/dev/kvm` may not be opened.
    #[error(
        "/dev/kvm may not be opened ({0}); add the user to the group that owns it (often kvm), or run as root"
    )]
    Denied(io::Error),
    /// Another hypervisor holds the processor's virtualization.
    #[error(
        "the processor's virtualization is in use ({0}); stop the other hypervisor (VirtualBox, VMware, Xen)"
    )]
    Busy(io::Error),
    /// The kernel has no memory for a virtual machine.
    #[error(
        "the host has no memory for a virtual machine ({0}); free some, or raise the limit of the control group"
    )]
    OutOfMemory(io::Error),
    /// The kernel's KVM lacks something.
    #[error("this host's KVM has no {0}; a Linux kernel from 4.12 on with x86 KVM has it")]
    LacksCapability(&'static str),
    /// KVM is there, but guests are emulated instruction by instruction and SSE is missing.
    #[error(
        "this host's KVM runs guests without hardware virtualization and cannot run SSE instructions, which \
         every stock kernel uses; use a host with hardware (or nested) virtualization"
    )]
    Paravirtual,
    /// Something else was refused.
    #[error("KVM does not work here: {0}")]
    Other(#[source] KvmError),
}

impl HostKvm {
    /// The nearest errno, for C callers.
    pub fn errno(&self) -> i32 {
        match self {
            HostKvm::Missing => libc::ENOENT,
            HostKvm::Denied(e) | HostKvm::Busy(e) | HostKvm::OutOfMemory(e) => {
                e.raw_os_error().unwrap_or(libc::EIO)
            }
            HostKvm::LacksCapability(_) | HostKvm::Paravirtual => libc::ENODEV,
            HostKvm::Other(e) => e.errno().unwrap_or(libc::EIO),
        }
    }
}

impl From<KvmError> for HostKvm {
    fn from(e: KvmError) -> Self {
        let source = |e: KvmError| match e {
            KvmError::Open(source) | KvmError::Ioctl { source, .. } | KvmError::Host { source, .. } => source,
            other => io::Error::other(other),
        };
        match (e.errno(), e) {
            (_, KvmError::MissingCapability(name)) => HostKvm::LacksCapability(name),
            (Some(libc::ENOENT | libc::ENODEV | libc::ENXIO), KvmError::Open(_)) => HostKvm::Missing,
            (Some(libc::EACCES | libc::EPERM), e) => HostKvm::Denied(source(e)),
            (Some(libc::EBUSY), e) => HostKvm::Busy(source(e)),
            (Some(libc::ENOMEM), e) => HostKvm::OutOfMemory(source(e)),
            (_, e) => HostKvm::Other(e),
        }
    }
}

const CODE_ADDR: u64 = 0x1000;
const DONE_PORT: u16 = 0x80;
/// Real mode: `xorps xmm0, xmm0; out 0x80, al; hlt`.
const CODE: [u8; 6] = [0x0f, 0x57, 0xc0, 0xe6, DONE_PORT as u8, 0xf4];
const CR0_EM: u64 = 1 << 2;
const CR0_MP: u64 = 1 << 1;
const CR4_OSFXSR: u64 = 1 << 9;
/// Signals may interrupt the guest entry; more than this many times is something else.
const MAX_ENTRIES: usize = 100;

/// Finds out whether stock kernels run here, by running a guest of three instructions, one of them SSE.
///
/// Takes a millisecond, opens `/dev/kvm` itself and leaves nothing open.
///
/// # Errors
///
/// The reason, whose text names the remedy.
pub fn probe() -> Result<(), HostKvm> {
    // The capabilities a machine needs are checked on the way.
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 0x4000)])
        .map_err(|e| HostKvm::OutOfMemory(io::Error::other(e)))?;
    let ram = Arc::new(ram);
    drop(KvmVm::new(ram.clone())?);
    run_sse(&ram)
}

/// Without interrupt controller, so that nothing but the three instructions can cause an exit.
fn run_sse(ram: &SharedRam) -> Result<(), HostKvm> {
    ram.write_slice(&CODE, GuestAddress(CODE_ADDR)).map_err(|e| HostKvm::OutOfMemory(io::Error::other(e)))?;
    let kvm = Kvm::new().map_err(|e| KvmError::Open(e.into()))?;
    let vm = kvm.create_vm().map_err(KvmError::ioctl("KVM_CREATE_VM"))?;
    let vm = MappedVm::new(Arc::new(vm), None, ram.clone(), kvm)?;
    let mut vcpu = vm.fd().create_vcpu(0).map_err(KvmError::ioctl("KVM_CREATE_VCPU"))?;
    let mut sregs = vcpu.get_sregs().map_err(KvmError::ioctl("KVM_GET_SREGS"))?;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.cr0 = sregs.cr0 & !CR0_EM | CR0_MP;
    sregs.cr4 |= CR4_OSFXSR;
    vcpu.set_sregs(&sregs).map_err(KvmError::ioctl("KVM_SET_SREGS"))?;
    let regs = kvm_bindings::kvm_regs { rip: CODE_ADDR, rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(KvmError::ioctl("KVM_SET_REGS"))?;
    for _ in 0..MAX_ENTRIES {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(DONE_PORT, _)) => return Ok(()),
            Ok(VcpuExit::Intr) => {}
            Ok(_) => break,
            Err(e) if e.errno() == libc::EINTR || e.errno() == libc::EAGAIN => {}
            Err(e) => return Err(KvmError::ioctl("KVM_RUN")(e).into()),
        }
    }
    Err(HostKvm::Paravirtual)
}
