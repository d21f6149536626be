//! The thread's loop: one turn serves sockets, the ring from the guest, and the ring to it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_devices::shell::{Breakage, QueueWorker};
use purlin_devices::virtio::{Interrupt, Signal};
use purlin_vmm_core::memory::{GuestMemoryError, SharedRam};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use thiserror::Error;
use vmm_sys_util::epoll::{EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::courtesy::Courtesy;
use super::events::EventRing;
use super::host::Host;
use super::rx::RxRing;
use super::sys::IoVecs;
use super::turn::Turn;
use super::tx::TxRing;
use crate::io::SocketId;

/// A ring is broken; the driver must reset the device.
#[derive(Debug, Error)]
pub(super) enum RingError {
    #[error("ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    #[error("ring: {0}")]
    View(#[from] purlin_devices::virtio::RingError),
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
/// The same for packets to it that nobody waits for.
const RX_LAZINESS: Duration = Duration::from_millis(2);

/// Epoll data of descriptors that are not sockets: slots no socket has.
const RX_TOKEN: u64 = u32::MAX as u64;
const TX_TOKEN: u64 = RX_TOKEN - 1;
const EVENT_TOKEN: u64 = RX_TOKEN - 2;
const TIMER_TOKEN: u64 = RX_TOKEN - 3;
pub(super) const POLICY_TOKEN: u64 = RX_TOKEN - 4;
const WAKE_TOKEN: u64 = RX_TOKEN - 5;

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
    /// Taken out when the device is reset, and for each turn: in a box, because it is large.
    pub host: Option<Box<Host>>,
    pub breakage: Breakage,
    /// How often it woke up.
    pub turns: u64,
    /// The thread sleeps in the epoll of the sockets.
    alone: bool,
    pub courtesy: Courtesy,
    alarm: Alarm,
    tx_due: Option<Instant>,
    rx_due: Option<Instant>,
    pub vecs: IoVecs,
    /// Events taken from the epoll, of which so many are not handled yet.
    ready: Vec<EpollEvent>,
    count: usize,
    /// Scratch space.
    pub taken: Vec<u16>,
}

impl VsockWorker {
    /// Rings of a driver around a host side, which comes back if the host refuses what the worker needs.
    pub fn new(
        memory: SharedRam,
        interrupt: Arc<dyn Interrupt>,
        rings: (RxRing, TxRing, EventRing),
        host: Box<Host>,
        breakage: Breakage,
    ) -> Result<Self, (Box<Host>, io::Error)> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = match rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags) {
            Ok(fd) => fd,
            Err(e) => return Err((host, e.into())),
        };
        let (rx, tx, events) = rings;
        let watched = [
            (fd.as_raw_fd(), TIMER_TOKEN),
            (rx.queue.event.as_raw_fd(), RX_TOKEN),
            (tx.queue.event.as_raw_fd(), TX_TOKEN),
            (events.queue.event.as_raw_fd(), EVENT_TOKEN),
        ];
        if let Err(e) = watched.iter().try_for_each(|&(fd, token)| host.sockets.watch(fd, token)) {
            // Those that are not watched are none the worse.
            watched.iter().for_each(|&(fd, _)| host.sockets.unwatch(fd));
            return Err((host, e));
        }
        Ok(VsockWorker {
            memory,
            interrupt,
            rx,
            tx,
            events,
            host: Some(host),
            breakage,
            turns: 0,
            alone: false,
            courtesy: Courtesy::default(),
            alarm: Alarm { fd, armed: None },
            tx_due: None,
            rx_due: None,
            vecs: IoVecs::new(),
            ready: vec![EpollEvent::default(); EVENTS],
            count: 0,
            taken: Vec::new(),
        })
    }

    /// Gives the host side back, without this worker's descriptors.
    pub fn take_host(&mut self) -> Option<Box<Host>> {
        let host = self.host.take()?;
        for queue in [&self.rx.queue, &self.tx.queue, &self.events.queue] {
            host.sockets.unwatch(queue.event.as_raw_fd());
        }
        Some(host)
    }

    /// One wake-up: takes what is ready, and waits for it for so many milliseconds (-1: for ever). True if the thread is
    /// wanted elsewhere.
    fn turn(&mut self, patience: i32) -> bool {
        let Some(mut host) = self.host.take() else { return true };
        // Interrupted: the events stay.
        self.count = host.sockets.epoll().wait(patience, &mut self.ready).unwrap_or(0);
        let woken = self.ready.iter().take(self.count).any(|event| event.data() == WAKE_TOKEN);
        self.turns = self.turns.wrapping_add(1);
        if !self.breakage.is_broken() {
            let memory = self.memory.clone();
            if let Err(e) = self.serve(&memory, &mut host, Instant::now()) {
                self.breakage.report(&e, &*self.interrupt);
            }
        }
        self.host = Some(host);
        woken
    }

    fn serve(&mut self, ram: &SharedRam, host: &mut Host, now: Instant) -> Result<(), RingError> {
        let turn = &Turn::new(ram, &self.rx, &self.tx)?;
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
            let sent = self.transmit(turn, host, now)?;
            let received = self.receive(turn, host, now)?;
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
        self.signal(turn, now)?;
        self.set_alarm(host, now);
        Ok(())
    }

    fn take_events(&mut self, host: &mut Host, now: Instant) {
        for event in self.ready.iter().take(std::mem::take(&mut self.count)) {
            let (data, flags) = (event.data(), event.event_set());
            match data {
                TIMER_TOKEN => self.alarm.armed = None,
                RX_TOKEN | TX_TOKEN | EVENT_TOKEN | POLICY_TOKEN | WAKE_TOKEN => {}
                socket => {
                    host.event(now, SocketId::from_bits(socket), flags);
                    host.act(now);
                }
            }
        }
    }

    /// Interrupts for everything this turn did.
    fn signal(&mut self, turn: &Turn<'_>, now: Instant) -> Result<(), RingError> {
        self.rx.publish(turn)?;
        if self.rx.owes_interrupt() {
            let due = *self.rx_due.get_or_insert_with(|| now.checked_add(RX_LAZINESS).unwrap_or(now));
            if self.rx.interrupt_is_urgent() || due <= now {
                self.rx_due = None;
                if self.rx.wants_interrupt(turn) {
                    self.interrupt.trigger(Signal::Queue(self.rx.queue.index));
                }
            }
        }
        if !self.tx.owes_interrupt() {
            return Ok(());
        }
        let due = *self.tx_due.get_or_insert_with(|| now.checked_add(TX_LAZINESS).unwrap_or(now));
        if self.tx.interrupt_is_urgent() || due <= now {
            self.tx_due = None;
            if self.tx.wants_interrupt(turn) {
                self.interrupt.trigger(Signal::Queue(self.tx.queue.index));
            }
        }
        Ok(())
    }

    fn set_alarm(&mut self, host: &Host, now: Instant) {
        let next = [host.muxer.poll_timeout(), host.gate.retry_at, self.tx_due, self.rx_due]
            .into_iter()
            .flatten()
            .min();
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
        if let (Some(host), false) = (&self.host, self.alone) {
            let events = Events::new_raw(host.sockets.epoll().as_raw_fd(), EventSet::IN);
            if let Err(e) = ops.add(events) {
                log::error!("vsock: cannot watch its sockets: {e}");
            }
        }
        self.turn(0);
    }

    /// Only if the thread does not sleep in [`VsockWorker::work`].
    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.turn(0);
    }
}

impl QueueWorker for VsockWorker {
    /// Packets are handled whole in one turn; what sockets did not take is kept until the device resumes.
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        self.rx.unread();
        Ok(())
    }

    fn waits_itself(&mut self, wake: &EventFd) -> bool {
        let watched = self.host.as_ref().map(|host| host.sockets.watch(wake.as_raw_fd(), WAKE_TOKEN));
        self.alone = matches!(watched, Some(Ok(())));
        self.alone
    }

    fn work(&mut self) {
        while !self.turn(-1) {}
    }

    fn stops_waiting(&mut self, wake: &EventFd) {
        self.alone = false;
        if let Some(host) = &self.host {
            host.sockets.unwatch(wake.as_raw_fd());
        }
    }
}
