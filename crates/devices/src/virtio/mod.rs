//! virtio devices (OASIS virtio 1.2) and their transport.

pub mod balloon;
pub mod console;
mod device;
pub mod fs;
mod interrupt;
mod io_counts;
pub mod mmio;
mod queue;
mod ring;
pub mod rng;

pub use device::{
    ActivateContext, ActivateError, Busy, DeviceType, ResetProgress, RestoreError, SaveError, VirtioDevice,
    section_kind,
};
pub use interrupt::{Interrupt, Signal};
pub use io_counts::{IoCounters, IoCounts};
pub use queue::{DeviceQueue, QueueError, restore_queues, save_queues};
pub(crate) use queue::{QueueSetup, build_queue};
pub use ring::{Descriptor, RingError, RingView};
