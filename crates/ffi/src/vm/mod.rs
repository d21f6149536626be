//! The handle of a virtual machine.

mod command;
mod control;
mod events;
mod exit;
mod memory;
mod observers;
mod outcome;
mod progress;
mod remote;
mod stats;
mod supervisor;

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use purlin_devices::virtio::VirtioDevice;
use purlin_devices::virtio::balloon::BalloonHandle;
use purlin_devices::virtio::console::{ConsoleHandle, Injector, PortHandle, WindowSize};
use purlin_snapshot::Section;
use purlin_tsi::shell::EgressHandle;
use purlin_vmm_core::memory::GuestRam;

pub use command::VmError;
pub(crate) use command::{Command, Reply};
pub use exit::{ExitReason, SetupFailure, SetupStage, VmExit};
pub use memory::{MemoryRegion, VmMemory};
pub(crate) use observers::Observers;
pub(crate) use progress::Phase;
pub(crate) use remote::Remote;
pub use stats::{BootPhase, DeviceStats, InitramfsStats, VmStats};

use crate::config::VmConfig;
use crate::control::{ControlError, Servers};
use crate::machine::{
    Assembled, BuildError, DeviceInfo, DeviceRef, DeviceTable, Hooks, HostEnds, Machine, PowerButton,
    Terminal, stdio,
};
use events::{Event, EventReceiver, EventSender, channel};
use progress::Progress;
use supervisor::{Announce, Supervisor};

enum Life {
    /// Assembled, not running.
    Ready(Box<(Machine, PortHandle, EventReceiver)>),
    /// Supervised, or over.
    Started(JoinHandle<()>),
    /// Killed before it started.
    Over,
}

/// A virtual machine.
///
/// Methods may be called from any thread. Dropping it kills the guest and waits until all its threads and
/// descriptors are gone.
pub struct Vm {
    life: Mutex<Life>,
    ends: Mutex<HostEnds>,
    console: Option<ConsoleHandle>,
    injector: Option<Injector>,
    egress: Option<EgressHandle>,
    terminals: Vec<Terminal>,
    devices: DeviceTable,
    ram: Weak<GuestRam>,
    balloon: BalloonHandle,
    observers: Arc<Observers>,
    remote: Remote,
    servers: Arc<Servers>,
    power_button: Option<PowerButton>,
    /// In the place of closed standard streams.
    _stdio: Vec<File>,
}

impl VmConfig {
    /// Makes the virtual machine, ready to start. Everything that can fail on configuration or for lack of
    /// a host resource fails here.
    ///
    /// # Errors
    ///
    /// [`BuildError`]; nothing is left behind.
    pub fn build(mut self) -> Result<Vm, BuildError> {
        stdio::inherit(&mut self)?;
        let stdio = stdio::occupy().map_err(BuildError::host("standard streams"))?;
        let (events, receiver) = channel().map_err(BuildError::host("event descriptor"))?;
        let vcpus = self.vcpus;
        let observers = Arc::new(std::mem::take(&mut self.observers));
        let Assembled { mut machine, ends, control, balloon, egress } =
            Machine::assemble(self, hooks(&events))?;
        let memory_mib = machine.memory_mib();
        Ok(Vm {
            console: machine.consoles.handle.clone(),
            injector: machine.consoles.injector.clone(),
            egress,
            power_button: machine.power_button.clone(),
            terminals: std::mem::take(&mut machine.consoles.terminals),
            devices: machine.slots.table().clone(),
            ram: Arc::downgrade(&machine.ram),
            life: Mutex::new(Life::Ready(Box::new((machine, control, receiver)))),
            ends: Mutex::new(ends),
            balloon,
            remote: Remote { events, progress: Arc::<Progress>::default(), vcpus, memory_mib },
            observers,
            servers: Arc::default(),
            _stdio: stdio,
        })
    }
}

fn hooks(events: &EventSender) -> Hooks {
    let (power, ended, failed) = (events.clone(), events.clone(), events.clone());
    Hooks {
        guest_power: Arc::new(move |request| power.send(Event::GuestPower(request))),
        vcpu_ended: Arc::new(move |event| ended.send(Event::Vcpu(event))),
        thread_failed: Arc::new(move |thread| failed.send(Event::ThreadFailed(thread.to_owned()))),
    }
}

impl Vm {
    /// Starts the guest. Returns at once.
    ///
    /// # Errors
    ///
    /// [`VmError::AlreadyStarted`], or [`VmError::Thread`] if the host refuses one; the machine is then
    /// over.
    pub fn start(&self) -> Result<&Self, VmError> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *life, Life::Over) {
            Life::Ready(parts) => {
                let (machine, control, events) = *parts;
                let announce = Announce {
                    observers: self.observers.clone(),
                    progress: self.remote.progress.clone(),
                    servers: self.servers.clone(),
                };
                // From here on commands are answered, by the supervisor or because it is gone.
                self.remote.progress.set(Phase::Running);
                let supervisor = Supervisor::new(machine, control, events, &announce);
                let started = supervisor.and_then(|supervisor| supervisor.spawn(announce.clone()));
                *life = Life::Started(started.map_err(|e| {
                    announce.end(VmExit::failed(e.to_string()));
                    VmError::Thread(e)
                })?);
                Ok(self)
            }
            other => {
                *life = other;
                Err(VmError::AlreadyStarted)
            }
        }
    }

    /// Waits until the guest has ended, and all of its threads but the caller's own handle are gone.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`].
    pub fn wait(&self) -> Result<VmExit, VmError> {
        self.remote.check_started()?;
        self.remote.progress.wait(None).ok_or(VmError::Ended)
    }

    /// As [`Vm::wait`], for at most `limit`; `None` if the guest still runs then.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`].
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<VmExit>, VmError> {
        self.remote.check_started()?;
        Ok(self.remote.progress.wait(Some(limit)))
    }

    /// How the guest ended, if it has.
    pub fn exit(&self) -> Option<VmExit> {
        self.remote.exit()
    }

    /// Takes the guest off its processors and brings every device to rest: afterwards no thread of this
    /// library writes guest RAM. `Ok` if already paused.
    ///
    /// # Errors
    ///
    /// [`VmError::Processors`] or [`VmError::Busy`] if something does not come to rest in time; the guest
    /// then runs on. [`VmError::NotStarted`], [`VmError::Ended`].
    pub fn pause(&self) -> Result<(), VmError> {
        self.ask(Command::Pause)
    }

    /// Lets a paused guest run on. `Ok` if it runs.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`], [`VmError::Ended`].
    pub fn resume(&self) -> Result<(), VmError> {
        self.ask(Command::Resume)
    }

    /// State of all virtio devices of a paused machine: two sections per slot (transport and device).
    ///
    /// # Errors
    ///
    /// [`VmError::NotPaused`], or [`VmError::Save`] naming the device that holds something it cannot save.
    pub fn device_state(&self) -> Result<Vec<Section>, VmError> {
        self.ask(Command::SaveDevices)
    }

    /// Replaces the policy on where the guest may connect to, and reads what it decided; of any thread, before
    /// the start, while the machine runs, and while it is paused. `None` for a machine without a vsock device.
    pub fn egress(&self) -> Option<&EgressHandle> {
        self.egress.as_ref()
    }

    /// Asks the guest to end: our init sends SIGTERM to the workload, SIGKILL after `grace`, and restarts; a guest
    /// with an init of its own gets Ctrl-Alt-Del, if its kernel has a driver for the keyboard controller.
    /// A guest that does not answer is killed five seconds after that. Returns at once; see [`Vm::wait`].
    /// `Ok` if it has ended already. A paused guest is resumed to hear it.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`].
    pub fn stop(&self, grace: Duration) -> Result<(), VmError> {
        self.remote.stop(grace)
    }

    /// Presses the guest's power button, which an operating system with ACPI takes as the wish to shut down. Returns at
    /// once.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`], or [`VmError::NoPowerButton`]. `Ok` if the guest has ended.
    pub fn press_power_button(&self) -> Result<(), VmError> {
        self.remote.check_started()?;
        self.power_button.as_ref().ok_or(VmError::NoPowerButton)?.press();
        Ok(())
    }

    /// Ends the guest now, without its help. Returns at once; see [`Vm::wait`]. `Ok` if it has ended.
    pub fn kill(&self) {
        self.remote.kill();
    }

    /// Lets other processes of this user ask the machine, through a unix socket that is made here and removed
    /// when the machine ends; see [`control`](crate::control). Before or after the start, and as often as
    /// there are paths.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the file exists, its path is longer than 107 bytes, the host refuses, or the machine
    /// has ended.
    pub fn serve_control(&self, path: impl AsRef<Path>) -> Result<(), ControlError> {
        self.servers.add(path.as_ref(), self.remote.clone())
    }

    /// Presses Ctrl-Alt-Del. A guest whose kernel has a driver for the keyboard controller (i8042) gets the
    /// keys. Our init, with or without such a driver, ends the workload as [`Vm::stop`] does, with 90 seconds
    /// between the signals. What the guest makes of it is up to the guest: this never kills it. Returns at
    /// once. A paused guest is resumed to hear it. `Ok` if the guest has ended already.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`].
    pub fn send_ctrl_alt_del(&self) -> Result<(), VmError> {
        self.remote.ctrl_alt_del()
    }

    /// What the machine has done so far; before the start what making it took, after the end the last counts.
    ///
    /// # Errors
    ///
    /// [`VmError::Ended`] if its supervisor failed and left none.
    pub fn stats(&self) -> Result<VmStats, VmError> {
        if let Life::Ready(parts) = &*self.life.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(parts.0.stats());
        }
        match self.ask(Command::Stats) {
            Err(VmError::Ended) => self.remote.progress.stats().ok_or(VmError::Ended),
            answer => answer,
        }
    }

    /// Guest RAM: where its pieces are, for the guest and in this process.
    ///
    /// # Errors
    ///
    /// [`VmError::Ended`]: it is gone.
    pub fn memory(&self) -> Result<VmMemory, VmError> {
        self.ram.upgrade().map(VmMemory::new).ok_or(VmError::Ended)
    }

    /// The machine's virtio devices, in the order of their slots.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.devices.infos().cloned().collect()
    }

    /// A device by its Rust type and its name among those of its type (see [`DeviceInfo::id`]), such as
    /// `vm.device::<purlin::devices::fs::Fs>("work")` for the share with the tag `work`. `None` if there is
    /// none, or if the machine is gone.
    pub fn device<D: VirtioDevice + 'static>(&self, id: &str) -> Option<DeviceRef<D>> {
        self.devices.find(id)
    }

    /// The writing end of the workload's standard input, once, if it was configured as
    /// [`ConsoleStream::Pipe`](crate::ConsoleStream::Pipe). Dropping it is end of file for the guest.
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).stdin.take()
    }

    /// The reading end of the workload's standard output; see [`Vm::take_stdin`].
    pub fn take_stdout(&self) -> Option<PipeReader> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).stdout.take()
    }

    /// The reading end of the workload's standard error; see [`Vm::take_stdin`].
    pub fn take_stderr(&self) -> Option<PipeReader> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).stderr.take()
    }

    /// Tells the guest's first console a new size in characters. No-op without one.
    pub fn resize(&self, columns: u16, rows: u16) {
        if let Some(console) = &self.console {
            console.resize(0, WindowSize { cols: columns, rows });
        }
    }

    /// Tells every console that is on a host terminal the size this has now. To be called after SIGWINCH.
    pub fn follow_terminals(&self) {
        self.terminals.iter().for_each(Terminal::pass_on_size);
    }

    /// True if a console is on a host terminal.
    pub(crate) fn has_terminals(&self) -> bool {
        !self.terminals.is_empty()
    }

    /// True if a console wants [`Vm::interrupt`].
    pub(crate) fn takes_interrupts(&self) -> bool {
        self.injector.is_some()
    }

    /// Types Ctrl-C on the guest's console. No-op if the console's input is a terminal, which does so
    /// itself, or if there is none.
    pub fn interrupt(&self) {
        if let Some(injector) = &self.injector {
            injector.interrupt();
        }
    }

    /// The memory balloon: asks the guest to give memory back, and tells how much it has. Usable in every state
    /// of the machine.
    ///
    /// Memory that is free in the guest comes back by itself, some seconds later, if the guest's kernel has free
    /// page reporting, as libkrunfw's has.
    pub fn balloon(&self) -> &BalloonHandle {
        &self.balloon
    }

    /// Sends a command and waits for its answer, which is bounded by the command's own deadline.
    fn ask<T: Send + 'static>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, VmError> {
        let (reply, answer) = std::sync::mpsc::channel();
        self.remote.ask(command, move |result| drop(reply.send(result)))?;
        answer.recv().map_err(|_| VmError::Ended)?
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
        let life =
            std::mem::replace(&mut *self.life.lock().unwrap_or_else(PoisonError::into_inner), Life::Over);
        if let Life::Started(thread) = life
            && thread.join().is_err()
        {
            log::error!("the supervisor of a virtual machine panicked");
        }
        // If it never started; otherwise there is none left.
        self.servers.finish(None);
    }
}
