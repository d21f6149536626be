//! Threads and descriptors of devices: the loop workers run on, and the slot that moves a worker between
//! its device and the loop.

mod breakage;
mod event_loop;
mod failure;
mod lifecycle;
mod pool;
mod slot;
pub(crate) mod sys;

pub use breakage::Breakage;
pub use event_loop::{EventLoop, LoopHandle, QueueWorker, WorkerId};
pub use failure::OnFailure;
pub use pool::Pool;
pub use slot::WorkerSlot;
