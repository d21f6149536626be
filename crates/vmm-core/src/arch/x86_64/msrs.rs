//! Model-specific registers at boot.

use kvm_bindings::kvm_msr_entry;

/// Time stamp counter.
pub const TSC: u32 = 0x10;
/// `IA32_MISC_ENABLE`; bit 0 enables fast string operations.
pub const MISC_ENABLE: u32 = 0x1a0;
/// `IA32_MTRR_DEF_TYPE`; bit 11 enables the MTRRs, bits 7:0 are the default memory type (6: write-back).
pub const MTRR_DEF_TYPE: u32 = 0x2ff;

/// Register numbers and values at boot (Intel SDM volume 4): the system call registers zero, the time stamp
/// counter zero, fast strings on, and all memory write-back by default.
///
/// KVM must accept all of them (`KVM_SET_MSRS` returns the number it took).
pub const BOOT: [(u32, u64); 11] = [
    (0x174, 0),       // IA32_SYSENTER_CS
    (0x175, 0),       // IA32_SYSENTER_ESP
    (0x176, 0),       // IA32_SYSENTER_EIP
    (0xc000_0081, 0), // IA32_STAR
    (0xc000_0082, 0), // IA32_LSTAR
    (0xc000_0083, 0), // IA32_CSTAR
    (0xc000_0084, 0), // IA32_FMASK
    (0xc000_0102, 0), // IA32_KERNEL_GS_BASE
    (TSC, 0),
    (MISC_ENABLE, 1),
    (MTRR_DEF_TYPE, 0x806),
];

/// [`BOOT`] as `KVM_SET_MSRS` takes it.
pub fn boot_msrs() -> [kvm_msr_entry; BOOT.len()] {
    BOOT.map(|(index, data)| kvm_msr_entry { index, data, reserved: 0 })
}
