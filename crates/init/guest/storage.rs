//! Mounts that the host asks for.

use alloc::ffi::CString;
use core::ffi::CStr;

use crate::errno::Errno;
use crate::files::make_path;
use crate::mounts::{self, FsType, MountRequest, flags};
use crate::sys::{self, Result};

/// Longest list of the kernel's that is read, bytes.
const MAX_LIST: usize = 1 << 20;

/// Mounts something, on a place that is made if it is missing.
pub fn mount(request: &MountRequest) -> Result<()> {
    let MountRequest { source, target, kind, flags, data } = request;
    make_path(target)?;
    let mount = |kind: &CStr| sys::mount_with(source, target, kind, *flags, data.as_deref());
    match kind {
        FsType::Named(kind) => mount(kind),
        FsType::Probe => probe(mount),
    }
}

/// Tries the kernel's file systems for devices. What counts of the errors is one that says more than "not mine".
fn probe(mount: impl Fn(&CStr) -> Result<()>) -> Result<()> {
    let list = sys::read_file(c"/proc/filesystems", MAX_LIST)?;
    let mut answer = Errno::NODEV;
    for kind in mounts::device_file_systems(&list) {
        match mount(&kind) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL) if answer != Errno::NODEV => {}
            Err(why) => answer = why,
        }
    }
    Err(answer)
}

/// Mounts a tmpfs on the first place that is none yet.
pub fn mount_tmpfs(places: &[CString]) -> Result<()> {
    const FLAGS: usize = flags::NODEV | flags::NOEXEC | flags::NOSUID | flags::RELATIME;
    let mounted = sys::read_file(c"/proc/mounts", MAX_LIST)?;
    let Some(place) = places.iter().find(|place| !mounts::is_mounted(&mounted, place.as_bytes())) else {
        return Ok(());
    };
    make_path(place)?;
    sys::mount(c"tmpfs", place, FLAGS)
}

/// Makes the mount at `place` the root.
pub fn switch_root(place: &CStr) -> Result<()> {
    sys::change_directory(place)?;
    sys::move_to_root()
}
