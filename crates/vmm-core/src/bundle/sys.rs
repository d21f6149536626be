//! The dynamic linker, and the calls into a bundle.

use std::ffi::{c_char, c_int};

use libloading::os::unix;
use vm_memory::VolatileSlice;

use super::RawKernel;

type GetVersion = unsafe extern "C" fn() -> c_int;
type GetKernel = unsafe extern "C" fn(*mut usize, *mut usize, *mut usize) -> *mut c_char;

/// A loaded library; unloaded on drop.
#[derive(Debug)]
pub(super) struct Library(unix::Library);

impl Library {
    pub fn open(name: &str) -> Result<Self, String> {
        // SAFETY: loading runs the library's initialisers. That they are sound is the documented condition
        // of `Bundle`. Symbols stay local, so no other library is re-bound.
        let library = unsafe { unix::Library::open(Some(name), unix::RTLD_NOW | unix::RTLD_LOCAL) };
        // The error's own text is only that it failed; what the linker says is its source.
        library.map(Library).map_err(|e| std::error::Error::source(&e).unwrap_or(&e).to_string())
    }

    pub fn version(&self) -> Result<i32, &'static str> {
        // SAFETY: this is the prototype the function has in every bundle ABI so far.
        let function = unsafe { self.0.get::<GetVersion>(c"krunfw_get_version") };
        let function = function.map_err(|_| "krunfw_get_version")?;
        // SAFETY: the library is loaded, and the function takes nothing.
        Ok(unsafe { function() })
    }

    pub fn kernel(&self) -> Result<RawKernel, &'static str> {
        // SAFETY: the caller checked the ABI version, which fixes this prototype.
        let function = unsafe { self.0.get::<GetKernel>(c"krunfw_get_kernel") };
        let function = function.map_err(|_| "krunfw_get_kernel")?;
        let (mut load, mut entry, mut size) = (0, 0, 0);
        // SAFETY: the library is loaded, and the three pointers are valid for writes of a size_t each.
        let pointer = unsafe { function(&raw mut load, &raw mut entry, &raw mut size) };
        Ok(RawKernel { pointer: pointer as usize, load: load as u64, entry: entry as u64, size: size as u64 })
    }

    /// Copies the `target.len()` bytes at `pointer`, which must be what [`Library::kernel`] returned.
    pub fn copy_volatile(&self, pointer: usize, target: &VolatileSlice<'_>) {
        // SAFETY: `krunfw_get_kernel` promises that many readable bytes while the library is loaded, which
        // `self` is proof of, and the memory map was asked to confirm it. The accesses are volatile, so a
        // concurrent writer can only change which bytes are copied.
        let source = unsafe { VolatileSlice::<()>::new(pointer as *mut u8, target.len()) };
        source.copy_to_volatile_slice(*target);
    }
}
