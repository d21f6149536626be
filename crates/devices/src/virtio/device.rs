//! The contract between a virtio device and whoever assembles it into a machine.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use purlin_snapshot::{DecodeError, Section};
use purlin_vmm_core::memory::{SharedRam, Window};
use thiserror::Error;

use super::{DeviceQueue, Interrupt, IoCounts, QueueError};

/// virtio device ids (virtio 1.2 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum DeviceType {
    /// Network card.
    Net = 1,
    /// Block device.
    Block = 2,
    /// Console.
    Console = 3,
    /// Entropy source.
    Rng = 4,
    /// Memory balloon.
    Balloon = 5,
    /// Socket device.
    Vsock = 19,
    /// File system.
    Fs = 26,
}

/// Section kinds of this crate (see [`purlin_snapshot::SectionId::kind`]).
pub mod section_kind {
    /// Registers of the MMIO transport.
    pub const MMIO_TRANSPORT: u32 = 0x200;
    /// A device's own state: this base plus its virtio device id.
    pub const DEVICE_BASE: u32 = 0x300;
}

/// What a device gets when the driver sets DRIVER_OK.
///
/// Everything is owned or shared, so a device may move it to a worker thread.
pub struct ActivateContext {
    /// Guest RAM.
    pub memory: SharedRam,
    /// One entry per queue of [`VirtioDevice::queue_sizes`], in order; a queue the driver left out is there
    /// with `queue.ready() == false`. EVENT_IDX is already set on each if it was negotiated.
    pub queues: Vec<DeviceQueue>,
    /// How to reach the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// The shared memory window, if the device was given one.
    pub shm: Option<Window>,
}

/// Activation failed. The transport then sets DEVICE_NEEDS_RESET; the guest sees a dead device, the
/// machine runs on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActivateError {
    /// The driver configured a queue the device cannot work with.
    #[error("queue {index}: {source}")]
    Queue {
        /// Queue number.
        index: u16,
        /// What is wrong with it.
        source: QueueError,
    },
    /// The context holds another number of queues than the device has.
    #[error("{found} queues given, {expected} expected")]
    QueueCount {
        /// Queues of the device.
        expected: usize,
        /// Queues given.
        found: usize,
    },
    /// A host resource was refused.
    #[error("{what}: {source}")]
    Host {
        /// What was asked of the host.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The device already runs.
    #[error("device is already active")]
    AlreadyActive,
}

/// A device could not come to rest before the deadline. It runs on as before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{device:?} is busy: {reason}")]
pub struct Busy {
    /// Which device.
    pub device: DeviceType,
    /// What it is waiting for.
    pub reason: String,
}

/// A device's state could not be saved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The device is active and was not quiesced first.
    #[error("{0:?} must be quiesced before it is saved")]
    NotQuiesced(DeviceType),
    /// The device holds something that cannot be saved, such as an open file that has no name any more.
    #[error("{device:?} cannot be saved: {reason}")]
    Unsavable {
        /// Which device.
        device: DeviceType,
        /// Why.
        reason: String,
    },
}

/// A device's saved state was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The section does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The saved state belongs to a machine that is configured differently.
    #[error("{field}: saved {saved}, configured {configured}")]
    Mismatch {
        /// What differs.
        field: &'static str,
        /// Value in the section.
        saved: String,
        /// Value of the device it should go into.
        configured: String,
    },
    /// A saved queue is not valid in this guest memory.
    #[error("queue {index}: {source}")]
    Queue {
        /// Queue number.
        index: u16,
        /// What is wrong with it.
        source: QueueError,
    },
    /// The device could not be started with the restored state.
    #[error(transparent)]
    Activate(#[from] ActivateError),
    /// The device is not in its initial state.
    #[error("restore into a device that is already active")]
    NotFresh,
}

/// Whether a reset is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ResetProgress {
    /// The device is in its initial state and may be activated again.
    Done,
    /// A worker still finishes a request; ask again. The driver sees the old status until then.
    Pending,
}

/// A virtio device.
///
/// # Life
///
/// ```text
/// created --ack_features--> negotiated --activate--> active --quiesce--> quiesced --save-->
///    ^                                                 ^  |                  |
///    |                                                 |  +---- reset -------+--> created
///    +---- restore (with a context) --> quiesced --resume/abort--> active
/// ```
///
/// The transport calls every method from one thread at a time (under its own lock), so implementations
/// need no locks towards it. Calls in a state where they mean nothing are harmless no-ops; none panics.
///
/// # Queues
///
/// Exactly one thread owns the queues. Between `activate` and `quiesce` that is the device's worker (see
/// [`crate::shell::WorkerSlot`]); after a successful `quiesce` nothing of the device writes guest RAM, and
/// the queues are parked inside the device until `resume`, `abort` or `reset`.
pub trait VirtioDevice: Send {
    /// The device's id.
    fn device_type(&self) -> DeviceType;

    /// The largest size of each queue; the length is the number of queues. Constant.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits offered, without VIRTIO_F_VERSION_1, which the transport adds. Constant.
    fn features(&self) -> u64;

    /// Takes the features the driver accepted: a subset of those offered plus VERSION_1. Called once
    /// between reset and `activate`, when FEATURES_OK is set.
    fn ack_features(&mut self, features: u64);

    /// Reads the configuration space at any `offset` and width; bytes beyond its end are left as they are
    /// (the transport fills them with zero first). Works in every state.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the configuration space; what is not writable is ignored. Works in every state.
    fn write_config(&mut self, offset: u64, data: &[u8]);

    /// Counts changes of the configuration space made by the device (virtio 1.2 §2.5.3).
    fn config_generation(&self) -> u32 {
        0
    }

    /// True if nothing ever changes the configuration space, neither the device nor the driver. Constant.
    fn config_is_constant(&self) -> bool {
        false
    }

    /// Shared memory the device wants: (id, length in bytes). The assembler allocates it.
    fn shm_request(&self) -> Option<(u8, u64)> {
        None
    }

    /// Bytes that went through the device so far, for its owner's statistics. Works in every state.
    fn io_counts(&self) -> IoCounts {
        IoCounts::default()
    }

    /// Starts the device on the driver's queues.
    ///
    /// # Errors
    ///
    /// [`ActivateError`]; the device is then as before the call.
    fn activate(&mut self, context: ActivateContext) -> Result<(), ActivateError>;

    /// Brings the device to rest: accepted requests are finished or recorded, workers parked. Idempotent;
    /// `Ok` at once if the device is not active.
    ///
    /// # Errors
    ///
    /// [`Busy`] past `deadline`; the device runs on.
    fn quiesce(&mut self, deadline: Instant) -> Result<(), Busy>;

    /// The device's state, including its queues. Pure: changes nothing.
    ///
    /// # Errors
    ///
    /// [`SaveError::NotQuiesced`] while active.
    fn save(&self) -> Result<Section, SaveError>;

    /// Puts saved state into a fresh device. `context` is there exactly if the device was active when it
    /// was saved; its queues have the rings the driver configured, and the device sets their positions
    /// from its section with [`crate::virtio::restore_queues`]. The device is then quiesced.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; the device is then as before the call.
    fn restore(&mut self, section: &Section, context: Option<ActivateContext>) -> Result<(), RestoreError>;

    /// Ends rest: every queue counts as kicked and the driver is interrupted once per queue, because
    /// notifications may have been lost. No-op unless quiesced.
    fn resume(&mut self);

    /// Ends rest after a failed snapshot. As `resume` unless a device has more to undo.
    fn abort(&mut self) {
        self.resume();
    }

    /// Returns to the initial state. In-flight requests are finished or dropped, never written later.
    fn reset(&mut self) -> ResetProgress;
}
