//! Kernel bundles: shared libraries of the libkrunfw family that carry a guest kernel as data. Shell code.
//!
//! A bundle exports (libkrunfw 5, C linkage) `int krunfw_get_version(void)` and
//! `char *krunfw_get_kernel(size_t *load_addr, size_t *entry_addr, size_t *size)`. The kernel is the
//! `PT_LOAD` contents of a `vmlinux` at their physical spacing; its `.bss` is not in it, so the RAM behind
//! it must exist and be zero ([`MemoryLayout::check_kernel`](crate::memory::MemoryLayout::check_kernel)).
//! The entry point is the 64-bit one and usually not the first byte.
//!
//! The bytes are copied into guest RAM and the library can be dropped at once: the kernel is then not in
//! the VMM's resident memory, and any number of virtual machines in a process boot the same clean kernel.
//! The copy is read from the library's file where that can be found, so that the library's own pages are
//! not even touched, and a VMM in the same process that lets its guest run in those pages does no harm.

#![deny(unsafe_code)]

mod maps;
#[allow(unsafe_code)]
mod sys;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use thiserror::Error;

use crate::memory::layout::PAGE_SIZE;
use crate::memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestRam};
use maps::{FilePart, Lookup};
use sys::Library;

/// The name a bundle is looked up by when none is given: the SONAME of libkrunfw's ABI 5.
pub const SONAME: &str = "libkrunfw.so.5";
/// The value `krunfw_get_version` must return.
pub const ABI_VERSION: i32 = 5;
/// Largest accepted kernel, in bytes (1 GiB: what the boot page tables map).
pub const MAX_SIZE: u64 = 1 << 30;

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BundleSource {
    /// [`SONAME`], found by the dynamic linker: a library of that SONAME that is already loaded, then
    /// `LD_LIBRARY_PATH`, the linker's cache and the default directories.
    #[default]
    Soname,
    /// A file, whatever its name.
    Path(PathBuf),
}

/// Why a bundle cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file named does not exist or cannot be read.
    #[error("kernel bundle {} cannot be read; check the path", path.display())]
    Path {
        /// The path as given.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The dynamic linker could not load the library.
    #[error(
        "kernel bundle {name} cannot be loaded: {reason}. For a bare name the dynamic linker looks in \
         LD_LIBRARY_PATH ({search}), its cache (ldconfig -p) and the default library directories; install \
         libkrunfw, or name the file"
    )]
    Load {
        /// The name or path given to the linker.
        name: String,
        /// The value of `LD_LIBRARY_PATH`.
        search: String,
        /// What the linker said.
        reason: String,
    },
    /// The library is not a kernel bundle.
    #[error("{name} is not a kernel bundle: it does not export {symbol}")]
    Symbol {
        /// The name or path of the library.
        name: String,
        /// The missing function.
        symbol: &'static str,
    },
    /// The bundle is of another ABI.
    #[error("kernel bundle {name} has ABI version {found}, this library needs {ABI_VERSION}")]
    Version {
        /// The name or path of the library.
        name: String,
        /// The version it reports.
        found: i32,
    },
    /// The kernel it describes is impossible.
    #[error("kernel bundle {name} is malformed: {field} is {value:#x}, expected {expected}")]
    Malformed {
        /// The name or path of the library.
        name: String,
        /// What is wrong: `pointer`, `size`, `load address` or `entry address`.
        field: &'static str,
        /// The value.
        value: u64,
        /// The rule it breaks.
        expected: &'static str,
    },
    /// The kernel could not be read from the bundle's file.
    #[error("cannot read {size} bytes of kernel from {}", path.display())]
    Read {
        /// The library's file.
        path: PathBuf,
        /// Bytes wanted.
        size: u64,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Guest RAM does not hold `[load, load + size)`.
    #[error("kernel of {size} bytes at {load:#x} does not fit guest RAM; ask for more RAM")]
    Guest {
        /// Guest address of the first byte.
        load: u64,
        /// Size in bytes.
        size: u64,
        /// What the memory said.
        #[source]
        source: GuestMemoryError,
    },
}

/// What `krunfw_get_kernel` answered, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawKernel {
    pointer: usize,
    load: u64,
    entry: u64,
    size: u64,
}

/// A loaded kernel bundle. Dropping it unloads the library (unless someone else uses it).
///
/// `Send` and `Sync`. Opening one runs the library's initialisers, as linking against it would: the file
/// must be as trustworthy as the VMM itself.
///
/// ```no_run
/// use purlin_vmm_core::bundle::{Bundle, BundleSource};
/// use purlin_vmm_core::memory::{MemoryLayout, RamConfig, alloc::allocate};
///
/// let layout = MemoryLayout::new(256 << 20)?;
/// let ram = allocate(&layout, &RamConfig::default())?;
/// let bundle = Bundle::open(&BundleSource::Soname)?;
/// layout.check_kernel(bundle.load_addr(), bundle.size())?;
/// bundle.copy_to(&ram)?;
/// let entry = bundle.entry();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Bundle {
    name: String,
    kernel: RawKernel,
    library: Library,
}

impl Bundle {
    /// Loads a bundle and checks what it describes. Blocks for file reads.
    ///
    /// # Errors
    ///
    /// [`BundleError`]; the library is unloaded again then.
    pub fn open(source: &BundleSource) -> Result<Self, BundleError> {
        let name = linker_name(source)?;
        let library = Library::open(&name).map_err(|reason| BundleError::Load {
            name: name.clone(),
            search: search_path(),
            reason,
        })?;
        let missing = |symbol| BundleError::Symbol { name: name.clone(), symbol };
        let found = library.version().map_err(missing)?;
        if found != ABI_VERSION {
            return Err(BundleError::Version { name, found });
        }
        let kernel = library.kernel().map_err(missing)?;
        check(&name, kernel)?;
        Ok(Bundle { name, kernel, library })
    }

    /// Guest address of the first byte; page aligned.
    pub fn load_addr(&self) -> u64 {
        self.kernel.load
    }

    /// Guest address of the 64-bit entry point, inside the kernel.
    pub fn entry(&self) -> u64 {
        self.kernel.entry
    }

    /// Size in bytes, a multiple of 4096, at most [`MAX_SIZE`]; without `.bss`.
    pub fn size(&self) -> u64 {
        self.kernel.size
    }

    /// Copies the kernel to its place in guest RAM.
    ///
    /// # Errors
    ///
    /// [`BundleError::Guest`] if that is not RAM, [`BundleError::Malformed`] if the library's data is
    /// shorter than it says, [`BundleError::Read`] if its file cannot be read.
    pub fn copy_to(&self, ram: &GuestRam) -> Result<(), BundleError> {
        let RawKernel { pointer, load, size, .. } = self.kernel;
        let guest = |source| BundleError::Guest { load, size, source };
        // At most MAX_SIZE, so it fits any usize.
        let len = size as usize;
        let target = ram.get_slice(GuestAddress(load), len).map_err(guest)?;
        match locate(pointer, size) {
            Lookup::File(part) => {
                if let Some(mut file) = open_same(&part) {
                    let read = |source| BundleError::Read { path: part.path.clone(), size, source };
                    file.seek(SeekFrom::Start(part.offset)).map_err(read)?;
                    return ram
                        .read_exact_volatile_from(GuestAddress(load), &mut file, len)
                        .map_err(|e| read(io::Error::other(e)));
                }
            }
            Lookup::Memory => {}
            Lookup::Unmapped => return Err(self.malformed("size", size, "no more than the library maps")),
        }
        self.library.copy_volatile(pointer, &target);
        Ok(())
    }

    fn malformed(&self, field: &'static str, value: u64, expected: &'static str) -> BundleError {
        BundleError::Malformed { name: self.name.clone(), field, value, expected }
    }
}

fn linker_name(source: &BundleSource) -> Result<String, BundleError> {
    match source {
        BundleSource::Soname => Ok(SONAME.to_owned()),
        // Absolute, because the linker would search for a name without a slash.
        BundleSource::Path(path) => {
            let error = |source| BundleError::Path { path: path.clone(), source };
            path.metadata().map_err(error)?;
            let found = std::path::absolute(path).map_err(error)?;
            let utf8 = found.into_os_string().into_string();
            utf8.map_err(|_| error(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8")))
        }
    }
}

fn search_path() -> String {
    std::env::var("LD_LIBRARY_PATH").unwrap_or_else(|_| "not set".to_owned())
}

fn check(name: &str, kernel: RawKernel) -> Result<(), BundleError> {
    let RawKernel { pointer, load, entry, size } = kernel;
    let refuse = |field, value, expected| {
        Err(BundleError::Malformed { name: name.to_owned(), field, value, expected })
    };
    if pointer == 0 {
        return refuse("pointer", 0, "an address");
    }
    if size == 0 || size > MAX_SIZE || !size.is_multiple_of(PAGE_SIZE) {
        return refuse("size", size, "a multiple of 4096 from 4096 bytes to 1 GiB");
    }
    if pointer.checked_add(size as usize).is_none() {
        return refuse("pointer", pointer as u64, "an address with room for the kernel behind it");
    }
    let Some(end) = load.checked_add(size).filter(|_| load.is_multiple_of(PAGE_SIZE)) else {
        return refuse("load address", load, "a multiple of 4096 with room for the kernel behind it");
    };
    if !(load..end).contains(&entry) {
        return refuse("entry address", entry, "an address inside the kernel");
    }
    Ok(())
}

/// Where `size` bytes at `pointer` of this process come from.
fn locate(pointer: usize, size: u64) -> Lookup {
    match std::fs::read_to_string("/proc/self/maps") {
        Ok(text) => maps::lookup(&text, pointer as u64, size),
        // Without /proc the library's word is all there is.
        Err(_) => Lookup::Memory,
    }
}

/// Opens the file behind a mapping, if its path still leads to it.
fn open_same(part: &FilePart) -> Option<File> {
    let file = File::open(&part.path).ok()?;
    let meta = file.metadata().ok()?;
    let same_device = libc::major(meta.dev()) == part.major && libc::minor(meta.dev()) == part.minor;
    (same_device && meta.ino() == part.inode).then_some(file)
}

#[cfg(test)]
mod tests;
