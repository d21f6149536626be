//! CPU templates: one look of the processor on hosts of several generations, so that a guest saved on one may go on on
//! another. Pure.
//!
//! A template changes what CPUID says, not what the processor executes: it is no security boundary, and MSRs that tell
//! of features stay the host's. [`T2`](CpuTemplate::T2) and [`C3`](CpuTemplate::C3) clear and set listed bits, the same
//! as in Firecracker's templates of these names; bits that are not listed stay as the host has them, so hosts far
//! apart still differ. [`CpuTemplate::differences`] tells which listed bits two hosts would not agree on.
//!
//! Bits: Intel SDM volume 2, CPUID.

use kvm_bindings::kvm_cpuid_entry2;
use thiserror::Error;

use super::cpuid::{Table, vendor_id};

/// A look of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CpuTemplate {
    /// The host's own.
    #[default]
    Host,
    /// An Intel processor of the Haswell generation (signature 0x306f2).
    T2,
    /// An Intel processor of the Ivy Bridge generation (signature 0x306e4).
    C3,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No template has this name.
    #[error("there is no CPU template {name:?}; use T2, C3 or host")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The template is for processors of another vendor.
    #[error(
        "the CPU template {template:?} is for processors of {needs}, but this host's is of {host}; use host"
    )]
    Vendor {
        /// The template.
        template: CpuTemplate,
        /// Vendor it is for.
        needs: &'static str,
        /// Vendor of the host's processor.
        host: String,
    },
}

/// A register of a CPUID entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

impl Register {
    fn of(self, entry: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Register::Eax => &mut entry.eax,
            Register::Ebx => &mut entry.ebx,
            Register::Ecx => &mut entry.ecx,
            Register::Edx => &mut entry.edx,
        }
    }
}

/// What a template does to one register: bits that are cleared, and bits that are set then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    /// Leaf.
    pub function: u32,
    /// Sub-leaf.
    pub index: u32,
    /// Register.
    pub register: Register,
    /// Bits that are 0 afterwards, unless set.
    pub clear: u32,
    /// Bits that are 1 afterwards.
    pub set: u32,
}

const INTEL: &str = "GenuineIntel";

/// Stepping, model, family, type and their extensions.
const SIGNATURE: u32 = 0x0fff_3fff;

const fn bits<const N: usize>(list: [u32; N]) -> u32 {
    let mut bits = 0;
    let mut at = 0;
    while at < N {
        // A constant list: a number beyond it does not compile.
        #[allow(clippy::indexing_slicing)]
        let bit = list[at];
        bits |= 1 << bit;
        at += 1;
    }
    bits
}

/// DTES64, MONITOR, DS-CPL, TM2, CNXT-ID, SDBG, xTPR, PDCM, OSXSAVE (which the guest's own setting makes visible).
const T2_1_ECX: u32 = bits([2, 3, 4, 8, 10, 11, 14, 15, 27]);
/// PSN, DS, ACPI, SS, TM, PBE.
const T2_1_EDX: u32 = bits([18, 21, 22, 27, 29, 31]);
/// SGX, HLE, FDP_EXCPTN_ONLY, RTM, RDT-M, MPX, RDT-A, AVX-512 F and DQ, RDSEED, ADX, AVX-512 IFMA, CLFLUSHOPT, CLWB, PT,
/// AVX-512 PF, ER and CD, SHA, AVX-512 BW and VL.
const T2_7_EBX: u32 = bits([2, 4, 6, 11, 12, 14, 15, 16, 17, 18, 19, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31]);
/// AVX-512 VBMI, PKU, OSPKE, AVX-512 VPOPCNTDQ, RDPID, SGX-LC.
const T2_7_ECX: u32 = bits([1, 3, 4, 14, 22, 30]);
/// AVX-512 4VNNIW and 4FMAPS.
const T2_7_EDX: u32 = bits([2, 3]);
/// State of MPX and AVX-512.
const T2_D_0_EAX: u32 = bits([3, 4, 5, 6, 7]);
/// XSAVEC, XGETBV with ECX 1, XSAVES.
const T2_D_1_EAX: u32 = bits([1, 2, 3]);
/// PREFETCHW.
const T2_EXT_ECX: u32 = bits([8]);
/// Pages of 1 GiB.
const T2_EXT_EDX: u32 = bits([26]);

/// Also FMA, MOVBE.
const C3_1_ECX: u32 = T2_1_ECX | bits([12, 22]);
/// Also BMI1, AVX2, BMI2, INVPCID.
const C3_7_EBX: u32 = T2_7_EBX | bits([3, 5, 8, 10]);
/// Also LZCNT.
const C3_EXT_ECX: u32 = T2_EXT_ECX | bits([5]);

const fn clear(function: u32, index: u32, register: Register, clear: u32) -> Mask {
    Mask { function, index, register, clear, set: 0 }
}

const fn signature(set: u32) -> Mask {
    Mask { function: 1, index: 0, register: Register::Eax, clear: SIGNATURE, set }
}

const T2: [Mask; 10] = [
    signature(0x306f2),
    clear(1, 0, Register::Ecx, T2_1_ECX),
    clear(1, 0, Register::Edx, T2_1_EDX),
    clear(7, 0, Register::Ebx, T2_7_EBX),
    clear(7, 0, Register::Ecx, T2_7_ECX),
    clear(7, 0, Register::Edx, T2_7_EDX),
    clear(0xd, 0, Register::Eax, T2_D_0_EAX),
    clear(0xd, 1, Register::Eax, T2_D_1_EAX),
    clear(0x8000_0001, 0, Register::Ecx, T2_EXT_ECX),
    clear(0x8000_0001, 0, Register::Edx, T2_EXT_EDX),
];

const C3: [Mask; 10] = [
    signature(0x306e4),
    clear(1, 0, Register::Ecx, C3_1_ECX),
    clear(1, 0, Register::Edx, T2_1_EDX),
    clear(7, 0, Register::Ebx, C3_7_EBX),
    clear(7, 0, Register::Ecx, T2_7_ECX),
    clear(7, 0, Register::Edx, T2_7_EDX),
    clear(0xd, 0, Register::Eax, T2_D_0_EAX),
    clear(0xd, 1, Register::Eax, T2_D_1_EAX),
    clear(0x8000_0001, 0, Register::Ecx, C3_EXT_ECX),
    clear(0x8000_0001, 0, Register::Edx, T2_EXT_EDX),
];

impl CpuTemplate {
    /// The template of a name: `T2`, `C3` or `host`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Unknown`].
    pub fn named(name: &str) -> Result<Self, TemplateError> {
        match name {
            "host" => Ok(CpuTemplate::Host),
            "T2" => Ok(CpuTemplate::T2),
            "C3" => Ok(CpuTemplate::C3),
            _ => Err(TemplateError::Unknown { name: name.to_owned() }),
        }
    }

    /// What it does, register by register.
    pub fn masks(self) -> &'static [Mask] {
        match self {
            CpuTemplate::Host => &[],
            CpuTemplate::T2 => &T2,
            CpuTemplate::C3 => &C3,
        }
    }

    /// Checks that it is for processors like the host's, by the host's CPUID.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Vendor`].
    pub fn check(self, host: &[kvm_cpuid_entry2]) -> Result<(), TemplateError> {
        let vendor = vendor_id(host).unwrap_or_default();
        if self != CpuTemplate::Host && vendor != INTEL {
            return Err(TemplateError::Vendor { template: self, needs: INTEL, host: vendor });
        }
        Ok(())
    }

    /// Changes the finished CPUID of a vCPU.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Vendor`]; nothing has changed then.
    pub fn apply(self, entries: &mut [kvm_cpuid_entry2]) -> Result<(), TemplateError> {
        self.check(entries)?;
        for mask in self.masks() {
            let of_it = |e: &&mut kvm_cpuid_entry2| (e.function, e.index) == (mask.function, mask.index);
            for entry in entries.iter_mut().filter(of_it) {
                let register = mask.register.of(entry);
                *register = *register & !mask.clear | mask.set;
            }
        }
        Ok(())
    }

    /// The feature bits that a guest of `one` host sees and one of the `other` does not, or the reverse, with this
    /// template: leaf, sub-leaf, register, bits. Before a guest moves, this must be empty.
    pub fn differences(
        self,
        one: &[kvm_cpuid_entry2],
        other: &[kvm_cpuid_entry2],
    ) -> Vec<(u32, u32, Register, u32)> {
        let mut found = Vec::new();
        for (function, index, register) in FEATURES {
            let seen = |host: &[kvm_cpuid_entry2]| {
                let mut entry = Table::new(host).sub_leaf(function, index).unwrap_or_default();
                let of_it = |m: &&Mask| (m.function, m.index, m.register) == (function, index, register);
                let clear = self.masks().iter().filter(of_it).fold(0, |clear, mask| clear | mask.clear);
                *register.of(&mut entry) & !clear
            };
            let bits = seen(one) ^ seen(other);
            if bits != 0 {
                found.push((function, index, register, bits));
            }
        }
        found
    }
}

/// Registers that list features.
const FEATURES: [(u32, u32, Register); 11] = [
    (1, 0, Register::Ecx),
    (1, 0, Register::Edx),
    (7, 0, Register::Ebx),
    (7, 0, Register::Ecx),
    (7, 0, Register::Edx),
    (7, 1, Register::Eax),
    (7, 1, Register::Edx),
    (0xd, 0, Register::Eax),
    (0xd, 1, Register::Eax),
    (0x8000_0001, 0, Register::Ecx),
    (0x8000_0001, 0, Register::Edx),
];

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
