//! One vCPU: its registers while it rests, one guest entry at a time while it runs.

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_cpuid_entry2, kvm_fpu, kvm_lapic_state,
    kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::stats::{VcpuCounters, count};
use super::sys::MappedVm;
use super::{Buses, KvmError};

/// RFLAGS bit 9: interrupts enabled.
const RFLAGS_IF: u64 = 1 << 9;

/// Why a vCPU will not run again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VcpuEnd {
    /// Triple fault: the guest reset itself by force.
    Shutdown,
    /// The kernel reported a system event of this type (reset, shutdown, crash).
    SystemEvent(u32),
    /// HLT with no interrupt controller to wake it.
    Halt,
    /// The processor refused the guest state, with the hardware's reason.
    FailEntry(u64),
    /// KVM could not emulate an instruction.
    InternalError,
    /// An exit this library does not know, by its name.
    Unknown(String),
    /// `KVM_RUN` failed with this errno.
    Run(i32),
    /// A device panicked while it handled an access: a defect of that device. The panic's message went to
    /// the process's panic hook.
    Panicked,
}

/// What became of one guest entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An exit was handled; enter again.
    Handled,
    /// Kicked, with no exit pending: registers are complete.
    Kicked,
    /// The vCPU has ended.
    Ended(VcpuEnd),
}

/// Registers of a vCPU that starts at a given place.
#[derive(Clone, Default)]
pub struct BootState {
    /// CPUID entries, already made for this vCPU.
    pub cpuid: Vec<kvm_cpuid_entry2>,
    /// Model specific registers; all must be accepted.
    pub msrs: Vec<kvm_msr_entry>,
    /// General registers.
    pub regs: kvm_regs,
    /// Segment and control registers.
    pub sregs: kvm_sregs,
    /// Floating point state, or `None` to keep the reset state.
    pub fpu: Option<kvm_fpu>,
    /// Local APIC registers, or `None` to keep the reset state.
    pub lapic: Option<kvm_lapic_state>,
}

/// A vCPU that no thread runs.
pub struct KvmVcpu {
    index: u8,
    fd: VcpuFd,
    knows_tsc_frequency: bool,
    // Keeps the VM and its memory as long as the vCPU.
    _vm: Arc<MappedVm>,
}

impl KvmVcpu {
    pub(super) fn new(index: u8, fd: VcpuFd, vm: Arc<MappedVm>, knows_tsc_frequency: bool) -> Self {
        KvmVcpu { index, fd, knows_tsc_frequency, _vm: vm }
    }

    /// The number given at creation.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// False if KVM has no TSC frequency for this vCPU: its TSC deadline timer would never fire, so the guest must not be shown
    /// one. Its other timers work.
    pub fn knows_tsc_frequency(&self) -> bool {
        self.knows_tsc_frequency
    }

    /// Segment and control registers, as a base for [`BootState::sregs`].
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn sregs(&self) -> Result<kvm_sregs, KvmError> {
        self.fd.get_sregs().map_err(KvmError::ioctl("KVM_GET_SREGS"))
    }

    /// General registers.
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn regs(&self) -> Result<kvm_regs, KvmError> {
        self.fd.get_regs().map_err(KvmError::ioctl("KVM_GET_REGS"))
    }

    /// Local APIC registers, as a base for [`BootState::lapic`].
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn lapic(&self) -> Result<kvm_lapic_state, KvmError> {
        self.fd.get_lapic().map_err(KvmError::ioctl("KVM_GET_LAPIC"))
    }

    /// Loads `state`. CPUID first: it decides which of the rest the kernel accepts.
    ///
    /// # Errors
    ///
    /// [`KvmError`]; the vCPU must not be run then.
    pub fn set_boot_state(&self, state: &BootState) -> Result<(), KvmError> {
        if !state.cpuid.is_empty() {
            let cpuid =
                CpuId::from_entries(&state.cpuid).map_err(|_| KvmError::CpuidEntries(state.cpuid.len()))?;
            self.fd.set_cpuid2(&cpuid).map_err(KvmError::ioctl("KVM_SET_CPUID2"))?;
        }
        self.set_msrs(&state.msrs)?;
        self.fd.set_regs(&state.regs).map_err(KvmError::ioctl("KVM_SET_REGS"))?;
        self.fd.set_sregs(&state.sregs).map_err(KvmError::ioctl("KVM_SET_SREGS"))?;
        if let Some(fpu) = &state.fpu {
            self.fd.set_fpu(fpu).map_err(KvmError::ioctl("KVM_SET_FPU"))?;
        }
        if let Some(lapic) = &state.lapic {
            self.fd.set_lapic(lapic).map_err(KvmError::ioctl("KVM_SET_LAPIC"))?;
        }
        Ok(())
    }

    fn set_msrs(&self, entries: &[kvm_msr_entry]) -> Result<(), KvmError> {
        let msrs = Msrs::from_entries(entries).map_err(|_| KvmError::CpuidEntries(entries.len()))?;
        let set = self.fd.set_msrs(&msrs).map_err(KvmError::ioctl("KVM_SET_MSRS"))?;
        match entries.get(set) {
            Some(refused) => Err(KvmError::Msr { index: refused.index }),
            None => Ok(()),
        }
    }

    pub(super) fn fd_mut(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// Tells the guest's watchdogs that it was stopped on purpose. Best effort: only a guest with a KVM
    /// clock has one to tell.
    pub(super) fn announce_pause(&self) {
        let _ = self.fd.kvmclock_ctrl();
    }

    /// True if nothing can wake this vCPU any more: halted with interrupts off, or never started.
    pub(super) fn is_parked(&self) -> bool {
        match self.fd.get_mp_state().map(|s| s.mp_state) {
            Ok(KVM_MP_STATE_UNINITIALIZED) => true,
            Ok(KVM_MP_STATE_HALTED) => self.fd.get_regs().is_ok_and(|r| r.rflags & RFLAGS_IF == 0),
            _ => false,
        }
    }

    /// Enters the guest once, answers the exit and counts it.
    pub(super) fn enter(&mut self, buses: &Buses, counters: &VcpuCounters) -> Entry {
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            Err(e) => return self.entry_failed(e.errno(), counters),
        };
        let (kind, claimed) = match exit {
            VcpuExit::IoIn(port, data) => (&counters.port_reads, buses.pio.read(port.into(), data)),
            VcpuExit::IoOut(port, data) => (&counters.port_writes, buses.pio.write(port.into(), data)),
            VcpuExit::MmioRead(addr, data) => (&counters.mmio_reads, buses.mmio.read(addr, data)),
            VcpuExit::MmioWrite(addr, data) => (&counters.mmio_writes, buses.mmio.write(addr, data)),
            VcpuExit::Intr | VcpuExit::IrqWindowOpen => (&counters.other, true),
            other => {
                count(&counters.other);
                return Entry::Ended(end(other));
            }
        };
        count(kind);
        if !claimed {
            count(&counters.unclaimed);
        }
        Entry::Handled
    }

    fn entry_failed(&mut self, errno: i32, counters: &VcpuCounters) -> Entry {
        match errno {
            libc::EINTR => {
                self.fd.set_kvm_immediate_exit(0);
                count(&counters.kicks);
                Entry::Kicked
            }
            // An application processor that was just initialised.
            libc::EAGAIN => Entry::Handled,
            errno => {
                count(&counters.other);
                Entry::Ended(VcpuEnd::Run(errno))
            }
        }
    }
}

fn end(exit: VcpuExit<'_>) -> VcpuEnd {
    match exit {
        VcpuExit::Shutdown => VcpuEnd::Shutdown,
        VcpuExit::SystemEvent(kind, _) => VcpuEnd::SystemEvent(kind),
        VcpuExit::Hlt => VcpuEnd::Halt,
        VcpuExit::FailEntry(reason, _) => VcpuEnd::FailEntry(reason),
        VcpuExit::InternalError => VcpuEnd::InternalError,
        other => VcpuEnd::Unknown(format!("{other:?}")),
    }
}
