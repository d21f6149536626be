//! virtio-fs (virtio 1.2 §5.11): a host directory as a file system of the guest.
//!
//! The guest's kernel speaks FUSE (`include/uapi/linux/fuse.h`) over two virtqueues; the device is the
//! FUSE server. A request is a chain of readable buffers (header, arguments, data) followed by writable
//! ones (header, reply). Layers, from the ring up:
//!
//! | file | what it does | pure |
//! |---|---|---|
//! | `worker` | takes chains, gives them back, interrupts once per batch | |
//! | `exchange` | one chain: copies header and arguments out once, places the reply | |
//! | `buffers` | the guest memory of a chain | |
//! | `message` | checks lengths, parses arguments into a typed request | yes |
//! | `names` | what may be a name | yes |
//! | `nodes` | the inodes a guest knows, as (parent, name) and identity | yes |
//! | `poll` | when to wait for the next request awake | yes |
//! | `recent` | which descriptors are worth keeping | yes |
//! | `maps` | what is mapped where in the DAX window | yes |
//! | `overlay` | entries that exist only in memory | yes |
//! | `server` | the requests themselves, against the host | |
//! | `sys` | system calls | |
//! | `state` | the saved form | |
//!
//! # How a file is found
//!
//! FUSE refers to inodes by numbers the server gives out. Here a number stands for a place (parent number
//! and name) and an identity (device, inode, creation time, type). LOOKUP and GETATTR need no descriptor of
//! the file at all: one `statx` relative to the parent. Where one is needed it is opened by `openat2` below
//! the shared directory without following links, its identity is compared, and it is kept in a bounded
//! cache. So a guest that knows 100,000 files costs the host no more descriptors than the bound; a name
//! that was given to another object answers ESTALE; and a session can be saved. Files are opened for data
//! only after their type was checked, through `/proc/self/fd`: FIFOs and device nodes never are.
//!
//! # Caching
//!
//! Names and attributes are valid for 5 seconds (see [`Semantics`]), data until the file's mtime or size is
//! seen to change: an OPEN that finds the file as the guest last saw it keeps the guest's pages. There is no
//! writeback cache, so FLUSH has nothing to do and is not asked for; nor are ACCESS (the guest's kernel
//! checks permissions) and locks (see below). `fsync` reaches the host's disk; `sync` of
//! the whole file system does not, as it would write back what other programs of the host hold too.
//!
//! # Locks
//!
//! Record, open file and whole file locks exclude processes of one guest from each other, and nobody else: not other
//! guests, not the host's programs, not the same guest through another share of the directory. So they cost no request and
//! wait for nobody outside, and a guest cannot keep the host's programs from their files.
//!
//! # DAX
//!
//! A share with a window ([`FsConfig::dax_window`]) shows parts of files in it when the guest asks
//! (`FUSE_SETUPMAPPING`). That bypasses requests: reads and writes of a file mounted with `dax` are memory accesses to
//! the host's page cache. A saved session holds what was mapped; a restored one maps it again, and fails if it cannot.
//!
//! # Threads
//!
//! Each device has a thread of its own with a umask of its own (0); the process's umask is untouched. Where the host
//! refuses that (Docker's seccomp profile refuses every `unshare` without CAP_SYS_ADMIN), what the umask took from
//! a new file is given back right after it was made, so that the guest gets the modes it asks for there too. What may
//! wait for the host goes to up to four further threads, and others are served meanwhile: reads of what the host
//! does not have in memory (it tells, by `RWF_NOWAIT`), long writes, `fsync`, `fallocate`, copies. Reads and
//! writes on a file system in memory are done at once. A guest that makes one request after another is waited for
//! awake, for a tenth of a millisecond. FIFOs and locks are the guest's own and never get here. As root, new files belong to the guest's user; otherwise to the user of this process.
//!
//! # Example
//!
//! ```
//! use std::borrow::Cow;
//! use purlin_devices::virtio::fs::{Fs, FsConfig, OverlayEntry, OverlayKind, Source};
//!
//! let mut config = FsConfig::new("/dev/root", Source::Path(std::env::temp_dir()));
//! config.read_only = true;
//! config.overlay.push(OverlayEntry {
//!     path: "/init.krun".into(),
//!     mode: 0o755,
//!     kind: OverlayKind::File { data: Cow::Borrowed(b"#!/bin/sh\n"), one_shot: true },
//! });
//! let device = Fs::new(config)?;
//! assert_eq!(device.tag(), "/dev/root");
//! # Ok::<(), purlin_devices::virtio::fs::FsConfigError>(())
//! ```

mod buffers;
mod config;
mod device;
#[cfg(any(test, feature = "test-utils"))]
pub mod direct;
mod exchange;
#[cfg(any(test, feature = "test-utils"))]
pub mod fuzz;
mod maps;
mod message;
mod names;
mod nodes;
mod overlay;
mod poll;
mod recent;
mod server;
mod state;
mod sys;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{ExitCodeSink, FsConfig, FsConfigError, Limits, Semantics, Source, TAG_MAX};
pub use device::Fs;
pub use overlay::{OverlayEntry, OverlayError, OverlayKind};
