//! Asking a machine from anywhere.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, Reply};
use super::events::{Event, EventSender};
use super::progress::{Phase, Progress};
use super::{VmError, VmExit};

/// What may be asked of a machine by those who do not own it.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(super) events: EventSender,
    pub(super) progress: Arc<Progress>,
    pub vcpus: u32,
    pub memory_mib: u64,
}

impl Remote {
    pub fn phase(&self) -> Phase {
        self.progress.phase()
    }

    pub fn exit(&self) -> Option<VmExit> {
        self.progress.exit()
    }

    pub fn check_started(&self) -> Result<(), VmError> {
        if self.progress.is_created() { Err(VmError::NotStarted) } else { Ok(()) }
    }

    /// Sends a command, whose answer goes to `then`, on another thread or this one. Does not wait.
    pub fn ask<T: 'static>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
        then: impl FnOnce(Result<T, VmError>) + Send + 'static,
    ) -> Result<(), VmError> {
        self.check_started()?;
        self.events.send(Event::Command(command(Reply::new(then))));
        Ok(())
    }

    /// See [`Vm::stop`](crate::Vm::stop).
    pub fn stop(&self, grace: Duration) -> Result<(), VmError> {
        self.check_started()?;
        self.events.send(Event::Command(Command::Stop { grace }));
        Ok(())
    }

    /// See [`Vm::send_ctrl_alt_del`](crate::Vm::send_ctrl_alt_del).
    pub fn ctrl_alt_del(&self) -> Result<(), VmError> {
        self.check_started()?;
        self.events.send(Event::Command(Command::CtrlAltDel));
        Ok(())
    }

    /// See [`Vm::kill`](crate::Vm::kill).
    pub fn kill(&self) {
        self.events.send(Event::Command(Command::Kill));
    }
}

#[cfg(test)]
impl Remote {
    /// One without a machine: its commands go to `obey`, on a thread that ends with it.
    pub fn to(mut obey: impl FnMut(Command) + Send + 'static) -> std::io::Result<Self> {
        let (events, receiver) = super::events::channel()?;
        let progress = Arc::<Progress>::default();
        let alive = Arc::downgrade(&progress);
        std::thread::spawn(move || {
            while alive.strong_count() > 0 {
                match receiver.take() {
                    Some(Event::Command(command)) => obey(command),
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Remote { events, progress, vcpus: 2, memory_mib: 512 })
    }

    /// Puts the machine into this phase.
    pub fn set(&self, phase: Phase) {
        self.progress.set(phase);
    }
}
