//! FUSE requests, parsed once from bytes that were copied out of guest memory. Pure.
//!
//! Numbers and layouts: `include/uapi/linux/fuse.h` (protocol 7.38), structures from `fuse-backend-rs`.

use std::ffi::CStr;

use fuse_backend_rs::abi::fuse_abi::{
    BatchForgetIn, CopyFileRangeIn, CreateIn, FallocateIn, ForgetIn, ForgetOne, FsyncIn, GETATTR_FH,
    GetattrIn, GetxattrIn, InHeader, InitIn, IoctlIn, LinkIn, LseekIn, MkdirIn, MknodIn, Opcode, OpenIn,
    OutHeader, ReadIn, ReleaseIn, Rename2In, RenameIn, SetattrIn, SetxattrIn, WriteIn,
};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingIn, RemovemappingOne, SetupmappingIn};
use purlin_vmm_core::memory::ByteValued;
use rustix::io::Errno;

use super::names::{TARGET_MAX, XATTR_NAME_MAX, component, only_str, take_str};

/// Most data bytes in one READ or WRITE: 256 pages, as INIT tells the guest.
pub(super) const MAX_DATA: usize = 1 << 20;
/// Most bytes of a request besides the header and WRITE data. A value of an extended attribute (64 KiB)
/// is the longest legal part.
pub(super) const MAX_BODY: usize = 128 << 10;
/// Bytes of the request header.
pub(super) const IN_HEADER: usize = size_of::<InHeader>();
/// Bytes of the reply header.
pub(super) const OUT_HEADER: usize = size_of::<OutHeader>();

/// FUSE_TMPFILE (protocol 7.37), which the structures' crate does not know.
pub(super) const TMPFILE: u32 = 51;
/// Set in the second flags word's place when it is there (`FUSE_INIT_EXT`).
const INIT_EXT: u32 = 1 << 30;
/// Longest value of an extended attribute (Linux `XATTR_SIZE_MAX`).
const XATTR_SIZE_MAX: usize = 64 << 10;

/// What the header says may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A reply is expected.
    Reply,
    /// The driver reads no reply: FORGET, BATCH_FORGET, INTERRUPT.
    Silent,
}

pub(super) fn answer(opcode: u32) -> Answer {
    const FORGET: u32 = Opcode::Forget as u32;
    const BATCH_FORGET: u32 = Opcode::BatchForget as u32;
    const INTERRUPT: u32 = Opcode::Interrupt as u32;
    match opcode {
        FORGET | BATCH_FORGET | INTERRUPT => Answer::Silent,
        _ => Answer::Reply,
    }
}

/// Checks the header against the chain it came in: `readable` and `writable` are the lengths of its two
/// parts, header included. Returns how many bytes of body to copy out before [`Request::parse`]; the data
/// of a WRITE stays in guest memory behind them.
pub(super) fn body_len(header: &InHeader, readable: usize, writable: usize) -> Result<usize, Errno> {
    if header.len as usize != readable {
        return Err(Errno::INVAL);
    }
    if answer(header.opcode) == Answer::Reply && writable < OUT_HEADER {
        return Err(Errno::INVAL);
    }
    let body = readable.checked_sub(IN_HEADER).ok_or(Errno::INVAL)?;
    if header.opcode == Opcode::Write as u32 {
        let fixed = size_of::<WriteIn>();
        return if body < fixed || body > fixed + MAX_DATA { Err(Errno::INVAL) } else { Ok(fixed) };
    }
    if body > MAX_BODY { Err(Errno::TOOBIG) } else { Ok(body) }
}

/// One request, checked and typed. Names are single path components.
#[derive(Debug, Clone)]
pub(super) enum Request<'a> {
    Lookup {
        name: &'a CStr,
    },
    Forget {
        lookups: u64,
    },
    BatchForget {
        items: &'a [u8],
    },
    Getattr {
        fh: Option<u64>,
    },
    Setattr(SetattrIn),
    Readlink,
    Symlink {
        name: &'a CStr,
        target: &'a CStr,
    },
    Mknod {
        args: MknodIn,
        name: &'a CStr,
    },
    Mkdir {
        mode: u32,
        name: &'a CStr,
    },
    Unlink {
        name: &'a CStr,
    },
    Rmdir {
        name: &'a CStr,
    },
    Rename {
        new_dir: u64,
        flags: u32,
        old: &'a CStr,
        new: &'a CStr,
    },
    Link {
        node: u64,
        name: &'a CStr,
    },
    Open(OpenIn),
    Create {
        args: CreateIn,
        name: &'a CStr,
    },
    Read(ReadIn),
    Write(WriteIn),
    Statfs,
    Release {
        fh: u64,
    },
    Fsync {
        fh: u64,
        data_only: bool,
    },
    Setxattr {
        name: &'a CStr,
        value: &'a [u8],
        flags: u32,
    },
    Getxattr {
        name: &'a CStr,
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Removexattr {
        name: &'a CStr,
    },
    Init {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u64,
    },
    Opendir,
    Readdir {
        args: ReadIn,
        plus: bool,
    },
    Releasedir {
        fh: u64,
    },
    Fsyncdir {
        fh: u64,
        data_only: bool,
    },
    Interrupt,
    Destroy,
    Ioctl(IoctlIn),
    Fallocate(FallocateIn),
    Lseek {
        fh: u64,
        offset: u64,
        whence: u32,
    },
    CopyFileRange(CopyFileRangeIn),
    SetupMapping(SetupmappingIn),
    RemoveMapping {
        items: &'a [u8],
    },
    /// A file without a name. Linux sends one, which stands for nothing.
    Tmpfile(CreateIn),
    /// Not served: the guest kernel has a fallback, or its caller gets ENOSYS.
    Unsupported,
}

/// Takes a fixed structure from the front of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<T: ByteValued + Default>(&mut self) -> Result<T, Errno> {
        let (head, tail) = self.0.split_at_checked(size_of::<T>()).ok_or(Errno::INVAL)?;
        let mut value = T::default();
        value.as_mut_slice().copy_from_slice(head);
        self.0 = tail;
        Ok(value)
    }

    fn name(self) -> Result<&'a CStr, Errno> {
        component(only_str(self.0)?)
    }

    fn xattr_name(self) -> Result<&'a CStr, Errno> {
        xattr_name(only_str(self.0)?)
    }
}

fn xattr_name(name: &CStr) -> Result<&CStr, Errno> {
    match name.count_bytes() {
        0 => Err(Errno::INVAL),
        n if n > XATTR_NAME_MAX => Err(Errno::RANGE),
        _ => Ok(name),
    }
}

impl<'a> Request<'a> {
    /// Parses the body of a request.
    ///
    /// # Errors
    ///
    /// EINVAL for a malformed message, ENAMETOOLONG, E2BIG and the like for values out of range.
    pub fn parse(opcode: u32, body: &'a [u8]) -> Result<Self, Errno> {
        let mut b = Body(body);
        Ok(match opcode {
            op if op == Opcode::Lookup as u32 => Request::Lookup { name: b.name()? },
            op if op == Opcode::Forget as u32 => Request::Forget { lookups: b.take::<ForgetIn>()?.nlookup },
            op if op == Opcode::BatchForget as u32 => batch_forget(b)?,
            op if op == Opcode::Getattr as u32 => {
                let args: GetattrIn = b.take()?;
                Request::Getattr { fh: (args.flags & GETATTR_FH != 0).then_some(args.fh) }
            }
            op if op == Opcode::Setattr as u32 => Request::Setattr(b.take()?),
            op if op == Opcode::Readlink as u32 => Request::Readlink,
            op if op == Opcode::Symlink as u32 => symlink(b)?,
            op if op == Opcode::Mknod as u32 => Request::Mknod { args: b.take()?, name: b.name()? },
            op if op == Opcode::Mkdir as u32 => {
                Request::Mkdir { mode: b.take::<MkdirIn>()?.mode, name: b.name()? }
            }
            op if op == Opcode::Unlink as u32 => Request::Unlink { name: b.name()? },
            op if op == Opcode::Rmdir as u32 => Request::Rmdir { name: b.name()? },
            op if op == Opcode::Rename as u32 => {
                let args: RenameIn = b.take()?;
                rename(b, args.newdir, 0)?
            }
            op if op == Opcode::Rename2 as u32 => {
                let args: Rename2In = b.take()?;
                rename(b, args.newdir, args.flags)?
            }
            op if op == Opcode::Link as u32 => {
                Request::Link { node: b.take::<LinkIn>()?.oldnodeid, name: b.name()? }
            }
            op if op == Opcode::Open as u32 => Request::Open(b.take()?),
            op if op == Opcode::Create as u32 => Request::Create { args: b.take()?, name: b.name()? },
            op if op == Opcode::Read as u32 => Request::Read(b.take()?),
            op if op == Opcode::Write as u32 => Request::Write(b.take()?),
            op if op == Opcode::Statfs as u32 => Request::Statfs,
            op if op == Opcode::Release as u32 => Request::Release { fh: b.take::<ReleaseIn>()?.fh },
            op if op == Opcode::Fsync as u32 => {
                let args: FsyncIn = b.take()?;
                Request::Fsync { fh: args.fh, data_only: args.fsync_flags & 1 != 0 }
            }
            _ => return Self::parse_more(opcode, b),
        })
    }

    fn parse_more(opcode: u32, mut b: Body<'a>) -> Result<Self, Errno> {
        Ok(match opcode {
            op if op == Opcode::Setxattr as u32 => setxattr(b)?,
            op if op == Opcode::Getxattr as u32 => {
                let size = b.take::<GetxattrIn>()?.size;
                Request::Getxattr { name: b.xattr_name()?, size: value_size(size) }
            }
            op if op == Opcode::Listxattr as u32 => {
                Request::Listxattr { size: value_size(b.take::<GetxattrIn>()?.size) }
            }
            op if op == Opcode::Removexattr as u32 => Request::Removexattr { name: b.xattr_name()? },
            op if op == Opcode::Init as u32 => init(b)?,
            op if op == Opcode::Opendir as u32 => {
                b.take::<OpenIn>()?;
                Request::Opendir
            }
            op if op == Opcode::Readdir as u32 => Request::Readdir { args: b.take()?, plus: false },
            op if op == Opcode::Readdirplus as u32 => Request::Readdir { args: b.take()?, plus: true },
            op if op == Opcode::Releasedir as u32 => Request::Releasedir { fh: b.take::<ReleaseIn>()?.fh },
            op if op == Opcode::Fsyncdir as u32 => {
                let args: FsyncIn = b.take()?;
                Request::Fsyncdir { fh: args.fh, data_only: args.fsync_flags & 1 != 0 }
            }
            op if op == Opcode::Interrupt as u32 => Request::Interrupt,
            op if op == Opcode::Destroy as u32 => Request::Destroy,
            op if op == Opcode::Ioctl as u32 => Request::Ioctl(b.take()?),
            op if op == Opcode::Fallocate as u32 => Request::Fallocate(b.take()?),
            op if op == Opcode::Lseek as u32 => {
                let args: LseekIn = b.take()?;
                Request::Lseek { fh: args.fh, offset: args.offset, whence: args.whence }
            }
            op if op == Opcode::CopyFileRange as u32 => Request::CopyFileRange(b.take()?),
            op if op == Opcode::SetupMapping as u32 => Request::SetupMapping(b.take()?),
            op if op == Opcode::RemoveMapping as u32 => remove_mapping(b)?,
            TMPFILE => {
                let args = b.take()?;
                only_str(b.0)?;
                Request::Tmpfile(args)
            }
            _ => Request::Unsupported,
        })
    }

    /// Most bytes a successful reply can need behind its header. A request whose chain has less room is
    /// refused before it changes anything.
    pub fn reply_len(&self) -> usize {
        const ENTRY: usize = 128;
        const ATTR: usize = 104;
        const OPEN: usize = 16;
        match self {
            Request::Lookup { .. }
            | Request::Symlink { .. }
            | Request::Mknod { .. }
            | Request::Mkdir { .. }
            | Request::Link { .. } => ENTRY,
            Request::Getattr { .. } | Request::Setattr(_) => ATTR,
            Request::Create { .. } | Request::Tmpfile(_) => ENTRY + OPEN,
            Request::Open(_) | Request::Opendir | Request::Ioctl(_) => OPEN,
            Request::Write(_) | Request::CopyFileRange(_) | Request::Lseek { .. } => 8,
            Request::Statfs => 80,
            Request::Getxattr { size: 0, .. } | Request::Listxattr { size: 0 } => 8,
            Request::Getxattr { size, .. } | Request::Listxattr { size } => *size as usize,
            Request::Init { .. } => 64,
            Request::Readdir { args, .. } => args.size as usize,
            _ => 0,
        }
    }
}

fn batch_forget(mut b: Body<'_>) -> Result<Request<'_>, Errno> {
    let count = b.take::<BatchForgetIn>()?.count as usize;
    let wanted = count.checked_mul(size_of::<ForgetOne>()).ok_or(Errno::INVAL)?;
    Ok(Request::BatchForget { items: b.0.get(..wanted).ok_or(Errno::INVAL)? })
}

/// The (node, count) pairs of a BATCH_FORGET.
pub(super) fn forget_items(items: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    items.chunks_exact(size_of::<ForgetOne>()).filter_map(|chunk| {
        let one: ForgetOne = Body(chunk).take().ok()?;
        Some((one.nodeid, one.nlookup))
    })
}

fn remove_mapping(mut b: Body<'_>) -> Result<Request<'_>, Errno> {
    let count = b.take::<RemovemappingIn>()?.count as usize;
    let wanted = count.checked_mul(size_of::<RemovemappingOne>()).ok_or(Errno::INVAL)?;
    Ok(Request::RemoveMapping { items: b.0.get(..wanted).ok_or(Errno::INVAL)? })
}

/// The pieces of a REMOVEMAPPING.
pub(super) fn mapping_items(items: &[u8]) -> impl Iterator<Item = RemovemappingOne> + '_ {
    items.chunks_exact(size_of::<RemovemappingOne>()).filter_map(|chunk| Body(chunk).take().ok())
}

fn symlink(b: Body<'_>) -> Result<Request<'_>, Errno> {
    let (name, rest) = take_str(b.0)?;
    let target = only_str(rest)?;
    match target.count_bytes() {
        0 => Err(Errno::NOENT),
        n if n > TARGET_MAX => Err(Errno::NAMETOOLONG),
        _ => Ok(Request::Symlink { name: component(name)?, target }),
    }
}

fn rename(b: Body<'_>, new_dir: u64, flags: u32) -> Result<Request<'_>, Errno> {
    let (old, rest) = take_str(b.0)?;
    let new = only_str(rest)?;
    Ok(Request::Rename { new_dir, flags, old: component(old)?, new: component(new)? })
}

fn setxattr(mut b: Body<'_>) -> Result<Request<'_>, Errno> {
    let args: SetxattrIn = b.take()?;
    let (name, value) = take_str(b.0)?;
    if args.size as usize != value.len() {
        return Err(Errno::INVAL);
    }
    if value.len() > XATTR_SIZE_MAX {
        return Err(Errno::TOOBIG);
    }
    Ok(Request::Setxattr { name: xattr_name(name)?, value, flags: args.flags })
}

fn init(mut b: Body<'_>) -> Result<Request<'_>, Errno> {
    let args: InitIn = b.take()?;
    // The second word of flags follows (protocol 7.36).
    let high = if args.flags & INIT_EXT != 0 { b.take::<u32>()? } else { 0 };
    let flags = u64::from(args.flags) | u64::from(high) << 32;
    Ok(Request::Init { major: args.major, minor: args.minor, max_readahead: args.max_readahead, flags })
}

/// A size the driver has room for; no value is longer than 64 KiB.
fn value_size(size: u32) -> u32 {
    size.min(XATTR_SIZE_MAX as u32)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
