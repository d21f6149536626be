//! The kernel in RAM, and processors at its entry.

use purlin_vmm_core::arch::x86_64::cpuid::{self, CpuidConfig};
use purlin_vmm_core::arch::x86_64::{lapic, msrs, regs};
use purlin_vmm_core::boot::{cmdline, mptable::MpTable, zero_page};
use purlin_vmm_core::bundle::Bundle;
use purlin_vmm_core::kvm::{BootState, KvmVcpu, KvmVm};
use purlin_vmm_core::memory::{GuestRam, MemoryLayout};

use super::BuildError;
use crate::config::{ConfigError, VmConfig};

/// Copies the kernel in. The bundle can be dropped afterwards.
pub(super) fn load_kernel(kernel: &Bundle, ram: &GuestRam) -> Result<(), BuildError> {
    Ok(kernel.copy_to(ram).map_err(ConfigError::from)?)
}

/// Command line, zero page, MP table, page and descriptor tables.
pub(super) fn write_tables(
    ram: &GuestRam,
    layout: &MemoryLayout,
    line: &str,
    vcpus: u32,
) -> Result<(), BuildError> {
    cmdline::write_to(ram, line)?;
    // A line is at most 64 KiB.
    let page = zero_page::build(layout, line.len() as u32, None);
    zero_page::write_to(ram, &page)?;
    MpTable::new(vcpus)?.write_to(ram)?;
    regs::write_boot_tables(ram)?;
    Ok(())
}

/// Every processor at the kernel's entry; all but the first wait there for the first to wake them.
pub(super) fn make_vcpus(vm: &KvmVm, config: &VmConfig, entry: u64) -> Result<Vec<KvmVcpu>, BuildError> {
    let most = vm.max_vcpus() as u64;
    if u64::from(config.vcpus) > most {
        let remedy = format!("this host allows {most}");
        return Err(ConfigError::field("vcpus", config.vcpus, remedy).into());
    }
    let supported = vm.supported_cpuid()?;
    let tsc_deadline = vm.has_tsc_deadline_timer();
    (0..config.vcpus)
        .map(|index| {
            let shape = CpuidConfig { vcpu: index, count: config.vcpus, nested: config.nested, tsc_deadline };
            // At most 254.
            let vcpu = vm.create_vcpu(index as u8)?;
            let mut local_apic = vcpu.lapic()?;
            lapic::set_lint(&mut local_apic);
            vcpu.set_boot_state(&BootState {
                cpuid: cpuid::for_vcpu(&supported, &shape)?,
                msrs: msrs::boot_msrs().to_vec(),
                regs: regs::boot_regs(entry),
                sregs: regs::boot_sregs(&vcpu.sregs()?),
                fpu: Some(regs::boot_fpu()),
                lapic: Some(local_apic),
            })?;
            Ok(vcpu)
        })
        .collect()
}
