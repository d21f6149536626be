//! The thread of one vCPU.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::machine::{Reply, VcpuCommand, VcpuState};
use super::stats::{ExitCounters, VcpuCounters};
use super::sys::with_current_vcpu;
use super::vcpu::Entry;
use super::{KvmVcpu, OnEnd, VcpuEnd, VcpuEvent};
use crate::bus::Bus;

/// The two address spaces of an x86 machine.
#[derive(Debug, Default)]
pub struct Buses {
    /// Port I/O.
    pub pio: Bus,
    /// Memory-mapped I/O.
    pub mmio: Bus,
}

/// A vCPU's answer: its index, and for [`VcpuCommand::QueryParked`] whether it is parked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub index: u8,
    pub parked: bool,
}

pub(super) struct Request {
    pub command: VcpuCommand,
    pub reply: Sender<Answer>,
}

/// The owner's side of a vCPU thread.
pub(super) struct VcpuThread {
    pub index: u8,
    pub requests: Sender<Request>,
    pub thread: JoinHandle<()>,
}

impl VcpuThread {
    /// Starts the thread, paused. `on_end` hears when the vCPU ends by itself.
    pub(super) fn spawn(
        vcpu: KvmVcpu,
        buses: Arc<Buses>,
        on_end: OnEnd,
        counters: ExitCounters,
    ) -> io::Result<Self> {
        let (requests, rx) = channel();
        let index = vcpu.index();
        let thread = std::thread::Builder::new().name(format!("vcpu{index}")).spawn(move || {
            // One per vCPU of the group, which numbers them.
            let Some(counters) = counters.vcpu(index.into()) else { return };
            Runner { vcpu, buses, on_end, counters, requests: rx, state: VcpuState::Paused }.run();
        })?;
        Ok(VcpuThread { index, requests, thread })
    }
}

struct Runner<'a> {
    vcpu: KvmVcpu,
    buses: Arc<Buses>,
    on_end: OnEnd,
    counters: &'a VcpuCounters,
    requests: Receiver<Request>,
    state: VcpuState,
}

impl Runner<'_> {
    fn run(mut self) {
        with_current_vcpu(
            &mut self,
            |runner| runner.vcpu.fd_mut(),
            |runner| {
                while runner.state != VcpuState::Finished {
                    // A device that panics ends the guest, not this thread: its owner still wants answers.
                    if catch_unwind(AssertUnwindSafe(|| runner.turn())).is_err() {
                        runner.end(VcpuEnd::Panicked);
                    }
                }
            },
        );
    }

    fn turn(&mut self) {
        if self.state == VcpuState::Running { self.enter() } else { self.wait() }
    }

    fn enter(&mut self) {
        match self.vcpu.enter(&self.buses, self.counters) {
            Entry::Handled => {}
            Entry::Kicked => self.take_requests(),
            Entry::Ended(end) => self.end(end),
        }
    }

    /// Tells the owner, once.
    fn end(&mut self, end: VcpuEnd) {
        if self.state != VcpuState::Ended {
            self.state = VcpuState::Ended;
            (self.on_end)(VcpuEvent { index: self.vcpu.index(), end });
        }
    }

    /// Takes everything that is there before the guest is entered: the kick of a message that arrived
    /// before this thread had a vCPU to interrupt is spent.
    fn wait(&mut self) {
        match self.requests.recv() {
            Ok(request) => {
                self.answer(&request);
                self.take_requests();
            }
            // The owner is gone.
            Err(_) => self.state = VcpuState::Finished,
        }
    }

    fn take_requests(&mut self) {
        loop {
            match self.requests.try_recv() {
                Ok(request) => self.answer(&request),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.state = VcpuState::Finished,
            }
        }
    }

    fn answer(&mut self, request: &Request) {
        let was = self.state;
        let (next, reply) = was.on(request.command);
        if was == VcpuState::Running && next == VcpuState::Paused {
            self.vcpu.announce_pause();
        }
        self.state = next;
        let parked = reply == Reply::Parked && self.vcpu.is_parked();
        let _ = request.reply.send(Answer { index: self.vcpu.index(), parked });
    }
}
