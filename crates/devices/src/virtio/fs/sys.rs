//! The host's file system calls.
//!
//! Every name given here is a single component or a relative path of components that were checked, and
//! every open of a path is `openat2` below a directory descriptor without following links, so nothing
//! outside the shared directory can be reached, whoever changes the tree meanwhile.

use std::cell::Cell;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use fuse_backend_rs::abi::fuse_abi::Attr;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, chmodat, getxattr_query, makedev, openat,
    openat2, statx,
};
use rustix::io::Errno;

use super::nodes::Identity;

/// `PATH_MAX`, NUL included.
pub(super) const PATH_MAX: usize = 4096;

/// Attributes of the entry `name` of `dir`, not following a link.
pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Statx, Errno> {
    stat(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Attributes of an open object.
pub(super) fn stat_fd(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    stat(fd, c"", AtFlags::EMPTY_PATH)
}

fn stat(fd: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Statx, Errno> {
    statx(fd, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

pub(super) fn identity(st: &Statx) -> Identity {
    let known = StatxFlags::from_bits_retain(st.stx_mask).contains(StatxFlags::BTIME);
    Identity {
        dev: makedev(st.stx_dev_major, st.stx_dev_minor),
        ino: st.stx_ino,
        born: if known { nanos(st.stx_btime.tv_sec, st.stx_btime.tv_nsec) } else { 0 },
        format: u32::from(st.stx_mode) & libc::S_IFMT,
    }
}

/// What a guest's page cache of the file belongs to.
pub(super) fn version(st: &Statx) -> (i64, u64) {
    (nanos(st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec), st.stx_size)
}

fn nanos(sec: i64, nsec: u32) -> i64 {
    sec.wrapping_mul(1_000_000_000).wrapping_add(i64::from(nsec))
}

/// As FUSE wants it. Times before 1970 travel as two's complement (the kernel reads them so).
pub(super) fn attr(st: &Statx) -> Attr {
    Attr {
        ino: st.stx_ino,
        size: st.stx_size,
        blocks: st.stx_blocks,
        atime: st.stx_atime.tv_sec as u64,
        mtime: st.stx_mtime.tv_sec as u64,
        ctime: st.stx_ctime.tv_sec as u64,
        atimensec: st.stx_atime.tv_nsec,
        mtimensec: st.stx_mtime.tv_nsec,
        ctimensec: st.stx_ctime.tv_nsec,
        mode: u32::from(st.stx_mode),
        nlink: st.stx_nlink,
        uid: st.stx_uid,
        gid: st.stx_gid,
        rdev: encode_dev(st.stx_rdev_major, st.stx_rdev_minor),
        blksize: st.stx_blksize,
        flags: 0,
    }
}

/// The 32-bit form of a device number in the Linux ABI: 12 bits major, 20 bits minor.
fn encode_dev(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The other way round, as a `dev_t`.
pub(super) fn decode_dev(dev: u32) -> u64 {
    makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00))
}

/// Opens a shared directory by path, following links.
pub(super) fn open_root(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// An `O_PATH` descriptor of `path` below `dir`; `path` is relative and shorter than [`PATH_MAX`]. A link
/// as the last component is opened itself; links on the way are refused.
pub(super) fn open_path(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    retry(|| openat2(dir, path, flags, Mode::empty(), resolve))
}

/// Creates a regular file; it must not exist. A single component, so nothing is followed. Without O_APPEND, as [`reopen`].
pub(super) fn create_at(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags, mode: Mode) -> Result<File, Errno> {
    let flags = (flags - OFlags::APPEND) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| openat(dir, name, flags, mode)).map(File::from)
}

/// Creates a regular file without a name in a directory's file system. Without O_APPEND, as [`reopen`].
pub(super) fn create_nameless(dir: BorrowedFd<'_>, flags: OFlags, mode: Mode) -> Result<File, Errno> {
    let flags = (flags - OFlags::APPEND) | OFlags::TMPFILE | OFlags::CLOEXEC;
    retry(|| openat(dir, c".", flags, mode)).map(File::from)
}

/// An `O_PATH` descriptor of what another descriptor stands for.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let path = ProcPath::new(fd);
    retry(|| openat(CWD, path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))
}

/// Opens a directory for reading from its `O_PATH` descriptor.
pub(super) fn open_dir(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens what an `O_PATH` descriptor stands for. The caller has checked that it is a regular file: opening
/// anything else could block, or touch a device of the host.
///
/// Without O_APPEND, with which Linux heeds no offset, not even that of a page of a mapping; but a file that can only be
/// appended to (`chattr +a`) opens no other way.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<File, Errno> {
    let path = ProcPath::new(fd);
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let open = |flags| retry(|| openat(CWD, path.as_c_str(), flags, Mode::empty())).map(File::from);
    match open(flags - OFlags::APPEND) {
        Err(Errno::PERM) if flags.contains(OFlags::APPEND) => open(flags),
        result => result,
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// `/proc/self/fd/N`: a path to exactly the object a descriptor stands for, for calls that take no
/// `O_PATH` descriptor.
pub(super) struct ProcPath([u8; 32]);

impl ProcPath {
    pub fn new(fd: BorrowedFd<'_>) -> Self {
        let mut path = [0; 32];
        // 14 bytes and at most 10 digits: always fits, and a NUL stays behind it.
        let _ = write!(&mut path[..], "/proc/self/fd/{}", fd.as_raw_fd());
        ProcPath(path)
    }

    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// Checks that [`ProcPath`] works here: that `/proc/self/fd/N` is the descriptor N.
pub(super) fn check_proc() -> Result<(), Errno> {
    let here = openat(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let path = ProcPath::new(here.as_fd());
    let through = openat(CWD, path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if identity(&stat_fd(here.as_fd())?) == identity(&stat_fd(through.as_fd())?) {
        Ok(())
    } else {
        Err(Errno::NOENT)
    }
}

thread_local! {
    /// Whether this thread has a umask of its own, 0.
    static OWN_UMASK: Cell<bool> = const { Cell::new(false) };
}

/// Gives the calling thread its own umask, 0, so that files get exactly the mode the guest asks for.
/// The umask of the process, and of its other threads, stays.
///
/// # Errors
///
/// The host does not allow it; the system call filters of containers often refuse `unshare` whatever it is for.
/// What this thread makes is then mended by [`stat_made`].
pub(super) fn private_umask() -> Result<(), Errno> {
    // SAFETY: unshare takes no pointers; CLONE_FS gives only this thread its own umask and working
    // directory, which Rust's standard library does not rely on being shared.
    if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
        return Err(last_errno());
    }
    rustix::process::umask(Mode::empty());
    OWN_UMASK.set(true);
    Ok(())
}

/// Attributes of the file that was just made in `dir` with the mode `asked`, which it has then.
pub(super) fn stat_made(dir: BorrowedFd<'_>, made: BorrowedFd<'_>, asked: Mode) -> Result<Statx, Errno> {
    let st = stat_fd(made)?;
    let taken = taken_by_umask(&st, asked);
    if taken == 0 || has_default_acl(dir) {
        return Ok(st);
    }
    let mode = Mode::from_raw_mode((u32::from(st.stx_mode) & 0o7777) | taken);
    match retry(|| chmodat(CWD, ProcPath::new(made).as_c_str(), mode, AtFlags::empty())) {
        Ok(()) => stat_fd(made),
        // A file system without modes, or somebody else's file already: it is there all the same.
        Err(_) => Ok(st),
    }
}

/// The same for the entry `name`, of whatever kind, which is not followed.
pub(super) fn stat_made_at(dir: BorrowedFd<'_>, name: &CStr, asked: Mode) -> Result<Statx, Errno> {
    let st = stat_at(dir, name)?;
    if taken_by_umask(&st, asked) == 0 {
        return Ok(st);
    }
    let made = open_path(dir, name)?;
    stat_made(dir, made.as_fd(), asked)
}

/// The permissions that are missing and may have been taken by the umask of the process.
fn taken_by_umask(st: &Statx, asked: Mode) -> u32 {
    if OWN_UMASK.get() { 0 } else { asked.as_raw_mode() & 0o777 & !u32::from(st.stx_mode) }
}

/// In a directory that has one, it takes the place of the umask.
fn has_default_acl(dir: BorrowedFd<'_>) -> bool {
    getxattr_query(ProcPath::new(dir).as_c_str(), c"system.posix_acl_default").is_ok_and(|len| len > 0)
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Who this process is on the file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    uid: u32,
    gid: u32,
}

impl Own {
    pub fn get() -> Self {
        Own { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Makes what this thread creates until the result is dropped belong to `uid` and `gid`. Does
    /// nothing unless the process runs as root.
    ///
    /// The owner is right from the first moment on, so nobody can put another file in the place of a
    /// new one before it is given away. The right to pass by permissions is kept: the guest's kernel
    /// has checked them, with supplementary groups that are not known here.
    ///
    /// # Errors
    ///
    /// EPERM if the host does not let this process act for that user.
    pub fn act_as(self, uid: u32, gid: u32) -> Result<Option<Acting>, Errno> {
        if self.uid != 0 || (uid == self.uid && gid == self.gid) {
            return Ok(None);
        }
        let acting = Acting(self);
        if set_fs_gid(gid) && set_fs_uid(uid) {
            keep_dac_override()?;
            return Ok(Some(acting));
        }
        Err(Errno::PERM)
    }
}

/// While this lives the thread creates files for somebody else.
pub(super) struct Acting(Own);

impl Drop for Acting {
    fn drop(&mut self) {
        // Back to the effective ids, which is always allowed; the capabilities come back with uid 0
        // (capabilities(7), "Effect of user ID changes on capabilities").
        set_fs_uid(self.0.uid);
        set_fs_gid(self.0.gid);
    }
}

/// True if the thread has that file system uid now. The wrapper of libc acts on the calling thread only.
fn set_fs_uid(uid: u32) -> bool {
    // SAFETY: takes a number and changes only this thread's credentials.
    unsafe { libc::setfsuid(uid) };
    // SAFETY: an invalid uid changes nothing and returns the present one.
    let now = unsafe { libc::setfsuid(u32::MAX) };
    now as u32 == uid
}

fn set_fs_gid(gid: u32) -> bool {
    // SAFETY: takes a number and changes only this thread's credentials.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: an invalid gid changes nothing and returns the present one.
    let now = unsafe { libc::setfsgid(u32::MAX) };
    now as u32 == gid
}

/// Becoming another user on the file system dropped the right to pass by permissions; takes it back.
fn keep_dac_override() -> Result<(), Errno> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective |= rustix::thread::CapabilitySet::DAC_OVERRIDE & sets.permitted;
    rustix::thread::set_capabilities(None, sets)
}
