//! The kernel in RAM, and processors at its entry.

use std::path::{Path, PathBuf};

use purlin_vmm_core::arch::x86_64::cpuid::{self, CpuidConfig};
use purlin_vmm_core::arch::x86_64::{lapic, msrs, pvh as pvh_regs, regs};
use purlin_vmm_core::boot::acpi::AcpiTables;
use purlin_vmm_core::boot::cmdline::{self, CmdlineError};
use purlin_vmm_core::boot::firmware::{Firmware, FirmwareError};
use purlin_vmm_core::boot::kernel::{self, BootMethod, Entry, KernelFacts, LoadedKernel};
use purlin_vmm_core::boot::pvh::StartInfo;
use purlin_vmm_core::boot::reset_vector;
use purlin_vmm_core::boot::zero_page;
use purlin_vmm_core::boot::{mptable::MpTable, smbios};
use purlin_vmm_core::bundle::{Bundle, BundleSource};
use purlin_vmm_core::kvm::{BootState, KvmVcpu, KvmVm};
use purlin_vmm_core::memory::layout::{HIGH_MEMORY, RSDP};
use purlin_vmm_core::memory::{GuestRam, MemoryLayout, Window};

use super::BuildError;
use super::ram_disk::{Disk, LoadedDisk};
use crate::config::{ConfigError, Kernel, VmConfig};

/// Where the kernel comes from.
pub(super) enum Source {
    Bundle(Bundle),
    Image(PathBuf, BootMethod),
    Firmware(PathBuf, Firmware),
}

/// What boots, in RAM.
pub(super) struct Loaded {
    pub kernel: LoadedKernel,
    pub disk: LoadedDisk,
    /// Memory that is not RAM, for the machine to show.
    pub rom: Option<Window>,
}

impl Source {
    /// Opens the kernel, as far as that can be done without RAM.
    pub fn open(config: &mut VmConfig) -> Result<Self, ConfigError> {
        let bundle = |source| Ok(Source::Bundle(Bundle::open(&source)?));
        match (config.opened.take(), &config.kernel) {
            (Some(opened), _) => Ok(Source::Bundle(opened)),
            (None, Kernel::Libkrunfw) => bundle(BundleSource::Soname),
            (None, Kernel::Bundle(path)) => bundle(BundleSource::Path(path.clone())),
            (None, Kernel::Image { path, method }) => Ok(Source::Image(path.clone(), *method)),
            (None, Kernel::Firmware(path)) => {
                let firmware = Firmware::open(path).map_err(refused(path))?;
                Ok(Source::Firmware(path.clone(), firmware))
            }
        }
    }

    /// What is known of it without RAM.
    pub fn facts(&self) -> Result<KernelFacts, ConfigError> {
        match self {
            Source::Bundle(bundle) => Ok(KernelFacts { init_size: bundle.size(), release: None }),
            Source::Image(path, _) => {
                kernel::facts(path).map_err(|source| ConfigError::Image { field: "kernel", source })
            }
            Source::Firmware(..) => Ok(KernelFacts { init_size: 0, release: None }),
        }
    }

    /// Puts the kernel and the RAM disk into RAM.
    pub fn load(&self, disk: &Disk, ram: &GuestRam, layout: &MemoryLayout) -> Result<Loaded, ConfigError> {
        let failed = |field| move |source| ConfigError::Image { field, source };
        let mut rom = None;
        let kernel = match self {
            Source::Bundle(bundle) => {
                let end = layout.check_kernel(bundle.load_addr(), bundle.size())?;
                bundle.copy_to(ram)?;
                let entry = Entry::Long(bundle.entry());
                LoadedKernel { entry, end, header: None, has_acpi: Some(false) }
            }
            Source::Image(path, method) => {
                kernel::load(path, *method, ram, layout).map_err(failed("kernel"))?
            }
            Source::Firmware(path, firmware) => {
                rom = Some(firmware.place(ram).map_err(refused(path))?);
                LoadedKernel { entry: Entry::Reset, end: HIGH_MEMORY, header: None, has_acpi: Some(false) }
            }
        };
        let disk = disk.load(&kernel, ram, layout)?;
        Ok(Loaded { kernel, disk, rom })
    }
}

fn refused(path: &Path) -> impl Fn(FirmwareError) -> ConfigError {
    move |source| ConfigError::Firmware { path: path.display().to_string(), source }
}

/// Command line, MP table, ACPI tables if there are any, and what the kernel's entry needs: zero page or start info, page
/// and descriptor tables.
pub(super) fn write_tables(
    ram: &GuestRam,
    layout: &MemoryLayout,
    line: &str,
    loaded: &Loaded,
    vcpus: u32,
    acpi: Option<&AcpiTables>,
) -> Result<(), BuildError> {
    let Loaded { kernel, disk, rom: _ } = loaded;
    check_length(line, kernel).map_err(ConfigError::from)?;
    cmdline::write_to(ram, line)?;
    MpTable::new(vcpus)?.write_to(ram)?;
    acpi.map(|tables| tables.write_to(ram)).transpose()?;
    let rsdp = acpi.map(|_| RSDP);
    if kernel.entry != Entry::Reset {
        reset_vector::write_to(ram)?;
    }
    match kernel.entry {
        Entry::Reset => {}
        Entry::Long(_) => {
            // A line is at most 64 KiB.
            let mut page = zero_page::build(layout, line.len() as u32, disk.initrd);
            if let Some(header) = &kernel.header {
                zero_page::set_header(&mut page, header);
            }
            if let Some(rsdp) = rsdp {
                zero_page::set_rsdp(&mut page, rsdp);
            }
            zero_page::write_to(ram, &page)?;
            regs::write_boot_tables(ram)?;
        }
        Entry::Pvh(_) => {
            StartInfo::new(layout, disk.initrd, rsdp).write_to(ram)?;
            pvh_regs::write_boot_tables(ram)?;
        }
    }
    Ok(())
}

/// A longer line than the kernel reads would be cut without a word.
fn check_length(line: &str, kernel: &LoadedKernel) -> Result<(), CmdlineError> {
    let limit = kernel.header.as_ref().map_or(0, |header| header.cmdline_size()) as usize;
    match limit > 0 && line.len() > limit {
        true => Err(CmdlineError::TooLong { len: line.len(), limit }),
        false => Ok(()),
    }
}

/// The SMBIOS table, if there is anything to say in it, and its place is not firmware's, which makes its own.
pub(super) fn write_smbios(ram: &GuestRam, config: &VmConfig, loaded: &Loaded) -> Result<(), BuildError> {
    if config.smbios_oem_strings.is_empty() || loaded.rom.is_some() {
        return Ok(());
    }
    let table = smbios::build(&config.smbios_oem_strings).map_err(ConfigError::from)?;
    Ok(smbios::write_to(ram, &table)?)
}

/// Every processor at the kernel's entry; all but the first wait there for the first to wake them.
pub(super) fn make_vcpus(vm: &KvmVm, config: &VmConfig, entry: Entry) -> Result<Vec<KvmVcpu>, BuildError> {
    let most = vm.max_vcpus() as u64;
    if u64::from(config.vcpus) > most {
        let remedy = format!("this host allows {most}");
        return Err(ConfigError::field("vcpus", config.vcpus, remedy).into());
    }
    let supported = vm.supported_cpuid()?;
    config.cpu_template.check(&supported).map_err(ConfigError::from)?;
    let shape = CpuidConfig {
        vcpu: 0,
        count: config.vcpus,
        nested: config.nested,
        tsc_deadline: vm.has_tsc_deadline_timer(),
        shared_cache: config.numa.as_ref().is_none_or(|topology| topology.nodes().len() == 1),
    };
    (0..config.vcpus)
        .map(|index| {
            // At most 254.
            let vcpu = vm.create_vcpu(index as u8)?;
            let tsc_deadline = shape.tsc_deadline && vcpu.knows_tsc_frequency();
            let shape = CpuidConfig { vcpu: index, tsc_deadline, ..shape };
            let mut local_apic = vcpu.lapic()?;
            lapic::set_lint(&mut local_apic);
            let mut cpuid = cpuid::for_vcpu(&supported, &shape)?;
            config.cpu_template.apply(&mut cpuid).map_err(ConfigError::from)?;
            let reset = vcpu.sregs()?;
            let (regs, sregs) = match entry {
                Entry::Long(entry) => (regs::boot_regs(entry), regs::boot_sregs(&reset)),
                Entry::Pvh(entry) => (pvh_regs::boot_regs(entry), pvh_regs::boot_sregs(&reset)),
                Entry::Reset => (vcpu.regs()?, reset),
            };
            vcpu.set_boot_state(&BootState {
                cpuid,
                msrs: msrs::boot_msrs().to_vec(),
                regs,
                sregs,
                fpu: Some(regs::boot_fpu()),
                lapic: Some(local_apic),
            })?;
            Ok(vcpu)
        })
        .collect()
}
