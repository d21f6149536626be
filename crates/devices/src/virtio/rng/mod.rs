//! The entropy device (virtio 1.2 §5.4): one queue of device-writable buffers, filled with random bytes.

mod device;
mod worker;

pub use device::Rng;
