//! CPU identification: from what the host supports to what one vCPU shows. Pure.
//!
//! Each vCPU is one core of one package, without hyper-threading; its APIC identifier is its index. Leaves
//! and bits: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
//!
//! The extended topology leaves 0xB and 0x1F are built here for all vendors: KVM lists only their first
//! sub-leaf (Linux 6.2 and later), from which a guest would conclude that every vCPU is a package of its
//! own.

use std::collections::BTreeMap;

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use thiserror::Error;

use super::brand;

/// Most vCPUs the topology can number (8-bit APIC identifiers, one value kept for the IO-APIC).
pub const MAX_CPUS: u32 = 254;
/// Most entries KVM takes (`KVM_MAX_CPUID_ENTRIES`).
pub const MAX_ENTRIES: usize = 256;

const FEATURES: u32 = 1;
const CACHE_INTEL: u32 = 4;
const POWER: u32 = 6;
const STRUCTURED: u32 = 7;
const PERFMON: u32 = 0xa;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
const EXT_FEATURES: u32 = 0x8000_0001;
const ADDRESS_SIZES: u32 = 0x8000_0008;
const CACHE_AMD: u32 = 0x8000_001d;
const TOPOLOGY_AMD: u32 = 0x8000_001e;
const EXT_TOPOLOGY_AMD: u32 = 0x8000_0026;

/// What one vCPU is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuidConfig {
    /// Index of the vCPU, and its APIC identifier.
    pub vcpu: u32,
    /// Number of vCPUs, 1 to [`MAX_CPUS`].
    pub count: u32,
    /// Show the virtualization extensions if the host supports them for guests.
    pub nested: bool,
    /// Show the TSC deadline timer (`KVM_CAP_TSC_DEADLINE_TIMER` with the in-kernel local APIC); KVM does
    /// not list the bit itself.
    pub tsc_deadline: bool,
    /// All vCPUs share the last level of caches. Not in a machine of several NUMA nodes: Linux expects processors that
    /// share a cache in one node, and complains of others.
    pub shared_cache: bool,
}

/// Why there is no CPUID for a vCPU.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CpuidError {
    /// No vCPU, too many, or an index outside the count.
    #[error("vCPU {vcpu} of {count} cannot be numbered; there may be 1 to {MAX_CPUS} vCPUs")]
    Cpu {
        /// Index of the vCPU.
        vcpu: u32,
        /// Number of vCPUs.
        count: u32,
    },
    /// The host's list lacks a leaf every processor has.
    #[error("the host's CPUID list has no leaf {function:#x}")]
    Missing {
        /// The leaf.
        function: u32,
    },
    /// The result is longer than KVM takes.
    #[error("{entries} CPUID entries are more than the {MAX_ENTRIES} KVM takes")]
    TooMany {
        /// Number of entries.
        entries: usize,
    },
}

/// Who made the processor, as far as leaves differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Intel,
    /// AMD, and Hygon, whose leaves are the same.
    Amd,
    Other,
}

/// The CPUID entries of one vCPU, sorted by leaf and sub-leaf, each once.
///
/// `supported` is the answer of `KVM_GET_SUPPORTED_CPUID`, or a CPU template derived from it. Of duplicates
/// the last one counts.
///
/// # Errors
///
/// [`CpuidError`].
pub fn for_vcpu(
    supported: &[kvm_cpuid_entry2],
    config: &CpuidConfig,
) -> Result<Vec<kvm_cpuid_entry2>, CpuidError> {
    let &CpuidConfig { vcpu, count, .. } = config;
    if count > MAX_CPUS || vcpu >= count {
        return Err(CpuidError::Cpu { vcpu, count });
    }
    let mut table = Table::new(supported);
    let leaf0 = table.get(0).ok_or(CpuidError::Missing { function: 0 })?;
    let (vendor, host_max) = (vendor(&leaf0), leaf0.eax);
    table.get(FEATURES).ok_or(CpuidError::Missing { function: FEATURES })?;

    table.edit(FEATURES, |e| features(e, config));
    table.edit(POWER, |e| {
        e.eax &= !(1 << 1); // turbo boost
        e.ecx &= !(1 << 3); // performance bias hint
    });
    table.edit(PERFMON, |e| *e = kvm_cpuid_entry2 { function: PERFMON, ..Default::default() });
    topology(&mut table, TOPOLOGY, config);
    table.remove(TOPOLOGY_V2);
    if host_max >= TOPOLOGY_V2 {
        topology(&mut table, TOPOLOGY_V2, config);
    }
    table.edit(0, |e| e.eax = e.eax.max(TOPOLOGY));
    match vendor {
        Vendor::Intel => intel(&mut table, config),
        Vendor::Amd => amd(&mut table, config),
        Vendor::Other => {}
    }
    table.finish()
}

fn vendor(leaf0: &kvm_cpuid_entry2) -> Vendor {
    match vendor_bytes(leaf0).as_flattened() {
        b"GenuineIntel" => Vendor::Intel,
        b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
        _ => Vendor::Other,
    }
}

fn vendor_bytes(leaf0: &kvm_cpuid_entry2) -> [[u8; 4]; 3] {
    [leaf0.ebx, leaf0.edx, leaf0.ecx].map(u32::to_le_bytes)
}

/// The name of the processor's vendor, if the list has one.
pub(super) fn vendor_id(entries: &[kvm_cpuid_entry2]) -> Option<String> {
    let leaf0 = entries.iter().find(|e| e.function == 0)?;
    Some(String::from_utf8_lossy(vendor_bytes(leaf0).as_flattened()).into_owned())
}

fn features(e: &mut kvm_cpuid_entry2, config: &CpuidConfig) {
    let logical = config.count.next_power_of_two().min(255);
    e.ebx = e.ebx & 0xff | 8 << 8 | logical << 16 | config.vcpu << 24;
    set(&mut e.ecx, 31, true); // hypervisor
    set(&mut e.ecx, 15, false); // performance capabilities: no counters are shown
    if !config.nested {
        set(&mut e.ecx, 5, false); // VMX
    }
    set(&mut e.ecx, 24, config.tsc_deadline);
    set(&mut e.edx, 28, config.count > 1); // more than one logical processor per package
}

/// Sub-leaf 0: one thread per core. Sub-leaf 1: all cores in the package. Sub-leaf 2: no more levels.
fn topology(table: &mut Table, function: u32, config: &CpuidConfig) {
    table.remove(function);
    let levels = [(0, 1, 1), (package_bits(config.count), config.count, 2), (0, 0, 0)];
    for (index, (shift, processors, kind)) in (0u32..).zip(levels) {
        table.insert(kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: processors,
            ecx: index | kind << 8,
            edx: config.vcpu,
            ..Default::default()
        });
    }
}

/// Bits of the APIC identifier that tell the cores of the package apart.
fn package_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Cache sharing, in the format both vendors use: levels 1 and 2 belong to a core, the others to all if they are shared.
fn cache_sharing(e: &mut kvm_cpuid_entry2, config: &CpuidConfig) {
    let sharers = if config.shared_cache && (e.eax >> 5) & 7 >= 3 { config.count - 1 } else { 0 };
    e.eax = e.eax & !(0xfff << 14) | sharers << 14;
}

fn has_cache(e: &kvm_cpuid_entry2) -> bool {
    e.eax & 0x1f != 0
}

fn intel(table: &mut Table, config: &CpuidConfig) {
    table.edit(CACHE_INTEL, |e| {
        if has_cache(e) {
            cache_sharing(e, config);
            e.eax = e.eax & !(0x3f << 26) | (config.count - 1).min(0x3f) << 26;
        }
    });
    brand::intel(table);
}

fn amd(table: &mut Table, config: &CpuidConfig) {
    table.edit(STRUCTURED, |e| {
        if e.index == 0 {
            set(&mut e.edx, 29, false); // IA32_ARCH_CAPABILITIES exists only in KVM's emulation
        }
    });
    let extended_topology = table.get(CACHE_AMD).is_some_and(|e| has_cache(&e));
    table.edit(EXT_FEATURES, |e| {
        set(&mut e.ecx, 1, config.count > 1); // the logical processors of leaf 1 are cores
        set(&mut e.ecx, 22, extended_topology);
        if !config.nested {
            set(&mut e.ecx, 2, false); // SVM
        }
    });
    table.edit(ADDRESS_SIZES, |e| {
        e.ecx = e.ecx & !0xf0ff | package_bits(config.count) << 12 | (config.count - 1);
    });
    table.edit(CACHE_AMD, |e| {
        if has_cache(e) {
            cache_sharing(e, config);
        }
    });
    table.remove(TOPOLOGY_AMD);
    if extended_topology {
        // One thread per core, one node per package.
        let (function, vcpu) = (TOPOLOGY_AMD, config.vcpu);
        table.insert(kvm_cpuid_entry2 { function, eax: vcpu, ebx: vcpu, ..Default::default() });
        table.edit(0x8000_0000, |e| e.eax = e.eax.max(TOPOLOGY_AMD));
    }
    // The host's own levels; leaf 0xB says what there is to say.
    table.remove(EXT_TOPOLOGY_AMD);
    brand::amd(table);
}

fn set(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !(1 << bit) | u32::from(on) << bit;
}

/// Entries by leaf and sub-leaf.
pub(super) struct Table(BTreeMap<(u32, u32), kvm_cpuid_entry2>);

impl Table {
    pub(super) fn new(entries: &[kvm_cpuid_entry2]) -> Self {
        let mut table = Table(BTreeMap::new());
        entries.iter().for_each(|&e| table.insert(e));
        table
    }

    pub(super) fn insert(&mut self, mut e: kvm_cpuid_entry2) {
        if e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX == 0 {
            e.index = 0; // KVM ignores it too
        }
        self.0.insert((e.function, e.index), e);
    }

    /// The entry of a leaf, its sub-leaf 0 if it has sub-leaves.
    pub(super) fn get(&self, function: u32) -> Option<kvm_cpuid_entry2> {
        self.0.get(&(function, 0)).copied()
    }

    /// One sub-leaf of a leaf.
    pub(super) fn sub_leaf(&self, function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        self.0.get(&(function, index)).copied()
    }

    /// Changes all sub-leaves of a leaf.
    pub(super) fn edit(&mut self, function: u32, change: impl Fn(&mut kvm_cpuid_entry2)) {
        for (_, e) in self.0.range_mut((function, 0)..=(function, u32::MAX)) {
            change(e);
        }
    }

    fn remove(&mut self, function: u32) {
        self.0.retain(|&(f, _), _| f != function);
    }

    fn finish(self) -> Result<Vec<kvm_cpuid_entry2>, CpuidError> {
        let entries = self.0.len();
        if entries > MAX_ENTRIES {
            return Err(CpuidError::TooMany { entries });
        }
        Ok(self.0.into_values().collect())
    }
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
