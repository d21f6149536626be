//! Moves bytes between a UART and host descriptors, in an event loop.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_vmm_core::memory::VolatileSlice;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::uart::Uart;
use crate::shell::QueueWorker;
use crate::virtio::console::FdEnd;

/// Bytes moved at once.
const CHUNK: usize = 4096;
/// Chunks moved before others in the loop get their turn.
const TURN: usize = 16;

/// The host's side of a serial line.
pub(super) struct Worker {
    uart: Arc<Mutex<Uart>>,
    wake: Arc<EventFd>,
    input: Option<FdEnd>,
    output: Option<FdEnd>,
    /// Read, and not taken by the guest yet.
    received: Vec<u8>,
    watched: [Option<RawFd>; 2],
    /// Ended in this turn. Somebody else may have the same open files, so what the loop watches must be taken from it while they
    /// still have the numbers it knows.
    ended: Vec<FdEnd>,
}

/// Why a direction stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// For the host's descriptor.
    Host,
    /// For the guest.
    Guest,
    /// For others to get their turn.
    Turn,
}

pub(super) fn lock(uart: &Mutex<Uart>) -> MutexGuard<'_, Uart> {
    uart.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    pub fn new(
        uart: Arc<Mutex<Uart>>,
        wake: Arc<EventFd>,
        input: Option<FdEnd>,
        output: Option<FdEnd>,
    ) -> Self {
        Worker { uart, wake, input, output, received: Vec::new(), watched: [None; 2], ended: Vec::new() }
    }

    /// Read, and not taken by the guest.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    pub fn set_received(&mut self, bytes: Vec<u8>) {
        self.received = bytes;
    }

    /// Sends what the guest wrote, as long as the host takes it.
    fn send(&mut self) -> Pause {
        let mut chunk = [0; CHUNK];
        for _ in 0..TURN {
            let count = lock(&self.uart).peek(&mut chunk);
            let Some(bytes) = chunk.get_mut(..count).filter(|bytes| !bytes.is_empty()) else {
                return Pause::Guest;
            };
            // Without a reader the bytes are dropped.
            let written = match &self.output {
                None => Ok(count),
                Some(output) => output.write(&[VolatileSlice::from(bytes)]),
            };
            match written {
                Ok(written) => lock(&self.uart).take(written),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Pause::Host,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    log::warn!("serial line: output ends: {e}");
                    self.ended.extend(self.output.take());
                }
            }
        }
        Pause::Turn
    }

    /// Gives the guest what the host sent, as long as it takes it.
    fn receive(&mut self) -> Pause {
        for _ in 0..TURN {
            if !self.received.is_empty() {
                let taken = lock(&self.uart).receive(&self.received);
                drop(self.received.drain(..taken.min(self.received.len())));
                if !self.received.is_empty() {
                    return Pause::Guest;
                }
            }
            let Some(input) = &self.input else { return Pause::Guest };
            let mut bytes = [0; 64];
            match input.read(&[VolatileSlice::from(bytes.as_mut_slice())], usize::MAX) {
                // The end, or a terminal that hung up: nothing more will come.
                Ok(0) => self.ended.extend(self.input.take()),
                Ok(count) => self.received.extend(bytes.iter().take(count)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Pause::Host,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    log::warn!("serial line: input ends: {e}");
                    self.ended.extend(self.input.take());
                }
            }
        }
        Pause::Turn
    }

    fn work(&mut self, ops: &mut EventOps) {
        lock(&self.uart).worker_came();
        let fds = [self.input.as_ref(), self.output.as_ref()].map(|end| end.and_then(FdEnd::wait_fd));
        let pauses = [self.receive(), self.send()];
        if pauses.contains(&Pause::Turn) {
            let _ = self.wake.write(1);
        }
        let [input, output] = pauses.map(|pause| pause == Pause::Host);
        self.watch(ops, 0, fds[0].filter(|_| input), EventSet::IN);
        self.watch(ops, 1, fds[1].filter(|_| output), EventSet::OUT);
        self.ended.clear();
        let lost = lock(&self.uart).take_lost();
        if lost > 0 {
            log::debug!("serial line: {lost} bytes lost: written without looking whether there was room");
        }
    }

    fn watch(&mut self, ops: &mut EventOps, index: usize, wanted: Option<RawFd>, events: EventSet) {
        let Some(watched) = self.watched.get_mut(index).filter(|watched| **watched != wanted) else { return };
        if let Some(old) = watched.take()
            && let Err(e) = ops.remove(Events::new_raw(old, EventSet::empty()))
        {
            log::debug!("serial line: a descriptor is not watched any more: {e}");
        }
        if let Some(fd) = wanted {
            match ops.add(Events::new_raw(fd, events)) {
                Ok(()) => *watched = Some(fd),
                Err(e) => log::error!("serial line: a descriptor cannot be watched: {e}"),
            }
        }
    }
}

impl MutEventSubscriber for Worker {
    fn init(&mut self, ops: &mut EventOps) {
        self.watched = [None; 2];
        if let Err(e) = ops.add(Events::new_raw(self.wake.as_raw_fd(), EventSet::IN)) {
            log::error!("serial line cannot be served: {e}");
        }
        self.work(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.wake.as_raw_fd() {
            let _ = self.wake.read();
        }
        self.work(ops);
    }
}

impl QueueWorker for Worker {
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}
