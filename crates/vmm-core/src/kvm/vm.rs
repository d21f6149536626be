//! A virtual machine: memory slots, interrupt chip, event descriptors.

use std::sync::Arc;

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::pit::Pit;
use super::sys::MappedVm;
use super::{IrqChipLine, KvmError, KvmVcpu, registers, tsc};
use crate::irq::IrqLine;
use crate::memory::layout::{KVM_IDENTITY_MAP, KVM_TSS};
use crate::memory::{Register, RegisterPage, RegisterWindow, SharedRam, Window};

/// A KVM virtual machine with its in-kernel interrupt chip and timer.
///
/// Dropping the last clone of its parts closes the VM. Safe to use from any thread.
pub struct KvmVm {
    vm: Arc<MappedVm>,
}

/// A virtual machine without memory. Creating one takes the kernel a while, in which the memory's size need not be
/// known.
pub struct BlankVm {
    pit: Pit,
    fd: Arc<VmFd>,
    kvm: Kvm,
}

impl BlankVm {
    /// Creates a VM with in-kernel IO-APIC, PIC and PIT.
    ///
    /// # Errors
    ///
    /// [`KvmError`]; nothing is left behind.
    pub fn new() -> Result<Self, KvmError> {
        let kvm = Kvm::new().map_err(|e| KvmError::Open(e.into()))?;
        check_capabilities(&kvm)?;
        let fd = create_vm(&kvm)?;
        fd.set_identity_map_address(KVM_IDENTITY_MAP)
            .map_err(KvmError::ioctl("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(KVM_TSS as usize).map_err(KvmError::ioctl("KVM_SET_TSS_ADDR"))?;
        fd.create_irq_chip().map_err(KvmError::ioctl("KVM_CREATE_IRQCHIP"))?;
        let fd = Arc::new(fd);
        Ok(BlankVm { pit: Pit::create(&fd)?, fd, kvm })
    }

    /// Gives it memory, one slot per region.
    ///
    /// # Errors
    ///
    /// [`KvmError`]; nothing is left behind.
    pub fn with_ram(self, ram: SharedRam) -> Result<KvmVm, KvmError> {
        Ok(KvmVm { vm: Arc::new(MappedVm::new(self.fd, Some(self.pit), ram, self.kvm)?) })
    }
}

impl KvmVm {
    /// Creates a VM over `ram` with one slot per region, in-kernel IO-APIC, PIC and PIT.
    ///
    /// # Errors
    ///
    /// [`KvmError`]; nothing is left behind.
    pub fn new(ram: SharedRam) -> Result<Self, KvmError> {
        BlankVm::new()?.with_ram(ram)
    }

    /// The memory it was given.
    pub fn ram(&self) -> &SharedRam {
        self.vm.ram()
    }

    /// Shows the guest a window of memory that is not RAM. Before the vCPUs run.
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`], for example if it overlaps RAM.
    pub fn add_window(&self, window: Window) -> Result<(), KvmError> {
        self.vm.add_window(window)
    }

    /// A place at guest-physical `addr`, a multiple of the page size, to show the guest `page` in. `None` if this KVM has no
    /// read-only memory. Showing and hiding are synchronisations of the whole VM; the page is kept as long as it is.
    pub fn register_window(&self, page: &Arc<RegisterPage>, addr: u64) -> Option<Box<dyn RegisterWindow>> {
        let possible = self.vm.kvm().check_extension(Cap::ReadonlyMem);
        possible.then(|| registers::window(&self.vm, page, addr))
    }

    /// CPUID entries this host's KVM can offer a guest.
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn supported_cpuid(&self) -> Result<Vec<kvm_cpuid_entry2>, KvmError> {
        let cpuid = self
            .vm
            .kvm()
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::ioctl("KVM_GET_SUPPORTED_CPUID"))?;
        Ok(cpuid.as_slice().to_vec())
    }

    /// Physical address bits of the processors (CPUID leaf 0x8000_0008, EAX bits 7:0).
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn address_bits(&self) -> Result<u8, KvmError> {
        let cpuid = self.supported_cpuid()?;
        // Processors without the leaf have 36.
        Ok(cpuid.iter().find(|entry| entry.function == 0x8000_0008).map_or(36, |entry| entry.eax as u8))
    }

    /// True if the in-kernel local APIC has a TSC deadline timer; `supported_cpuid` does not list the bit. Ask
    /// [`KvmVcpu::knows_tsc_frequency`] too before showing it to a guest.
    pub fn has_tsc_deadline_timer(&self) -> bool {
        self.vm.kvm().check_extension(Cap::TscDeadlineTimer)
    }

    /// Most vCPUs this host allows in one VM.
    pub fn max_vcpus(&self) -> usize {
        self.vm.kvm().get_max_vcpus()
    }

    /// Creates vCPU number `index`. Call in order, before any runs.
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn create_vcpu(&self, index: u8) -> Result<KvmVcpu, KvmError> {
        let fd = self.vm.fd().create_vcpu(index.into()).map_err(KvmError::ioctl("KVM_CREATE_VCPU"))?;
        let posted = self.vm.posted().map(&fd);
        posted.map_err(|source| KvmError::Host { what: "page of posted writes", source })?;
        let knows_tsc_frequency = tsc::settle_frequency(index, &fd);
        Ok(KvmVcpu::new(index, fd, self.vm.clone(), knows_tsc_frequency))
    }

    /// An edge-triggered line to pin `gsi` of the interrupt controller. It keeps the virtual machine. Ask once for each pin and
    /// clone the result: edges of two lines to one pin can meet and be one.
    pub fn irq_line(&self, gsi: u32) -> Arc<dyn IrqLine> {
        Arc::new(IrqChipLine::new(self.vm.clone(), gsi))
    }

    /// Makes a four-byte write of `value` to guest-physical `addr` signal `event` instead of leaving the
    /// guest. Do this before the vCPUs run: each one is a synchronisation of the whole VM later.
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn notify_on_write(&self, event: &EventFd, addr: u64, value: u32) -> Result<(), KvmError> {
        self.vm
            .fd()
            .register_ioevent(event, &IoEventAddress::Mmio(addr), value)
            .map_err(KvmError::ioctl("KVM_IOEVENTFD"))
    }

    /// Makes a four-byte write to guest-physical `addr` clear the written bits of `word` instead of leaving the guest; they are
    /// cleared when [`IrqLine::settle`] of a line of this machine is called next, at the latest. Before a vCPU is created.
    ///
    /// Writes may leave the guest nevertheless: of another length, too many at a time, or all of them with a KVM that cannot
    /// do this. So the bus has the register too.
    ///
    /// # Errors
    ///
    /// [`KvmError::Ioctl`].
    pub fn clear_on_write(&self, word: &Register, addr: u64) -> Result<(), KvmError> {
        if !self.vm.kvm().check_extension(Cap::CoalescedMmio) {
            return Ok(());
        }
        self.vm
            .fd()
            .register_coalesced_mmio(IoEventAddress::Mmio(addr), size_of::<u32>() as u32)
            .map_err(KvmError::ioctl("KVM_REGISTER_COALESCED_MMIO"))?;
        self.vm.posted().add(addr, word.clone());
        Ok(())
    }
}

fn check_capabilities(kvm: &Kvm) -> Result<(), KvmError> {
    if u32::try_from(kvm.get_api_version()) != Ok(KVM_API_VERSION) {
        return Err(KvmError::MissingCapability("API version 12"));
    }
    let needed = [
        (Cap::Irqchip, "in-kernel interrupt controller (KVM_CAP_IRQCHIP)"),
        (Cap::Ioeventfd, "ioeventfd (KVM_CAP_IOEVENTFD)"),
        (Cap::UserMemory, "user memory slots (KVM_CAP_USER_MEMORY)"),
        (Cap::SetTssAddr, "KVM_SET_TSS_ADDR"),
        (Cap::ImmediateExit, "immediate exit (KVM_CAP_IMMEDIATE_EXIT)"),
    ];
    match needed.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(KvmError::MissingCapability(name)),
        None => Ok(()),
    }
}

/// `KVM_CREATE_VM` may be interrupted while it waits for other VMs of the host.
fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
            Err(e) if e.errno() == libc::EINTR => {}
            other => return other.map_err(KvmError::ioctl("KVM_CREATE_VM")),
        }
    }
}
