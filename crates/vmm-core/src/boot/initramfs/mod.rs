//! Initial RAM disks, made on the host: an archive of directories, programs with their shared libraries, and
//! files, as Linux unpacks it into its first root file system (Linux
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! An archive is two streams, one behind the other:
//!
//! - the *base*: what many machines have in common. It is compressed once, kept in shared memory under a name
//!   made of its content, and mapped into guest RAM copy on write instead of being copied.
//! - the *suffix*: the files of one run, a [`SENTINEL`] and the archive's end. It follows the base in RAM.
//!
//! The cut is at an entry boundary, and each part is a stream of its own, which Linux unpacks one after the other.
//!
//! | module | what it does |
//! |---|---|
//! | [`tree`] | the entries of an archive, parents before children |
//! | [`cpio`] | the archive format |
//! | [`lz4`] | the compressed form that Linux reads |
//! | [`program`] | what an ELF program asks its loader for |
//! | [`closure`] | the shared libraries of a program, and where its loader finds them in the guest |
//! | [`sizing`] | the RAM a machine needs for its archive |
//! | [`shell`] | reads the host's files, keeps bases in shared memory, puts archives into guest RAM |
//!
//! All but [`shell`] are pure: bytes in, bytes out.
//!
//! ```
//! use purlin_vmm_core::boot::initramfs::shell::InitramfsBuilder;
//!
//! let archive = InitramfsBuilder::new()
//!     .cache(None) // or, by default, in shared memory
//!     .directory("/proc", 0o755)
//!     .content("/etc/hostname", 0o644, &b"guest\n"[..])
//!     .per_run("/etc/run", 0o644, &b"1\n"[..])
//!     .build()?;
//! assert_eq!(archive.sizes().unpacked % 512, 0);
//! # Ok::<(), purlin_vmm_core::boot::initramfs::InitramfsError>(())
//! ```

pub mod closure;
pub mod cpio;
mod error;
#[doc(hidden)]
#[allow(clippy::expect_used)] // it is to panic
pub mod fuzz;
pub mod lz4;
pub mod program;
pub mod shell;
pub mod sizing;
pub mod tree;

pub use error::InitramfsError;

/// The last file of every archive. Linux drops entries that it cannot create without an error; an init that misses
/// this file knows that its root is incomplete.
pub const SENTINEL: &str = "/.purlin-initramfs";

/// Most bytes of an unpacked archive (2 GiB), and of one file in it.
pub const MAX_UNPACKED: u64 = 2 << 30;
