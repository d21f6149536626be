//! The part of initial RAM disks that touches the operating system: reads files, keeps bases in shared memory, writes
//! guest RAM.

mod archive;
mod builder;
mod cache;
mod host;
mod load;
mod object;

pub use archive::{BaseOrigin, Initramfs, Part, Sizes};
pub use builder::{Compression, InitramfsBuilder};
pub use cache::{BaseCache, CacheError, Miss, Published};
pub use host::HostFiles;
pub use load::{LoadError, LoadedInitramfs, NotMapped};
pub use object::{CachedBase, Key};

#[cfg(test)]
mod tests;
