//! How a device reaches the driver.

/// Why the driver is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The device used buffers of this queue.
    Queue(u16),
    /// The configuration space changed.
    Config,
}

/// The device's end of its interrupt.
///
/// Implementations set the shared status word first and send the edge second, so that a guest that sees
/// the interrupt always finds its cause. Any thread may call; calls do not block and do not fail (a
/// refused notification is logged by the implementation, at a bounded rate).
///
/// Raise one signal per batch of used buffers, not one per buffer.
pub trait Interrupt: Send + Sync {
    /// Interrupts the driver.
    fn trigger(&self, signal: Signal);

    /// Sets DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2) and interrupts the driver: the device met something it
    /// cannot continue after, such as a malformed ring. The device must not touch its queues any more.
    fn needs_reset(&self);
}
