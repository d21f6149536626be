//! All vCPUs of a machine, started, paused and stopped together.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::affinity::CpuMask;
use super::thread::{Answer, Buses, Request, VcpuThread};
use super::{ExitCounters, KvmError, KvmVcpu, VcpuCommand, VcpuEnd, sys};
use crate::run_state::{IllegalMove, Move, RunState};

/// A vCPU ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcpuEvent {
    /// Which one.
    pub index: u8,
    /// Why.
    pub end: VcpuEnd,
}

/// Hears of vCPUs that end.
pub type OnEnd = Arc<dyn Fn(VcpuEvent) + Send + Sync>;

/// A command to the vCPUs failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Not allowed in the present run state.
    #[error(transparent)]
    State(#[from] IllegalMove),
    /// Some vCPUs did not answer before the deadline. For a pause, the others were resumed.
    #[error("{missing} of {total} vCPUs did not answer in time (first: {first})")]
    Timeout {
        /// How many did not answer.
        missing: usize,
        /// How many there are.
        total: usize,
        /// Lowest index that did not answer.
        first: u8,
    },
}

/// The vCPU threads of one machine.
///
/// Dropping it stops and joins them.
pub struct VcpuGroup {
    threads: Vec<VcpuThread>,
    state: RunState,
    counters: ExitCounters,
    /// CPU time of threads that are gone.
    spent: Duration,
}

/// How long dropping a group waits for its threads.
const DROP_LIMIT: Duration = Duration::from_secs(5);

impl VcpuGroup {
    /// One thread per vCPU, all waiting for [`VcpuGroup::start`]. `on_end` hears of vCPUs that end by
    /// themselves, on their threads; it must not block and must not call back into the group.
    ///
    /// # Errors
    ///
    /// The host refused the kick handler or a thread; no thread is left behind.
    pub fn new(vcpus: Vec<KvmVcpu>, buses: &Arc<Buses>, on_end: &OnEnd) -> Result<Self, KvmError> {
        sys::install_kick_handler()?;
        let last = vcpus.iter().map(|vcpu| usize::from(vcpu.index())).max();
        let counters = ExitCounters::new(last.map_or(0, |last| last.saturating_add(1)));
        let mut group =
            VcpuGroup { threads: Vec::new(), state: RunState::Created, counters, spent: Duration::ZERO };
        for vcpu in vcpus {
            let thread = VcpuThread::spawn(vcpu, buses.clone(), on_end.clone(), group.counters.clone())
                .map_err(|source| KvmError::Host { what: "vCPU thread", source })?;
            group.threads.push(thread);
        }
        Ok(group)
    }

    /// Lets a vCPU's thread run on these processors of the host only.
    ///
    /// # Errors
    ///
    /// [`KvmError::Affinity`] if there is no such vCPU, or the host has none of the processors or does not let this
    /// process use them.
    pub fn pin(&self, vcpu: u8, cpus: &CpuMask) -> Result<(), KvmError> {
        let refused = |source| KvmError::Affinity { vcpu, cpus: cpus.to_string(), source };
        let thread = self.threads.iter().find(|thread| thread.index == vcpu);
        let thread = thread.ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
        sys::set_affinity(&thread.thread, cpus).map_err(refused)
    }

    /// The present state.
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Enters the guest for the first time.
    ///
    /// # Errors
    ///
    /// [`GroupError::State`] unless created.
    pub fn start(&mut self) -> Result<(), GroupError> {
        let next = self.state.after(Move::Start)?;
        self.send(VcpuCommand::Resume);
        self.state = next;
        Ok(())
    }

    /// Takes every vCPU out of the guest; reads in flight are completed first. `Ok` if already paused.
    ///
    /// # Errors
    ///
    /// [`GroupError::State`] unless running or paused; [`GroupError::Timeout`], after which the machine
    /// runs as before.
    pub fn pause(&mut self, deadline: Instant) -> Result<(), GroupError> {
        let next = self.state.after(Move::Pause)?;
        if next == self.state {
            return Ok(());
        }
        let answers = self.send(VcpuCommand::Pause);
        if let Err(e) = self.collect(&answers, deadline) {
            self.send(VcpuCommand::Resume);
            return Err(e);
        }
        self.state = next;
        Ok(())
    }

    /// Enters the guest again. `Ok` if already running.
    ///
    /// # Errors
    ///
    /// [`GroupError::State`] unless running or paused.
    pub fn resume(&mut self) -> Result<(), GroupError> {
        let next = self.state.after(Move::Resume)?;
        self.send(VcpuCommand::Resume);
        self.state = next;
        Ok(())
    }

    /// Ends all threads and joins them. `Ok` if already stopped.
    ///
    /// # Errors
    ///
    /// [`GroupError::Timeout`] if a thread does not return from a device before the deadline; it is left
    /// behind and will end when it does.
    pub fn stop(&mut self, deadline: Instant) -> Result<(), GroupError> {
        self.state = self.state.after(Move::Stop).unwrap_or(RunState::Stopped);
        let spent = self.cpu_time();
        let answers = self.send(VcpuCommand::Finish);
        let outcome = self.collect(&answers, deadline).map(|_| ());
        self.spent = spent;
        for VcpuThread { thread, index, .. } in self.threads.drain(..) {
            let ended = outcome.is_ok() || thread.is_finished();
            if ended && thread.join().is_err() {
                log::error!("vCPU {index}: its thread panicked");
            }
        }
        outcome
    }

    /// True if every vCPU is halted with interrupts off (or was never started by the guest): the guest has
    /// powered off in a way that makes no exit.
    ///
    /// # Errors
    ///
    /// [`GroupError::Timeout`].
    pub fn all_parked(&self, deadline: Instant) -> Result<bool, GroupError> {
        let answers = self.send(VcpuCommand::QueryParked);
        Ok(self.collect(&answers, deadline)?.iter().all(|a| a.parked))
    }

    /// What the vCPUs left the guest for; readable also after the group is gone.
    pub fn exit_counters(&self) -> ExitCounters {
        self.counters.clone()
    }

    /// CPU time of all vCPU threads, to tell an idle guest from a busy one.
    pub fn cpu_time(&self) -> Duration {
        self.threads.iter().map(|t| sys::cpu_time(&t.thread)).fold(self.spent, Duration::saturating_add)
    }

    /// The message first, then the signal: a kick that finds no message would be for nothing, a message
    /// without a kick would wait for the next exit.
    fn send(&self, command: VcpuCommand) -> Receiver<Answer> {
        let (reply, answers) = channel();
        for t in &self.threads {
            let _ = t.requests.send(Request { command, reply: reply.clone() });
        }
        for t in &self.threads {
            if let Err(e) = sys::kick(&t.thread) {
                // ESRCH: the thread has returned already.
                log::debug!("vCPU {} cannot be kicked: {e}", t.index);
            }
        }
        answers
    }

    fn collect(&self, answers: &Receiver<Answer>, deadline: Instant) -> Result<Vec<Answer>, GroupError> {
        let mut got = Vec::with_capacity(self.threads.len());
        while got.len() < self.threads.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match answers.recv_timeout(left) {
                Ok(answer) => got.push(answer),
                Err(_) => break,
            }
        }
        let missing = || self.threads.iter().filter(|t| !got.iter().any(|a| a.index == t.index));
        match missing().next() {
            Some(first) => Err(GroupError::Timeout {
                missing: missing().count(),
                total: self.threads.len(),
                first: first.index,
            }),
            None => Ok(got),
        }
    }
}

impl Drop for VcpuGroup {
    fn drop(&mut self) {
        let deadline = Instant::now().checked_add(DROP_LIMIT).unwrap_or_else(Instant::now);
        if let Err(e) = self.stop(deadline) {
            log::error!("vCPUs do not stop: {e}");
        }
    }
}
