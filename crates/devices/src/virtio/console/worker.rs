//! The part of an active console that owns its queues and host descriptors.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_vmm_core::memory::SharedRam;
use virtio_queue::QueueT;
use vmm_sys_util::epoll::EventSet;

use super::config::WhenBroken;
use super::control::Control;
use super::handle::Shared;
use super::io::{HostInput, HostOutput};
use super::order::Registration;
use super::protocol::ResizeOrder;
use super::ring::{self, RingError};
use super::{CONTROL_RX, CONTROL_TX, port_of_queue};
use crate::shell::{Breakage, QueueWorker};
use crate::virtio::{DeviceQueue, Interrupt, Signal};

/// The host side of one port. Outlives activation and reset.
pub(super) struct Ends {
    pub input: Option<HostInput>,
    pub output: HostOutput,
    pub when_broken: WhenBroken,
    /// There was an input, and it came to its end.
    pub input_ended: bool,
}

impl Ends {
    /// True if the port is to be taken away because nobody reads its output.
    pub(super) fn to_remove(&self) -> bool {
        matches!(self.output, HostOutput::Broken) && self.when_broken == WhenBroken::Remove
    }
}

/// Ends that are given up but may still be watched.
#[derive(Default)]
pub(super) struct Retired {
    pub inputs: Vec<HostInput>,
    pub outputs: Vec<HostOutput>,
}

/// A descriptor a port waits for, and the one registered with the loop.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub wanted: Option<RawFd>,
    registered: Option<RawFd>,
}

impl Watch {
    fn update(&mut self, ops: &mut EventOps, token: Token, events: EventSet) {
        if self.wanted == self.registered {
            return;
        }
        if let Some(old) = self.registered.take()
            && let Err(e) = ops.remove(Events::new_raw(old, EventSet::empty()))
        {
            log::error!("console cannot stop watching a descriptor: {e}");
        }
        if let Some(new) = self.wanted {
            match ops.add(Events::with_data_raw(new, token.data(), events)) {
                Ok(()) => self.registered = Some(new),
                Err(e) => {
                    log::error!("console cannot watch a descriptor: {e}");
                    self.wanted = None;
                }
            }
        }
    }
}

/// Progress of one port.
#[derive(Debug, Default)]
pub(super) struct PortWork {
    /// Bytes of the first transmit buffer that already went out.
    pub tx_done: usize,
    /// Left in the middle of its work, for others to get their turn.
    pub rx_turn: bool,
    /// As `rx_turn`, for output.
    pub tx_turn: bool,
    pub input: Watch,
    pub output: Watch,
}

/// What an epoll event is about, as the 32 bits of data that come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Queue(u16),
    Input(u16),
    Output(u16),
    Wake,
}

impl Token {
    fn data(self) -> u32 {
        let (kind, index) = match self {
            Token::Queue(i) => (0, i),
            Token::Input(i) => (1, i),
            Token::Output(i) => (2, i),
            Token::Wake => (3, 0),
        };
        kind << 16 | u32::from(index)
    }

    fn from_data(data: u32) -> Self {
        let index = data as u16;
        match data >> 16 {
            0 => Token::Queue(index),
            1 => Token::Input(index),
            2 => Token::Output(index),
            _ => Token::Wake,
        }
    }
}

pub(super) struct Worker {
    pub memory: SharedRam,
    pub interrupt: Arc<dyn Interrupt>,
    /// In queue order; see [`super::rx_queue`] and [`super::tx_queue`].
    pub queues: Vec<DeviceQueue>,
    pub control: Control,
    pub ends: Vec<Ends>,
    pub work: Vec<PortWork>,
    pub shared: Arc<Shared>,
    /// Of the console that comes up before this one.
    pub after: Option<Arc<Registration>>,
    pub resize_order: ResizeOrder,
    /// The driver gets an interrupt per queue when the worker starts: it is resumed.
    pub announce: bool,
    pub breakage: Breakage,
    /// Ends given up, kept open until the loop does not watch them any more.
    pub retired: Retired,
}

impl Worker {
    /// Does everything there is to do now.
    pub(super) fn serve_all(&mut self) {
        self.guarded(|w| {
            w.apply_sizes();
            w.shared.registration.set(w.control.is_registering());
            w.receive_control()?;
            for port in 0..w.ends.len() {
                w.serve_port(port)?;
            }
            w.send_control()
        });
    }

    fn serve_port(&mut self, port: usize) -> Result<(), RingError> {
        self.transmit(port)?;
        self.receive(port)
    }

    /// Runs a step; a broken ring ends the device's work until it is reset.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<(), RingError>) {
        if self.breakage.is_broken() {
            return;
        }
        if let Err(e) = step(self) {
            self.shared.count_error();
            self.shared.registration.set(false);
            for work in &mut self.work {
                work.input.wanted = None;
                work.output.wanted = None;
            }
            self.breakage.report(&e, &*self.interrupt);
        }
    }

    /// Takes over window sizes set by other threads.
    fn apply_sizes(&mut self) {
        let shared = self.shared.clone();
        for (index, port) in shared.ports.iter().enumerate() {
            let Some(size) = port.size() else { continue };
            if self.control.ports.get(index).is_none_or(|p| p.size == Some(size)) {
                continue;
            }
            self.control.resize(index, size);
            if index == 0 {
                self.interrupt.trigger(Signal::Config);
            }
        }
    }

    /// The queue, if the driver set it up.
    pub(super) fn queue(&mut self, index: usize) -> Option<&mut DeviceQueue> {
        self.queues.get_mut(index).filter(|q| q.queue.ready())
    }

    /// Interrupts the driver for buffers of this queue, if it wants that.
    pub(super) fn notify_driver(&mut self, index: usize) {
        let memory = self.memory.clone();
        let Some(q) = self.queue(index) else { return };
        let signal = Signal::Queue(q.index);
        if ring::wants_interrupt(&mut q.queue, &memory) {
            self.interrupt.trigger(signal);
        }
    }

    /// One event of the loop.
    fn handle(&mut self, token: Token) -> Result<(), RingError> {
        match token {
            Token::Queue(index) => {
                let index = usize::from(index);
                if let Some(q) = self.queues.get(index) {
                    let _ = q.event.read();
                }
                match index {
                    CONTROL_TX => self.control_turn()?,
                    CONTROL_RX => {}
                    _ => self.serve_port(port_of_queue(index))?,
                }
            }
            Token::Input(port) => self.receive(port.into())?,
            Token::Output(port) => self.transmit(port.into())?,
            Token::Wake => self.woken()?,
        }
        self.send_control()
    }

    /// Takes the driver's messages. A port the guest just opened may have input waiting; one it closed does
    /// not read on.
    fn control_turn(&mut self) -> Result<(), RingError> {
        let ports = 0..self.ends.len();
        let before: Vec<bool> = ports.map(|port| self.control.accepts_input(port)).collect();
        self.receive_control()?;
        for (port, was_open) in before.into_iter().enumerate() {
            if self.control.accepts_input(port) != was_open {
                self.receive(port)?;
            }
        }
        Ok(())
    }

    fn woken(&mut self) -> Result<(), RingError> {
        let _ = self.shared.wake.read();
        self.apply_sizes();
        self.control_turn()?;
        for port in 0..self.ends.len() {
            let Some(work) = self.work.get_mut(port) else { continue };
            let (rx, tx) = (std::mem::take(&mut work.rx_turn), std::mem::take(&mut work.tx_turn));
            if tx {
                self.transmit(port)?;
            }
            if rx {
                self.receive(port)?;
            }
        }
        Ok(())
    }

    fn update_watches(&mut self, ops: &mut EventOps) {
        for (port, work) in (0u16..).zip(&mut self.work) {
            work.input.update(ops, Token::Input(port), EventSet::IN);
            work.output.update(ops, Token::Output(port), EventSet::OUT);
        }
        self.retired = Retired::default();
        if self.work.iter().any(|w| w.rx_turn || w.tx_turn) {
            self.shared.wake();
        }
    }

    fn register(&mut self, ops: &mut EventOps) {
        let queues = self.queues.iter().filter(|q| q.queue.ready());
        let queues = queues.map(|q| (q.event.as_raw_fd(), Token::Queue(q.index)));
        for (fd, token) in queues.chain([(self.shared.wake.as_raw_fd(), Token::Wake)]) {
            if let Err(e) = ops.add(Events::with_data_raw(fd, token.data(), EventSet::IN)) {
                log::error!("console cannot watch {token:?}: {e}");
            }
        }
        for work in &mut self.work {
            work.input.registered = None;
            work.output.registered = None;
        }
    }

    fn announce(&mut self) {
        if std::mem::take(&mut self.announce) {
            for q in self.queues.iter().filter(|q| q.queue.ready()) {
                self.interrupt.trigger(Signal::Queue(q.index));
            }
            // The size may be another one than before the stop.
            self.interrupt.trigger(Signal::Config);
        }
    }
}

impl MutEventSubscriber for Worker {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if self.breakage.is_broken() {
            // Level-triggered: leaving it watched would spin.
            let _ = ops.remove(Events::new_raw(events.fd(), EventSet::empty()));
            return;
        }
        let token = Token::from_data(events.data());
        self.guarded(|w| w.handle(token));
        self.update_watches(ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.register(ops);
        self.announce();
        self.serve_all();
        self.update_watches(ops);
    }
}

impl QueueWorker for Worker {
    /// Nothing is ever half done: what did not go out is still in the guest's ring.
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}
