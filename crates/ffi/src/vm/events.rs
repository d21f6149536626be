//! What the supervisor hears, from any thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use purlin_devices::legacy::PowerRequest;
use purlin_vmm_core::kvm::VcpuEvent;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Command;

/// Something happened.
pub(crate) enum Event {
    /// The guest wants to be off or reset.
    GuestPower(PowerRequest),
    /// A processor ended.
    Vcpu(VcpuEvent),
    /// This thread of devices panicked or could not go on.
    ThreadFailed(String),
    /// The owner wants something.
    Command(Command),
}

/// Tells the supervisor.
#[derive(Clone)]
pub(crate) struct EventSender {
    queue: Sender<Event>,
    wake: Arc<EventFd>,
}

impl EventSender {
    /// Never blocks; a supervisor that is gone does not care.
    pub fn send(&self, event: Event) {
        if self.queue.send(event).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// The supervisor's end.
pub(crate) struct EventReceiver {
    queue: Receiver<Event>,
    wake: Arc<EventFd>,
}

impl EventReceiver {
    /// Readable when there is an event.
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// The next event, if there is one.
    pub fn take(&self) -> Option<Event> {
        self.queue.try_recv().ok()
    }
}

/// Both ends.
pub(crate) fn channel() -> io::Result<(EventSender, EventReceiver)> {
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
    let (tx, rx) = std::sync::mpsc::channel();
    Ok((EventSender { queue: tx, wake: wake.clone() }, EventReceiver { queue: rx, wake }))
}
