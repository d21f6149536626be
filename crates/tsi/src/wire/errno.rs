//! Linux error numbers as the guest's ABI has them (`asm-generic/errno.h`), whatever the host is.

/// Operation not permitted. As the answer to LISTEN: the guest keeps a listener of its own.
pub const EPERM: i32 = 1;
/// Try again.
pub const EAGAIN: i32 = 11;
/// Permission denied.
pub const EACCES: i32 = 13;
/// Invalid argument.
pub const EINVAL: i32 = 22;
/// Too many open files.
pub const EMFILE: i32 = 24;
/// Operation not supported on this socket.
pub const EOPNOTSUPP: i32 = 95;
/// Address family not supported.
pub const EAFNOSUPPORT: i32 = 97;
/// Address already in use.
pub const EADDRINUSE: i32 = 98;
/// Address not available.
pub const EADDRNOTAVAIL: i32 = 99;
/// Connection reset by peer.
pub const ECONNRESET: i32 = 104;
/// Already connected.
pub const EISCONN: i32 = 106;
/// Not connected.
pub const ENOTCONN: i32 = 107;
/// Connection refused.
pub const ECONNREFUSED: i32 = 111;
