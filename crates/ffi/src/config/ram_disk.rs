//! Where the initial RAM disk comes from.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use purlin_vmm_core::boot::initramfs::shell::{Initramfs, InitramfsBuilder};

/// An initial RAM disk: a file, or an archive made with [`InitramfsBuilder`]. Made from either by `into()`.
///
/// A builder is run by [`VmConfig::build`](crate::VmConfig::build), on a thread of its own beside the other work.
///
/// The base of an archive is in memory once for all machines that boot from it. When Linux has unpacked it, it writes a
/// pattern over it before it uses that memory for something else, and each machine has a copy then: machines whose kernel
/// is told to `retain_initrd` go on sharing it, and lack that much memory inside.
#[derive(Debug)]
pub struct RamDisk(pub(crate) RamDiskSource);

#[derive(Debug)]
pub(crate) enum RamDiskSource {
    File(PathBuf),
    Archive(Initramfs),
    Builder(Box<InitramfsBuilder>),
}

impl RamDisk {
    /// A file, which may be of any form that the kernel unpacks.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        RamDisk(RamDiskSource::File(path.into()))
    }
}

impl From<Initramfs> for RamDisk {
    fn from(archive: Initramfs) -> Self {
        RamDisk(RamDiskSource::Archive(archive))
    }
}

impl From<InitramfsBuilder> for RamDisk {
    fn from(builder: InitramfsBuilder) -> Self {
        RamDisk(RamDiskSource::Builder(Box::new(builder)))
    }
}

macro_rules! from_path {
    ($($path:ty),*) => {
        $(impl From<$path> for RamDisk {
            fn from(path: $path) -> Self {
                RamDisk::file(path)
            }
        })*
    };
}

from_path!(PathBuf, &Path, &str, String, &String, &OsStr, OsString, &PathBuf);
