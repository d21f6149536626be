//! The memory balloon (virtio 1.2 §5.5): guest memory that goes back to the host.
//!
//! Two ways. A guest kernel with free page reporting (Linux 5.7 and later) tells of large free blocks by
//! itself, some seconds after they became free. And the owner of the machine can set a target
//! ([`BalloonHandle::set_target`]): the driver then takes that much memory from its own kernel and tells which
//! pages they are. Both end in [`MemoryReclaim::reclaim`](purlin_vmm_core::memory::MemoryReclaim); the assembler
//! knows what RAM is made of.
//!
//! # Queues
//!
//! | queue | feature | what the device does |
//! |---|---|---|
//! | inflate | – | reclaims the pages of each buffer, in runs |
//! | deflate | – | returns the buffer: a page that is touched again is there again |
//! | statistics | 1 | keeps the driver's buffer until somebody asks; see [`BalloonHandle::ask_stats`] |
//! | free page hints | 3 | returns the buffers: no hinting is ever started (command id 0) |
//! | reporting | 5 | reclaims every buffer of the chain |
//!
//! Linux numbers queues without gaps, so which queue is the reporting queue depends on the features the driver
//! took; the specification numbers them as above, always. With all features of the table both agree, which is
//! why hints are offered at all; without, the numbering of Linux counts, and queue 4 is the reporting queue
//! whatever else was taken.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use purlin_devices::shell::EventLoop;
//! use purlin_devices::virtio::balloon::{Balloon, BalloonConfig};
//! use purlin_vmm_core::memory::{GuestAddress, GuestRam};
//!
//! let ram = Arc::new(GuestRam::from_ranges(&[(GuestAddress(0), 16 << 20)])?);
//! let threads = EventLoop::spawn("devices")?;
//! let device = Balloon::new(BalloonConfig::new(ram), threads.handle())?;
//! let handle = device.handle();
//! handle.set_target(4 << 20);
//! assert_eq!((handle.target(), handle.actual()), (4 << 20, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod device;
#[cfg(any(test, feature = "test-utils"))]
pub mod fuzz;
mod handle;
mod pages;
mod stats;
mod worker;

#[cfg(test)]
mod tests;

pub use device::{Balloon, BalloonConfig};
pub use handle::{BalloonCounters, BalloonHandle};
pub use stats::GuestMemoryStats;

/// Feature bits (virtio 1.2 §5.5.3).
mod feature {
    pub const STATS_VQ: u64 = 1 << 1;
    pub const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub const FREE_PAGE_HINT: u64 = 1 << 3;
    pub const REPORTING: u64 = 1 << 5;
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Inflate,
    Deflate,
    Stats,
    Hint,
    Reporting,
    /// Not used with the features the driver took.
    Unused,
}

/// The role of queue `index`; see the module's words on numbering.
fn role(features: u64, index: usize) -> Role {
    let optional = [
        (feature::STATS_VQ, Role::Stats),
        (feature::FREE_PAGE_HINT, Role::Hint),
        (feature::REPORTING, Role::Reporting),
    ];
    let taken = optional.into_iter().filter(|(bit, _)| features & bit != 0).map(|(_, role)| role);
    let dense = [Role::Inflate, Role::Deflate].into_iter().chain(taken).nth(index);
    let fixed = if index == 4 && features & feature::REPORTING != 0 { Role::Reporting } else { Role::Unused };
    dense.unwrap_or(fixed)
}
