//! Linux error numbers: the few that PID 1 decides upon, and names for the ones a person meets.

use core::fmt;

/// A Linux error number (`errno`), positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// No such file or directory.
    pub const NOENT: Errno = Errno(2);
    /// Interrupted system call.
    pub const INTR: Errno = Errno(4);
    /// Input/output error.
    pub const IO: Errno = Errno(5);
    /// No children to wait for.
    pub const CHILD: Errno = Errno(10);
    /// Would block.
    pub const AGAIN: Errno = Errno(11);
    /// Permission denied.
    pub const ACCES: Errno = Errno(13);
    /// Already mounted there.
    pub const BUSY: Errno = Errno(16);
    /// Exists.
    pub const EXIST: Errno = Errno(17);
    /// No such device.
    pub const NODEV: Errno = Errno(19);
    /// A path component is not a directory.
    pub const NOTDIR: Errno = Errno(20);
    /// Invalid argument.
    pub const INVAL: Errno = Errno(22);
    /// File too large.
    pub const FBIG: Errno = Errno(27);

    /// The symbolic name, for the numbers that occur in practice.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            5 => "EIO",
            7 => "E2BIG",
            8 => "ENOEXEC",
            11 => "EAGAIN",
            12 => "ENOMEM",
            13 => "EACCES",
            16 => "EBUSY",
            17 => "EEXIST",
            19 => "ENODEV",
            20 => "ENOTDIR",
            21 => "EISDIR",
            22 => "EINVAL",
            26 => "ETXTBSY",
            27 => "EFBIG",
            30 => "EROFS",
            36 => "ENAMETOOLONG",
            40 => "ELOOP",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}
