//! The thread that owns a running machine: hears of its processors, its guest and its owner, and ends it.

use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use purlin_devices::legacy::PowerRequest;
use purlin_devices::virtio::console::PortHandle;
use purlin_init::control::{Event as GuestEvent, Request};
use purlin_snapshot::Section;
use purlin_vmm_core::kvm::{VcpuEnd, probe};
use purlin_vmm_core::run_state::RunState;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::control::ControlChannel;
use super::events::{Event, EventReceiver};
use super::observers::Observers;
use super::outcome::{End, Facts, outcome};
use super::progress::{Phase, Progress};
use super::{Command, VmError, VmExit, VmStats};
use crate::control::Servers;
use crate::machine::{Bound, Cleanup, Machine, after, lock};
use crate::panics::words;

/// How long a pause may take in all.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);
/// How long processors get to leave their devices at the end.
const HALT_LIMIT: Duration = Duration::from_secs(5);
/// How long after its grace time a guest that was asked to stop is killed.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long a workload gets to end after Ctrl-Alt-Del, milliseconds; what systems allow a shutdown.
const CTRL_ALT_DEL_GRACE_MS: u32 = 90_000;
/// First and longest time between two looks whether the guest is halted for good.
const HALT_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Less CPU time than this between two looks means that the guest did nothing.
const IDLE_CPU: Duration = Duration::from_millis(1);

const WAKE: u64 = 0;
const CONTROL: u64 = 1;

/// Who hears of the end, in this order: observers, clients, then whoever waits.
#[derive(Clone)]
pub(super) struct Announce {
    pub observers: Arc<Observers>,
    pub progress: Arc<Progress>,
    pub servers: Arc<Servers>,
}

impl Announce {
    /// Lives a machine's life and announces its end, also that of one that panics.
    fn after(&self, life: impl FnOnce() -> VmExit) {
        let exit = catch_unwind(AssertUnwindSafe(life));
        // Last: whoever waits finds nothing of the machine left.
        self.end(exit.unwrap_or_else(|panic| VmExit::failed(words(&*panic))));
    }

    pub fn end(&self, exit: VmExit) {
        self.observers.ended(&exit);
        self.servers.finish(Some(&exit));
        self.progress.set(Phase::Ended(exit));
    }
}

pub(super) struct Supervisor {
    machine: Machine,
    events: EventReceiver,
    epoll: Epoll,
    control: ControlChannel,
    observers: Arc<Observers>,
    progress: Arc<Progress>,
    facts: Facts,
    /// Init's last message: everything is written out and only the restart is left, which need not be
    /// waited for.
    guest_is_done: bool,
    stop_deadline: Option<Instant>,
    started: Instant,
    halt_check: HaltCheck,
}

/// When to look for a guest that is halted for good: seldom while it is idle, soon after it did something.
struct HaltCheck {
    next: Instant,
    interval: Duration,
    cpu_time: Duration,
}

impl HaltCheck {
    fn new() -> Self {
        HaltCheck { next: after(HALT_CHECK.0), interval: HALT_CHECK.0, cpu_time: Duration::ZERO }
    }

    /// Called when due; true if a look is worth it.
    fn due(&mut self, cpu_time: Duration) -> bool {
        let idle = cpu_time.saturating_sub(self.cpu_time) < IDLE_CPU;
        self.cpu_time = cpu_time;
        self.interval = if idle { self.interval.saturating_mul(2).min(HALT_CHECK.1) } else { HALT_CHECK.0 };
        self.next = after(self.interval);
        idle
    }
}

impl Supervisor {
    pub fn new(
        machine: Machine,
        control: PortHandle,
        events: EventReceiver,
        announce: &Announce,
    ) -> io::Result<Self> {
        let control = ControlChannel::new(control);
        let epoll = Epoll::new()?;
        let wake = events.wake().as_raw_fd();
        epoll.ctl(ControlOperation::Add, wake, EpollEvent::new(EventSet::IN, WAKE))?;
        epoll.ctl(ControlOperation::Add, control.fd(), EpollEvent::new(EventSet::IN, CONTROL))?;
        Ok(Supervisor {
            machine,
            events,
            epoll,
            control,
            observers: announce.observers.clone(),
            progress: announce.progress.clone(),
            facts: Facts::default(),
            guest_is_done: false,
            stop_deadline: None,
            started: Instant::now(),
            halt_check: HaltCheck::new(),
        })
    }

    pub fn spawn(self, announce: Announce) -> io::Result<JoinHandle<()>> {
        // The new thread inherits it. The host has let the machine's other threads be bound there.
        let cpus = self.machine.worker_cpus.as_ref();
        let _bound = cpus.map(Bound::to).transpose()?;
        std::thread::Builder::new().name("purlin-vm".to_owned()).spawn(move || {
            announce.after(|| self.run());
        })
    }

    /// A machine's life, and its dismantling whatever becomes of that life.
    fn run(mut self) -> VmExit {
        let mut cleanup = Cleanup::default();
        let end = catch_unwind(AssertUnwindSafe(|| self.supervise()));
        self.machine.halt(&mut cleanup, after(HALT_LIMIT));
        let mut exit = None;
        cleanup.step("hear the guest's last words", || {
            exit = Some(match end {
                Ok(Ok(end)) => self.outcome(end),
                Ok(Err(e)) => VmExit::failed(e.to_string()),
                Err(panic) => VmExit::failed(words(&*panic)),
            });
        });
        cleanup.step("keep the last counters", || self.progress.set_stats(self.stats()));
        let Supervisor { machine, control, events, epoll, .. } = self;
        cleanup.part("close the control channel", control);
        machine.dismantle(&mut cleanup);
        cleanup.part("close the events", (events, epoll));
        exit.unwrap_or_else(|| VmExit::failed(last_failure(&cleanup)))
    }

    fn supervise(&mut self) -> Result<End, VmError> {
        self.machine.phases.restart();
        self.machine.vcpus.start()?;
        let mut ready = [EpollEvent::default(); 2];
        loop {
            let count = match self.epoll.wait(self.timeout(), &mut ready) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                Err(e) => return Err(VmError::Thread(e)),
            };
            for event in ready.iter().take(count) {
                if event.data() == CONTROL {
                    self.hear_guest();
                } else if let Some(end) = self.hear_events() {
                    return Ok(end);
                }
            }
            if self.guest_is_done {
                return Ok(End::Reset);
            }
            if self.stop_deadline.is_some_and(|d| d <= Instant::now()) {
                log::warn!("the guest did not stop in time and is killed");
                return Ok(End::TimedOut);
            }
            if self.is_halted() {
                return Ok(End::Halted);
            }
        }
    }

    /// Milliseconds until the next deadline, rounded up; -1, which is for ever, without one.
    fn timeout(&self) -> i32 {
        // A guest that is paused cannot halt.
        let running = self.machine.vcpus.state() == RunState::Running;
        let halt_check = running.then_some(self.halt_check.next);
        let Some(next) = [self.stop_deadline, halt_check].into_iter().flatten().min() else { return -1 };
        let left = next.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    fn hear_guest(&mut self) {
        for event in self.control.read().into_iter().flatten() {
            self.hear(event);
        }
        self.control.write();
        self.rearm();
    }

    /// What the guest's init says. It may say anything as often as it likes.
    fn hear(&mut self, event: GuestEvent) {
        match event {
            GuestEvent::Hello { .. } if !self.facts.booted => {
                self.machine.phases.end_of("guest booted");
                self.observers.booted();
            }
            GuestEvent::Started { .. } if !self.facts.started => {
                self.machine.phases.end_of("workload started");
            }
            GuestEvent::Exited { .. } => self.guest_is_done = true,
            _ => {}
        }
        self.facts.note(event);
    }

    /// Watches the control port for what is wanted of it.
    fn rearm(&self) {
        let fd = self.control.fd();
        let outcome = if !self.control.is_open() {
            self.epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default())
        } else {
            let out = if self.control.wants_to_write() { EventSet::OUT } else { EventSet::empty() };
            self.epoll.ctl(ControlOperation::Modify, fd, EpollEvent::new(EventSet::IN | out, CONTROL))
        };
        if let Err(e) = outcome {
            log::error!("the control channel cannot be watched: {e}");
        }
    }

    fn hear_events(&mut self) -> Option<End> {
        let _ = self.events.wake().read();
        while let Some(event) = self.events.take() {
            match event {
                Event::GuestPower(PowerRequest::Reset) => return Some(End::Reset),
                Event::GuestPower(PowerRequest::Off) => return Some(End::Off),
                Event::Vcpu(event) => return Some(End::Vcpu(event.end)),
                Event::ThreadFailed(thread) => return Some(End::ThreadFailed(thread)),
                Event::Command(Command::Kill) => return Some(End::Killed),
                Event::Command(command) => self.obey(command),
            }
        }
        None
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Pause(reply) => reply.send(self.pause()),
            Command::Resume(reply) => reply.send(self.resume()),
            Command::SaveDevices(reply) => reply.send(self.save_devices()),
            Command::Stats(reply) => reply.send(Ok(self.stats())),
            Command::Stop { grace } => self.ask_to_stop(grace),
            Command::CtrlAltDel => self.ctrl_alt_del(),
            Command::Kill => {}
        }
    }

    fn pause(&mut self) -> Result<(), VmError> {
        if self.machine.vcpus.state() == RunState::Paused {
            return Ok(());
        }
        let deadline = after(PAUSE_LIMIT);
        self.machine.vcpus.pause(deadline)?;
        if let Err(busy) = self.machine.slots.quiesce(deadline) {
            self.machine.vcpus.resume()?;
            return Err(busy.into());
        }
        self.progress.set(Phase::Paused);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), VmError> {
        if self.machine.vcpus.state() == RunState::Paused {
            self.machine.slots.resume();
            self.machine.vcpus.resume()?;
            self.halt_check = HaltCheck::new();
            self.progress.set(Phase::Running);
            self.tell_time();
        }
        Ok(())
    }

    /// After a pause the guest's clock may be behind. Not before its init listens: a time heard late is wrong.
    fn tell_time(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let now = now.and_then(|now| u64::try_from(now.as_nanos()).ok());
        if let Some(nanoseconds) = now.filter(|_| self.facts.started) {
            self.request(Request::SetTime { nanoseconds });
        }
    }

    fn save_devices(&self) -> Result<Vec<Section>, VmError> {
        if self.machine.vcpus.state() != RunState::Paused {
            return Err(VmError::NotPaused);
        }
        Ok(self.machine.slots.save()?)
    }

    fn ask_to_stop(&mut self, grace: Duration) {
        if let Err(e) = self.resume() {
            log::error!("a paused guest cannot be resumed to stop: {e}");
        }
        self.facts.stop_requested = true;
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.request(Request::Stop { grace_ms });
        if !self.machine.our_init {
            match &self.machine.power_button {
                Some(button) => button.press(),
                None => drop(lock(&self.machine.keyboard).send_ctrl_alt_del()),
            }
        }
        // None if the host's clock does not go that far: then the guest may take for ever.
        let deadline = Instant::now().checked_add(grace.saturating_add(STOP_MARGIN));
        self.stop_deadline = [self.stop_deadline, deadline].into_iter().flatten().min();
    }

    /// A driver of the guest hears the keys; our init, which makes its kernel ignore them, is told to stop, and so
    /// is whoever may listen if there is no driver. The guest decides what comes of it: nothing is killed.
    fn ctrl_alt_del(&mut self) {
        if let Err(e) = self.resume() {
            log::error!("a paused guest cannot be resumed for Ctrl-Alt-Del: {e}");
        }
        self.facts.stop_requested = true;
        let typed = lock(&self.machine.keyboard).send_ctrl_alt_del();
        if self.machine.our_init || !typed {
            self.request(Request::Stop { grace_ms: CTRL_ALT_DEL_GRACE_MS });
        }
    }

    /// Sends init a request.
    fn request(&mut self, request: Request) {
        self.control.send(request);
        if self.control.is_open() {
            self.rearm();
        }
    }

    fn stats(&self) -> VmStats {
        VmStats { uptime: self.started.elapsed(), ..self.machine.stats() }
    }

    fn is_halted(&mut self) -> bool {
        if self.machine.vcpus.state() != RunState::Running || self.halt_check.next > Instant::now() {
            return false;
        }
        if !self.halt_check.due(self.machine.vcpus.cpu_time()) {
            return false;
        }
        self.machine.vcpus.all_parked(after(HALT_LIMIT)).unwrap_or(false)
    }

    fn outcome(&mut self, end: End) -> VmExit {
        // Messages that were on their way when the guest ended.
        while let Some(events) = self.control.read() {
            events.into_iter().for_each(|event| self.hear(event));
        }
        let mut facts = std::mem::take(&mut self.facts);
        facts.code = self.machine.report.get().or(facts.code);
        if matches!(end, End::Vcpu(VcpuEnd::InternalError)) {
            facts.host = probe().err().map(|e| e.to_string());
        }
        outcome(facts, end)
    }
}

/// Why there is no exit: looking for it failed.
fn last_failure(cleanup: &Cleanup) -> String {
    cleanup.failures().last().map_or_else(String::new, |failure| failure.why.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExitReason;

    #[test]
    fn a_panic_ends_the_wait() {
        let announce =
            Announce { observers: Arc::default(), progress: Arc::default(), servers: Arc::default() };
        let progress = announce.progress.clone();
        let thread = std::thread::spawn(move || announce.after(|| panic!("a supervisor of a test panics")));
        let exit = progress.wait(None).unwrap();
        assert_eq!(exit.code, 125);
        assert_eq!(
            exit.reason,
            ExitReason::Failed("internal error: a supervisor of a test panics".to_owned())
        );
        thread.join().unwrap();
        assert_eq!(progress.exit(), Some(exit));
    }
}
