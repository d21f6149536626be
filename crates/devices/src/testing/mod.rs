//! The driver side of a virtqueue, and an interrupt that records, for tests, benches and fuzz targets of
//! devices.

mod driver_ring;
mod recorder;
#[cfg(test)]
mod refused;

pub use driver_ring::{Buf, DriverRing, Used, guest_ram};
pub use recorder::RecordingInterrupt;
#[cfg(test)]
pub(crate) use refused::with_refused;
