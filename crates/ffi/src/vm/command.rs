//! What an owner can ask of a running machine, and what it can hear.

use std::io;
use std::time::Duration;

use purlin_devices::virtio::{Busy, SaveError};
use purlin_snapshot::Section;
use purlin_vmm_core::kvm::GroupError;
use thiserror::Error;

use super::VmStats;

/// A request to a virtual machine failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VmError {
    /// The machine was not started.
    #[error("the virtual machine has not been started")]
    NotStarted,
    /// The machine was started before.
    #[error("the virtual machine was started before")]
    AlreadyStarted,
    /// The guest has ended.
    #[error("the virtual machine has ended")]
    Ended,
    /// The machine must be paused for this.
    #[error("the virtual machine must be paused first")]
    NotPaused,
    /// The machine has no power button.
    #[error("this virtual machine has no power button: its kernel was started without ACPI tables")]
    NoPowerButton,
    /// The host refused a thread.
    #[error("supervisor thread: {0}")]
    Thread(#[source] io::Error),
    /// The processors did not come to rest in time.
    #[error(transparent)]
    Processors(#[from] GroupError),
    /// A device did not come to rest in time.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// A device holds something that cannot be saved.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// A request to the supervisor.
pub(crate) enum Command {
    Pause(Reply<()>),
    Resume(Reply<()>),
    SaveDevices(Reply<Vec<Section>>),
    Stats(Reply<VmStats>),
    CtrlAltDel,
    Stop { grace: Duration },
    Kill,
}

/// Where an answer goes. Dropped unanswered, it answers that the machine has ended.
pub(crate) struct Reply<T>(Option<Then<T>>);

type Then<T> = Box<dyn FnOnce(Result<T, VmError>) + Send>;

impl<T> Reply<T> {
    pub fn new(then: impl FnOnce(Result<T, VmError>) + Send + 'static) -> Self {
        Reply(Some(Box::new(then)))
    }

    pub fn send(mut self, answer: Result<T, VmError>) {
        if let Some(then) = self.0.take() {
            then(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(VmError::Ended));
        }
    }
}
