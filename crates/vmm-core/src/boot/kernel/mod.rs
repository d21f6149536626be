//! Kernels and initial RAM disks in files.
//!
//! What a file is, its content says, not its name:
//!
//! | content | what is done with it |
//! |---|---|
//! | ELF image (`vmlinux`) | segments go to the physical addresses they name |
//! | bzImage (Linux `Documentation/arch/x86/boot.rst`) | the payload that its header names is unpacked and is an ELF image; one in a format not known here unpacks itself |
//! | EFI zboot image (`MZ`, `zimg`) | as a bzImage with such a payload |
//! | anything else with a gzip, bzip2, xz, LZ4 or zstd stream in it | the first stream that unpacks to an ELF image |
//! | flat bytes | only if asked for, with load address and entry |
//!
//! An image unpacked here boots sooner and does not choose a random address (KASLR); [`BootMethod::SelfUnpacking`] has
//! both from the kernel's own code.
//!
//! A file is as trustworthy as who names it, but not well-formed: every number in it is checked, and no more is read
//! or unpacked than [`MAX_KERNEL`]. Guest RAM must be zero where a kernel goes, as fresh RAM is: nothing clears the
//! part of a segment that has no bytes in the file.
//!
//! ```no_run
//! use purlin_vmm_core::boot::kernel::{self, BootMethod};
//! use purlin_vmm_core::memory::{MemoryLayout, RamConfig, alloc::allocate};
//!
//! let layout = MemoryLayout::new(256 << 20)?;
//! let ram = allocate(&layout, &RamConfig::default())?;
//! let kernel = kernel::load("/boot/vmlinuz".as_ref(), BootMethod::Auto, &ram, &layout)?;
//! let disk = kernel::load_initrd("/boot/initrd".as_ref(), &kernel, &ram, &layout)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acpi_mark;
mod detect;
mod elf;
mod error;
mod facts;
pub mod fuzz;
mod image;
mod initrd;
mod load;
pub(super) mod setup_header;
mod unpack;

pub use error::{ImageError, KernelError};
pub use facts::{KernelFacts, facts};
pub use initrd::load_initrd;
pub use load::{load, load_image};
pub use setup_header::SetupHeader;
pub use unpack::Compression;

/// Largest accepted kernel file, unpacked kernel and RAM disk in bytes (1 GiB, what the boot page tables map).
pub const MAX_KERNEL: u64 = 1 << 30;

/// How a kernel is to be found in its file and entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BootMethod {
    /// By content; entered in 64-bit mode, or by PVH if that is the only entry it has.
    #[default]
    Auto,
    /// By content; entered by its PVH entry, which it must have.
    Pvh,
    /// A bzImage that unpacks itself.
    SelfUnpacking,
    /// The whole file as it is.
    Raw {
        /// Guest address of its first byte, a page at or above 1 MiB.
        load: u64,
        /// Guest address of its first instruction, in 64-bit mode.
        entry: u64,
    },
}

/// Where and how the first processor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// 64-bit mode, zero page in RSI (x86 boot protocol, "64-bit Boot Protocol").
    Long(u64),
    /// 32-bit protected mode, `hvm_start_info` in EBX (Xen `docs/misc/pvh.pandoc`).
    Pvh(u32),
    /// Where it is after a reset: the first processor in [firmware](super::firmware), the others waiting for it.
    Reset,
}

/// A kernel in guest RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedKernel {
    /// Its first instruction.
    pub entry: Entry,
    /// First guest address that is free again, space for `.bss` included.
    pub end: u64,
    /// The setup header of the bzImage it came in.
    pub header: Option<SetupHeader>,
    /// Whether it reads ACPI tables, as far as its bytes tell.
    pub has_acpi: Option<bool>,
}

#[cfg(test)]
mod tests;
