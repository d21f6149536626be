//! Names and numbers that the host side and the guest's PID 1 agree on.
//!
//! The `krun` names are those of libkrun's guest contract, so that this init works under other hosts that speak it,
//! and the host side of Purlin works with other inits. The `purlin` names are ours.

/// Where the kernel finds the init binary: the `init=` word of the command line names this path.
pub const INIT_PATH: &str = "/init.krun";

/// Suggested path of the workload file (see [`crate::workload`]) on the guest's root.
pub const EXEC_FILE_PATH: &str = "/init.krun.exec";

/// Environment word that names the workload file, an absolute path. Removed from the workload's environment.
pub const ENV_EXEC_FILE: &str = "PURLIN_EXEC_FILE";

/// Environment word that gives the control channel as an inherited descriptor (decimal, at least 3) instead of the
/// virtio port [`PORT_CONTROL`]; the descriptor is any bidirectional stream. Removed from the workload's environment.
pub const ENV_CONTROL_FD: &str = "PURLIN_CONTROL_FD";

/// Environment word that lists, separated by commas, the named ports of this crate that the host has (`PORT_*`). PID 1
/// waits for them, up to [`PORTS_PATIENCE_MS`]: a kernel learns the names of ports while it boots on, and a port that has
/// no name yet would be missed. Without the word PID 1 takes the ports that are there. Removed from the workload's
/// environment.
pub const ENV_PORTS: &str = "PURLIN_PORTS";

/// Environment word that lists virtiofs mounts, `tag:path[:ro]` separated by commas. Removed from the workload's
/// environment.
pub const ENV_VIRTIOFS_MOUNTS: &str = "PURLIN_VIRTIOFS_MOUNTS";

/// Environment word that lists mounts of disks, `device:type:path[:ro]` separated by commas; an empty type or `auto` tries
/// what the kernel has. Removed from the workload's environment.
pub const ENV_DISK_MOUNTS: &str = "PURLIN_DISK_MOUNTS";

/// Environment word that gives `eth0` an address, `address/prefix:router[:dns]`. Removed from the workload's environment.
pub const ENV_STATIC_IP: &str = "PURLIN_STATIC_IP";

/// Environment word that names a certificate (PEM) that the guest is to trust. Removed from the workload's environment.
pub const ENV_CA_SOURCE: &str = "PURLIN_CA_SOURCE";

/// Environment word that names where that certificate is copied to. Removed from the workload's environment.
pub const ENV_CA_PATH: &str = "PURLIN_CA_PATH";

/// Environment word that makes PID 1 tell of every step, if its value starts with `1`. Removed from the workload's
/// environment.
pub const ENV_TRACE: &str = "PURLIN_TRACE";

/// Longest wait for ports that the host has announced, milliseconds.
pub const PORTS_PATIENCE_MS: u64 = 2000;

/// Name of the virtio console port that carries the control channel (see [`crate::control`]).
pub const PORT_CONTROL: &str = "purlin-control";

/// Name of the virtio console port that becomes the workload's descriptor 0.
pub const PORT_STDIN: &str = "krun-stdin";

/// Name of the virtio console port that becomes the workload's descriptor 1.
pub const PORT_STDOUT: &str = "krun-stdout";

/// Name of the virtio console port that becomes the workload's descriptor 2.
pub const PORT_STDERR: &str = "krun-stderr";

/// `ioctl` request that reports the exit code, `_IO('v', 2)`, with the code itself as the argument. It is issued on a
/// descriptor of `/`; a virtiofs device sees it as FUSE_IOCTL, any other file system refuses it.
pub const EXIT_CODE_IOCTL: u32 = 0x7602;

/// Exit code: the guest could not be set up, the workload never ran.
pub const EXIT_SETUP: i32 = 125;

/// Exit code: the program exists but cannot be executed.
pub const EXIT_CANNOT_EXECUTE: i32 = 126;

/// Exit code: the program was not found.
pub const EXIT_NOT_FOUND: i32 = 127;
