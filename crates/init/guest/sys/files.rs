//! Files, directories and mounts.

use alloc::vec::Vec;
use core::ffi::CStr;

use super::{AT_FDCWD, Fd, O_CLOEXEC, Result, call, flag, new_fd, read, text, write};
use crate::arch::number as nr;
use crate::errno::Errno;

pub fn open(path: &CStr, flags: usize) -> Result<Fd> {
    open_raw(AT_FDCWD, path, flags | O_CLOEXEC)
}

/// Opens a file that programs executed later keep.
pub fn open_inheritable(path: &CStr, flags: usize) -> Result<Fd> {
    open_raw(AT_FDCWD, path, flags)
}

pub fn open_at(directory: &Fd, path: &CStr, flags: usize) -> Result<Fd> {
    open_raw(directory.argument(), path, flags | O_CLOEXEC)
}

fn open_raw(directory: usize, path: &CStr, flags: usize) -> Result<Fd> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::OPENAT, [directory, text(path), flags, 0, 0, 0]) }.map(new_fd)
}

/// Opens a file, which is made with `mode` if the flags say so.
pub fn create(path: &CStr, flags: usize, mode: usize) -> Result<Fd> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::OPENAT, [AT_FDCWD, text(path), flags | O_CLOEXEC, mode, 0, 0]) }.map(new_fd)
}

pub fn write_all(file: &Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(file.number(), bytes)? {
            0 => return Err(Errno::IO),
            count => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

pub fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::UNLINKAT, [AT_FDCWD, text(path), 0, 0, 0, 0]) }.map(drop)
}

/// Gives an open file to a user.
pub fn change_owner(fd: usize, uid: u32) -> Result<()> {
    const SAME_GROUP: usize = u32::MAX as usize;
    // SAFETY: no pointers.
    unsafe { call(nr::FCHOWN, [fd, uid as usize, SAME_GROUP, 0, 0, 0]) }.map(drop)
}

pub fn directory_records(fd: &Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    unsafe { call(nr::GETDENTS64, [fd.argument(), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

/// A whole file; `EFBIG` if it is longer than `limit`.
pub fn read_file(path: &CStr, limit: usize) -> Result<Vec<u8>> {
    let file = open(path, flag::READ)?;
    let mut content = Vec::new();
    let mut length = 0;
    loop {
        if length > limit {
            return Err(Errno::FBIG);
        }
        content.resize(length + 4096.max(length), 0);
        let count = read(&file, content.get_mut(length..).unwrap_or_default())?;
        length += count;
        if count == 0 {
            content.truncate(length);
            return Ok(content);
        }
    }
}

pub fn make_directory(path: &CStr, mode: usize) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::MKDIRAT, [AT_FDCWD, text(path), mode, 0, 0, 0]) }.map(drop)
}

pub fn change_mode(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::FCHMODAT, [AT_FDCWD, text(path), mode as usize, 0, 0, 0]) }.map(drop)
}

pub fn symlink(target: &CStr, link: &CStr) -> Result<()> {
    // SAFETY: the strings live through the call.
    unsafe { call(nr::SYMLINKAT, [text(target), AT_FDCWD, text(link), 0, 0, 0]) }.map(drop)
}

/// Mounts a file system without a device, with its type as its source.
pub fn mount(kind: &CStr, target: &CStr, flags: usize) -> Result<()> {
    // SAFETY: the strings live through the call; there is no data argument.
    unsafe { call(nr::MOUNT, [text(kind), text(target), text(kind), flags, 0, 0]) }.map(drop)
}

/// Mounts a file system with all that it can be given.
pub fn mount_with(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: usize,
    data: Option<&CStr>,
) -> Result<()> {
    let data = data.map_or(0, text);
    // SAFETY: the strings live through the call; file systems take their data as a string.
    unsafe { call(nr::MOUNT, [text(source), text(target), text(kind), flags, data, 0]) }.map(drop)
}

/// Moves the mount at the working directory to `/` and makes it the root.
pub fn move_to_root() -> Result<()> {
    const MS_MOVE: usize = 1 << 13;
    // SAFETY: the strings live through the call; a move has no other argument.
    unsafe { call(nr::MOUNT, [text(c"."), text(c"/"), 0, MS_MOVE, 0, 0]) }?;
    // SAFETY: the string lives through the call.
    unsafe { call(nr::CHROOT, [text(c"."), 0, 0, 0, 0, 0]) }.map(drop)
}

pub fn share_mounts() -> Result<()> {
    const MS_REC: usize = 1 << 14;
    const MS_SHARED: usize = 1 << 20;
    // SAFETY: the string lives through the call; a change of propagation has no other argument.
    unsafe { call(nr::MOUNT, [0, text(c"/"), 0, MS_REC | MS_SHARED, 0, 0]) }.map(drop)
}

pub fn change_directory(path: &CStr) -> Result<()> {
    // SAFETY: the string lives through the call.
    unsafe { call(nr::CHDIR, [text(path), 0, 0, 0, 0, 0]) }.map(drop)
}
