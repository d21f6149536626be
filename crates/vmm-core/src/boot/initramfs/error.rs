//! What can be wrong with an archive.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::closure::ClosureError;
use super::tree::TreeError;

/// An initial RAM disk cannot be made as described.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InitramfsError {
    /// An entry is impossible.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file of the host cannot be read.
    #[error("{} cannot be read for {guest}", host.display())]
    Read {
        /// The file.
        host: PathBuf,
        /// Where it would be in the guest.
        guest: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A program's shared libraries cannot be found.
    #[error("program {guest}: {source}")]
    Libraries {
        /// Where the program would be in the guest.
        guest: String,
        /// Why.
        source: ClosureError,
    },
    /// The archive would be larger than [`MAX_UNPACKED`](super::MAX_UNPACKED).
    #[error(
        "the archive has {bytes} bytes, more than {limit}; leave files out, or put them on a share or a disk"
    )]
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The most there may be.
        limit: u64,
    },
    /// The archive could not be written: out of memory for it.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
}
