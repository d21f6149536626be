//! The thread's loop: one turn serves sockets, the ring from the guest, and the ring to it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use purlin_devices::shell::QueueWorker;
use purlin_devices::virtio::{Interrupt, Signal};
use purlin_vmm_core::memory::{GuestMemoryError, SharedRam, VolatileSlice};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use thiserror::Error;
use vmm_sys_util::epoll::{EpollEvent, EventSet};

use super::events::EventRing;
use super::host::Host;
use super::rx::RxRing;
use super::sys::{self, IoVecs};
use super::tx::{self, Piece, TxPacket, TxRing};
use crate::config::Preamble;
use crate::io::{Disposition, GrantKind, ReadOutcome, SocketEvent, SocketId};
use crate::wire::{HEADER_LEN, SockAddr};

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
/// Packets taken from the guest before it gets its own.
const TX_BATCH: usize = 256;
/// Reads from sockets before the guest's packets have their turn.
const RX_BATCH: usize = 64;
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

/// Payload of one stream, from packets one after another, on its way to the socket.
#[derive(Default)]
struct Batch {
    socket: Option<SocketId>,
    pieces: Vec<Piece>,
    bytes: u32,
}

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
    alarm: Alarm,
    tx_due: Option<Instant>,
    batch: Batch,
    vecs: IoVecs,
    /// Scratch space.
    ready: Vec<EpollEvent>,
    pieces: Vec<Piece>,
    taken: Vec<u16>,
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
        if self.failed {
            return;
        }
        let memory = self.memory.clone();
        let Some(mut host) = self.host.take() else { return };
        let now = Instant::now();
        host.check_policy();
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
                RX_TOKEN | TX_TOKEN | EVENT_TOKEN => {}
                socket => {
                    host.event(now, SocketId::from_bits(socket), flags);
                    host.act(now);
                }
            }
        }
        self.ready = ready;
    }

    /// Takes packets of the guest. True if there are more.
    fn transmit(&mut self, ram: &SharedRam, host: &mut Host, now: Instant) -> Result<bool, RingError> {
        let mut pieces = std::mem::take(&mut self.pieces);
        let mut more = true;
        for _ in 0..TX_BATCH {
            if host.muxer.is_choked() {
                // Goes on when the guest has taken messages.
                more = false;
                break;
            }
            let Some(packet) = self.tx.next(ram, &mut pieces)? else {
                more = self.tx.ask_for_more(ram)?;
                if more {
                    continue;
                }
                break;
            };
            self.packet(ram, host, now, &packet, &pieces)?;
            self.taken.push(packet.head);
        }
        self.pieces = pieces;
        self.write_batch(ram, host, now)?;
        host.act(now);
        // Not before: what was not written yet is still in the guest's buffers.
        for head in self.taken.drain(..) {
            self.tx.give_back(ram, head)?;
        }
        Ok(more)
    }

    fn packet(
        &mut self,
        ram: &SharedRam,
        host: &mut Host,
        now: Instant,
        packet: &TxPacket,
        pieces: &[Piece],
    ) -> Result<(), RingError> {
        let Some(header) = packet.header else { return Ok(()) };
        if !packet.whole {
            self.write_batch(ram, host, now)?;
            host.muxer.handle_malformed(now, &header);
            host.act(now);
            return Ok(());
        }
        let mut request = [0; crate::wire::MAX_REQUEST];
        let wanted = host.muxer.wants(&header).min(request.len());
        let request = request.get_mut(..wanted).unwrap_or_default();
        tx::copy(ram, pieces, request)?;
        match host.muxer.handle_packet(now, &header, request) {
            Disposition::Stream(socket) => {
                if self.batch.socket != Some(socket) {
                    self.write_batch(ram, host, now)?;
                    self.batch.socket = Some(socket);
                }
                self.batch.pieces.extend_from_slice(pieces);
                self.batch.bytes = self.batch.bytes.saturating_add(header.len);
            }
            Disposition::Datagram { socket, to, preamble } => {
                self.send_datagram(ram, host, socket, to.as_ref(), preamble, pieces)?;
            }
            Disposition::Done => {
                self.write_batch(ram, host, now)?;
                host.act(now);
            }
        }
        Ok(())
    }

    /// Writes the payload collected so far; what the socket does not take is kept.
    fn write_batch(&mut self, ram: &SharedRam, host: &mut Host, now: Instant) -> Result<(), RingError> {
        let Some(socket) = self.batch.socket.take() else { return Ok(()) };
        let mut slices: Vec<VolatileSlice<'_>> = Vec::with_capacity(self.batch.pieces.len());
        tx::slices(ram, &self.batch.pieces, &mut slices)?;
        let event = match host.sockets.write(socket, &mut self.vecs, &slices) {
            Ok(n) => {
                keep(host, socket, &slices, n);
                SocketEvent::Written(n as u32)
            }
            Err(_) => SocketEvent::WriteFailed,
        };
        self.batch.pieces.clear();
        self.batch.bytes = 0;
        host.muxer.handle_socket(now, socket, event);
        host.act(now);
        Ok(())
    }

    fn send_datagram(
        &mut self,
        ram: &SharedRam,
        host: &mut Host,
        socket: SocketId,
        to: Option<&SockAddr>,
        preamble: Option<Preamble>,
        pieces: &[Piece],
    ) -> Result<(), RingError> {
        let Some(sock) = host.sockets.get(socket) else { return Ok(()) };
        if let Some(preamble) = preamble {
            let _ = rustix::net::send(sock.fd(), preamble.as_bytes(), rustix::net::SendFlags::NOSIGNAL);
        }
        let to = match to.map(super::addr::to_os).transpose() {
            Ok(to) => to,
            Err(_) => return Ok(()),
        };
        let mut slices = Vec::with_capacity(pieces.len());
        tx::slices(ram, pieces, &mut slices)?;
        // A datagram that does not get away is lost, as datagrams are.
        let _ = sys::send(sock.fd(), &mut self.vecs, &slices, to.as_ref());
        Ok(())
    }

    /// Fills the guest's receive buffers. True if there is more to do at once.
    fn receive(&mut self, ram: &SharedRam, host: &mut Host, now: Instant) -> Result<bool, RingError> {
        if self.events.holds() {
            return Ok(false);
        }
        let was_choked = host.muxer.is_choked();
        for _ in 0..RX_BATCH {
            let least = host.muxer.packet_len();
            if least.is_none() && !host.muxer.wants_buffers() {
                return Ok(false);
            }
            if !self.rx.has(ram, least.unwrap_or(HEADER_LEN + 1))? {
                let more = self.rx.ask_for_more(ram)?;
                return Ok(more || (was_choked && !host.muxer.is_choked()));
            }
            if least.is_some() {
                self.message(ram, host)?;
            } else {
                self.read_socket(ram, host, now)?;
            }
        }
        Ok(true)
    }

    fn message(&mut self, ram: &SharedRam, host: &mut Host) -> Result<(), RingError> {
        let Some(packet) = host.muxer.poll_packet() else { return Ok(()) };

        let payload = packet.payload.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        self.rx.put(ram, &packet.header.emit(), payload)
    }

    fn read_socket(&mut self, ram: &SharedRam, host: &mut Host, now: Instant) -> Result<(), RingError> {
        let room = self.rx.payload_room();
        let Some(grant) = host.muxer.poll_grant(room) else { return Ok(()) };
        let outcome = match grant.what {
            GrantKind::Stream { bytes, packets } => {
                self.read_stream(ram, host, grant.socket, bytes, packets)?
            }
            GrantKind::Datagram => self.read_datagram(ram, host, grant.socket)?,
        };
        host.muxer.handle_read(now, grant.socket, outcome);
        host.act(now);
        Ok(())
    }

    fn read_stream(
        &mut self,
        ram: &SharedRam,
        host: &mut Host,
        socket: SocketId,
        bytes: u32,
        packets: u32,
    ) -> Result<ReadOutcome, RingError> {
        let Some(sock) = host.sockets.get(socket) else { return Ok(ReadOutcome::Drained) };
        let packets = (packets as usize).min(sock.appetite);
        let mut slices = Vec::with_capacity(packets);
        let offered = self.rx.gather(ram, packets, bytes as usize, &mut slices)?;
        let n = match sys::read(sock.fd(), &mut self.vecs, &slices) {
            Ok(0) => return Ok(ReadOutcome::End),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(ReadOutcome::More),
            Err(_) => return Ok(ReadOutcome::Failed),
        };

        let mut left = n as u32;
        let mut used = 0;
        while left > 0 {
            let len = left.min(self.rx.payload_room());
            let Some(header) = host.muxer.stream_header(socket, len) else { break };
            self.rx.complete(ram, &header.emit(), len)?;
            left -= len;
            used += 1;
        }
        let all = n == offered;
        let Some(sock) = host.sockets.get(socket) else { return Ok(ReadOutcome::Drained) };
        sock.learn(used, all);
        let drained = !all && sock.short_read_is_all();
        Ok(if drained { ReadOutcome::Drained } else { ReadOutcome::More })
    }

    fn read_datagram(
        &mut self,
        ram: &SharedRam,
        host: &mut Host,
        socket: SocketId,
    ) -> Result<ReadOutcome, RingError> {
        let Some(sock) = host.sockets.get(socket) else { return Ok(ReadOutcome::Drained) };
        let mut slices = Vec::with_capacity(1);
        let room = self.rx.gather(ram, 1, usize::MAX, &mut slices)?;
        let (len, from) = match sys::receive(sock.fd(), &mut self.vecs, &slices) {
            Ok(got) => got,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
            // An answer to something sent before; it is taken by having been told.
            Err(_) => return Ok(ReadOutcome::Failed),
        };
        if len > room {
            host.muxer.datagram_too_long();
            return Ok(ReadOutcome::More);
        }
        let from = from.and_then(super::addr::from_os);
        if let Some(header) = host.muxer.datagram_header(socket, from.as_ref(), len as u32) {
            self.rx.complete(ram, &header.emit(), len as u32)?;
        }
        Ok(ReadOutcome::More)
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
        let next = [host.muxer.poll_timeout(), self.tx_due].into_iter().flatten().min();
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

/// Keeps the bytes behind the first `done` for when the socket takes more.
fn keep(host: &mut Host, socket: SocketId, slices: &[VolatileSlice<'_>], done: usize) {
    let Some(sock) = host.sockets.get(socket) else { return };
    let mut skip = done;
    for slice in slices {
        let skipped = skip.min(slice.len());
        skip -= skipped;
        let left = slice.len() - skipped;
        if left == 0 {
            continue;
        }
        let Ok(rest) = slice.offset(skipped) else { continue };
        let _ = sock.out.push_with(left, |to| {
            rest.copy_to(to);
            Ok::<(), ()>(())
        });
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
