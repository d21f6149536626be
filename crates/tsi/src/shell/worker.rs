//! The thread's loop: one turn serves sockets, the ring from the guest, and the ring to it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_devices::shell::QueueWorker;
use purlin_devices::virtio::{Interrupt, Signal};
use purlin_vmm_core::memory::{GuestMemoryError, SharedRam};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use thiserror::Error;
use vmm_sys_util::epoll::{EpollEvent, EventSet};

use super::events::EventRing;
use super::host::Host;
use super::outbound::Batch;
use super::rx::RxRing;
use super::sys::IoVecs;
use super::tx::{Piece, TxRing};
use crate::io::SocketId;

/// A ring is broken; the driver must reset the device.
#[derive(Debug, Error)]
pub(super) enum RingError {
    #[error("ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    #[error("guest memory: {0}")]
    Memory(#[from] GuestMemoryError),
}

/// Events taken from the epoll at one time.
const EVENTS: usize = 128;
/// Rounds before the loop looks at sockets again.
const ROUNDS: usize = 16;
/// The driver learns of sent packets with the next interrupt for something it waits for; at the latest after
/// this time.
const TX_LAZINESS: Duration = Duration::from_millis(20);

/// Epoll data of descriptors that are not sockets: slots no socket has.
const RX_TOKEN: u64 = u32::MAX as u64;
const TX_TOKEN: u64 = RX_TOKEN - 1;
const EVENT_TOKEN: u64 = RX_TOKEN - 2;
const TIMER_TOKEN: u64 = RX_TOKEN - 3;
pub(super) const POLICY_TOKEN: u64 = RX_TOKEN - 4;

/// The deadline timer.
struct Alarm {
    fd: OwnedFd,
    armed: Option<Instant>,
}

/// Owns the rings, and the host side while the device is active.
pub(super) struct VsockWorker {
    pub memory: SharedRam,
    pub interrupt: Arc<dyn Interrupt>,
    pub rx: RxRing,
    pub tx: TxRing,
    pub events: EventRing,
    /// Taken out when the device is reset.
    pub host: Option<Host>,
    /// A ring is broken; nothing is touched until reset.
    pub failed: bool,
    /// How often it woke up.
    pub turns: u64,
    alarm: Alarm,
    tx_due: Option<Instant>,
    pub batch: Batch,
    pub vecs: IoVecs,
    /// Scratch space.
    ready: Vec<EpollEvent>,
    pub pieces: Vec<Piece>,
    pub taken: Vec<u16>,
}

impl VsockWorker {
    /// Rings of a driver around a host side.
    pub fn new(
        memory: SharedRam,
        interrupt: Arc<dyn Interrupt>,
        rings: (RxRing, TxRing, EventRing),
        host: Host,
    ) -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let (rx, tx, events) = rings;
        host.sockets.watch(fd.as_raw_fd(), TIMER_TOKEN)?;
        for (queue, token) in [(&rx.queue, RX_TOKEN), (&tx.queue, TX_TOKEN), (&events.queue, EVENT_TOKEN)] {
            host.sockets.watch(queue.event.as_raw_fd(), token)?;
        }
        Ok(VsockWorker {
            memory,
            interrupt,
            rx,
            tx,
            events,
            host: Some(host),
            failed: false,
            turns: 0,
            alarm: Alarm { fd, armed: None },
            tx_due: None,
            batch: Batch::default(),
            vecs: IoVecs::new(),
            ready: vec![EpollEvent::default(); EVENTS],
            pieces: Vec::new(),
            taken: Vec::new(),
        })
    }

    /// Gives the host side back, without this worker's descriptors.
    pub fn take_host(&mut self) -> Option<Host> {
        let host = self.host.take()?;
        for queue in [&self.rx.queue, &self.tx.queue, &self.events.queue] {
            host.sockets.unwatch(queue.event.as_raw_fd());
        }
        Some(host)
    }

    /// One wake-up.
    fn turn(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        if self.failed {
            return;
        }
        let memory = self.memory.clone();
        let Some(mut host) = self.host.take() else { return };
        let now = Instant::now();
        if let Err(e) = self.serve(&memory, &mut host, now) {
            log::error!("vsock stops until the driver resets it: {e}");
            self.failed = true;
            self.interrupt.needs_reset();
        }
        self.host = Some(host);
    }

    fn serve(&mut self, ram: &SharedRam, host: &mut Host, now: Instant) -> Result<(), RingError> {
        self.take_events(host, now);
        host.muxer.handle_timeout(now);
        host.check_policy(now);
        host.wake_parked(now);
        host.act(now);
        if self.events.serve(ram)? {
            self.interrupt.trigger(Signal::Queue(self.events.queue.index));
        }
        let mut busy = true;
        for _ in 0..ROUNDS {
            let sent = self.transmit(ram, host, now)?;
            let received = self.receive(ram, host, now)?;
            busy = sent || received;
            if !busy {
                break;
            }
        }
        if busy {
            // Come back after the others.
            let _ = self.tx.queue.event.write(1);
        }
        host.gate.publish();
        self.signal(ram, now);
        self.set_alarm(host, now);
        Ok(())
    }

    fn take_events(&mut self, host: &mut Host, now: Instant) {
        let mut ready = std::mem::take(&mut self.ready);
        // Interrupted: the events stay.
        let count = host.sockets.epoll().wait(0, &mut ready).unwrap_or(0);
        for event in ready.iter().take(count) {
            let (data, flags) = (event.data(), event.event_set());
            match data {
                TIMER_TOKEN => self.alarm.armed = None,
                RX_TOKEN | TX_TOKEN | EVENT_TOKEN | POLICY_TOKEN => {}
                socket => {
                    host.event(now, SocketId::from_bits(socket), flags);
                    host.act(now);
                }
            }
        }
        self.ready = ready;
    }

    /// Interrupts for everything this turn did.
    fn signal(&mut self, ram: &SharedRam, now: Instant) {
        if self.rx.wants_interrupt(ram) {
            self.interrupt.trigger(Signal::Queue(self.rx.queue.index));
        }
        if !self.tx.owes_interrupt() {
            return;
        }
        let due = *self.tx_due.get_or_insert_with(|| now.checked_add(TX_LAZINESS).unwrap_or(now));
        if self.tx.interrupt_is_urgent() || due <= now {
            self.tx_due = None;
            if self.tx.wants_interrupt(ram) {
                self.interrupt.trigger(Signal::Queue(self.tx.queue.index));
            }
        }
    }

    fn set_alarm(&mut self, host: &Host, now: Instant) {
        let next = [host.muxer.poll_timeout(), host.gate.retry_at, self.tx_due].into_iter().flatten().min();
        let Some(next) = next.filter(|next| self.alarm.armed.is_none_or(|armed| *next < armed)) else {
            return;
        };
        // Not zero, which would switch it off.
        let wait = next.saturating_duration_since(now).max(Duration::from_micros(1));
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() },
        };
        match rustix::time::timerfd_settime(&self.alarm.fd, TimerfdTimerFlags::empty(), &spec) {
            Ok(_) => self.alarm.armed = Some(next),
            Err(e) => log::error!("vsock: deadline timer: {e}"),
        }
    }
}

impl MutEventSubscriber for VsockWorker {
    fn init(&mut self, ops: &mut EventOps) {
        if let Some(host) = &self.host {
            let events = Events::new_raw(host.sockets.epoll().as_raw_fd(), EventSet::IN);
            if let Err(e) = ops.add(events) {
                log::error!("vsock: cannot watch its sockets: {e}");
            }
        }
        self.turn();
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.turn();
    }
}

impl QueueWorker for VsockWorker {
    /// Packets are handled whole in one turn; what sockets did not take is kept until the device resumes.
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        self.rx.unread();
        Ok(())
    }
}
