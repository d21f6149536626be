//! The muxer: every connection between a guest and the host's sockets, as one state machine.
//!
//! Inputs are packets of the guest, events of host sockets, verdicts and the time; outputs are [`Action`]s,
//! [`Packet`]s and [`Grant`]s. Bytes of streams and datagrams never pass through it: the owner of the
//! sockets moves them between guest memory and sockets, and the muxer counts.
//!
//! After every input, execute [`Muxer::poll_action`] until it gives nothing. When the guest offers receive
//! buffers, put [`Muxer::poll_packet`] into them first, and only when that gives nothing use
//! [`Muxer::poll_grant`]: that order is what the guest's protocol needs.

mod burst;
mod connect;
mod control;
mod data;
mod dgrams;
mod flows;
mod lifetime;
mod listen;
mod packets;
mod share;
mod sockets;
mod state;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Instant;

pub use burst::Burst;
pub use state::{DgramState, ListenerState, MuxerState, ReplyState, StateError, StreamState};

use crate::config::{ConfigError, MuxerConfig};
use crate::dgram::Dgram;
use crate::io::{Action, Packet, SocketId, Stats};
use crate::listener::Listener;
use crate::slots::{Id, Slots};
use crate::stream::Stream;
use crate::timers::{TimerKey, Timers};
use crate::wire::{Family, HEADER_LEN, HOST_CID, Header, REPLY_LEN, Reply, kind, op};

/// What a record is found by: type, guest's port, host's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    datagram: bool,
    guest: u32,
    host: u32,
}

/// In one word, as there is one look-up per packet. Pairs of ports that both types have are few.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.guest) << 32 | u64::from(self.host));
    }
}

impl Key {
    fn stream(guest: u32, host: u32) -> Self {
        Key { datagram: false, guest, host }
    }

    fn datagram(guest: u32, host: u32) -> Self {
        Key { datagram: true, guest, host }
    }
}

#[derive(Debug)]
enum Body {
    Stream(Stream),
    Listener(Listener),
    Dgram(Dgram),
}

/// What the guest knows by a pair of ports.
#[derive(Debug)]
struct Record {
    key: Key,
    /// The guest's control socket it belongs to; `None` until the first one that names it.
    csocket: Option<u32>,
    family: Family,
    body: Body,
    /// It has an entry among the unused.
    in_unused: bool,
    /// The same among the dead.
    in_dead: bool,
}

impl Record {
    fn new(key: Key, csocket: Option<u32>, family: Family, body: Body) -> Self {
        Record { key, csocket, family, body, in_unused: false, in_dead: false }
    }
}

/// What a host socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Stream, listener or datagram socket of this record.
    Record(Id),
    /// A connection being accepted for this listener.
    Accepting(Id),
    /// Bytes left of a stream that the guest has closed; see [`Flushing`].
    Flushing,
}

/// What is left of a stream that the guest has closed, until its last bytes are out.
#[derive(Debug)]
struct Flushing {
    record: Id,
    unread: u32,
    timer: TimerKey,
    /// As in an [`OpenFlow`](crate::io::OpenFlow), if the policy let it out: where to, and where to instead.
    flow: Option<(SocketAddr, Option<SocketAddr>)>,
}

#[derive(Debug)]
struct Socket {
    owner: Owner,
    readable: bool,
    hung_up: bool,
    /// Is in the list of sockets to read from.
    queued: bool,
}

/// A packet without payload of a stream, waiting for a receive buffer. Window and progress are filled in
/// when it leaves.
#[derive(Debug)]
struct Message {
    record: Option<Id>,
    header: Header,
    payload: Option<Reply>,
    /// Goes even if it tells nothing new.
    demanded: bool,
    /// As in [`Packet`].
    lazy: bool,
}

impl Message {
    fn new(record: Option<Id>, header: Header) -> Self {
        Message { record, header, payload: None, demanded: false, lazy: false }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Muxer {
    config: MuxerConfig,
    records: Slots<Record>,
    by_key: HashMap<Key, Id>,
    /// Records that listen.
    listeners: Vec<Id>,
    sockets: Slots<Socket>,
    flushing: BTreeMap<SocketId, Flushing>,
    actions: VecDeque<Action>,
    messages: VecDeque<Message>,
    /// Sockets to read from, in turn.
    ready: VecDeque<SocketId>,
    timers: Timers,
    /// Records that may be forgotten, oldest first; at most one entry each, which may be stale.
    unused: VecDeque<Id>,
    dead: VecDeque<Id>,
    next_port: u32,
    /// Bytes from the guest that host sockets have not taken.
    buffered: u64,
    /// Windows of all open streams.
    promised: u64,
    policy_generation: u64,
    stats: Stats,
}

impl Muxer {
    /// A muxer for a guest that has not done anything. The first actions are the listeners of mapped ports.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn new(config: MuxerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let mut muxer = Muxer {
            records: Slots::default(),
            by_key: HashMap::new(),
            listeners: Vec::new(),
            sockets: Slots::default(),
            flushing: BTreeMap::new(),
            actions: VecDeque::new(),
            messages: VecDeque::new(),
            ready: VecDeque::new(),
            timers: Timers::default(),
            unused: VecDeque::new(),
            dead: VecDeque::new(),
            next_port: config.first_port,
            buffered: 0,
            promised: 0,
            policy_generation: 0,
            stats: Stats::default(),
            config,
        };
        muxer.listen_on_ports();
        Ok(muxer)
    }

    /// The configuration.
    pub fn config(&self) -> &MuxerConfig {
        &self.config
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Host sockets that exist, those included that only get rid of their last bytes.
    pub fn open_sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Bytes from the guest that host sockets have not taken.
    pub fn buffered(&self) -> u64 {
        self.buffered
    }

    /// The next thing to do with host sockets.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// True while nothing should be read from the guest: too many messages wait for receive buffers.
    pub fn is_choked(&self) -> bool {
        self.messages.len() >= self.config.limits.messages
    }

    /// True if there is something for the guest, as soon as it offers a receive buffer.
    pub fn wants_buffers(&mut self) -> bool {
        self.packet_len().is_some() || !self.ready.is_empty()
    }

    /// Length of the next packet [`Muxer::poll_packet`] gives, header included.
    pub fn packet_len(&mut self) -> Option<usize> {
        self.skip_stale_messages();
        let message = self.messages.front()?;
        Some(if message.payload.is_some() { HEADER_LEN + REPLY_LEN } else { HEADER_LEN })
    }

    /// The next packet for the guest that carries no stream data.
    pub fn poll_packet(&mut self) -> Option<Packet> {
        self.skip_stale_messages();
        let Message { record, mut header, payload, lazy, .. } = self.messages.pop_front()?;
        if let Some(stream) = record.and_then(|id| self.stream_mut(id)) {
            if header.op == op::CREDIT_UPDATE {
                stream.update_queued = false;
            }
            (header.buf_alloc, header.fwd_cnt) = stream.credit.announce();
        }
        let payload = payload.map(|reply| Box::new(reply.emit()));
        header.len = payload.as_ref().map_or(0, |bytes| bytes.len() as u32);
        Some(Packet { header, payload, lazy })
    }

    /// Drops announcements that say nothing new any more.
    fn skip_stale_messages(&mut self) {
        while let Some(message) = self.messages.front() {
            if message.header.op != op::CREDIT_UPDATE {
                return;
            }
            let (record, demanded) = (message.record, message.demanded);
            let stream = record.and_then(|id| self.stream_mut(id)).filter(|s| s.is_open());
            match stream {
                Some(stream) if demanded || stream.credit.update_due() => return,
                Some(stream) => stream.update_queued = false,
                None => {}
            }
            self.messages.pop_front();
        }
    }

    /// The next moment [`Muxer::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next_at()
    }

    fn stream_mut(&mut self, id: Id) -> Option<&mut Stream> {
        match &mut self.records.get_mut(id)?.body {
            Body::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    fn listener(&self, id: Id) -> Option<&Listener> {
        match &self.records.get(id)?.body {
            Body::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    fn listener_mut(&mut self, id: Id) -> Option<&mut Listener> {
        match &mut self.records.get_mut(id)?.body {
            Body::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    fn dgram_mut(&mut self, id: Id) -> Option<&mut Dgram> {
        match &mut self.records.get_mut(id)?.body {
            Body::Dgram(dgram) => Some(dgram),
            _ => None,
        }
    }

    fn find(&self, key: Key) -> Option<Id> {
        self.by_key.get(&key).copied()
    }

    /// A header of the host for this pair of ports.
    fn header_to_guest(&self, key: Key, op: u16) -> Header {
        let kind = if key.datagram { kind::DGRAM } else { kind::STREAM };
        Header {
            src_cid: HOST_CID,
            dst_cid: self.config.cid,
            src_port: key.host,
            dst_port: key.guest,
            kind,
            op,
            ..Header::default()
        }
    }

    /// Queues a packet of a stream.
    fn tell(&mut self, id: Id, op: u16, flags: u32) {
        let message = self.message(id, op, flags);
        self.messages.extend(message);
    }

    /// A packet of a stream; `None` if there is no such stream.
    fn message(&self, id: Id, op: u16, flags: u32) -> Option<Message> {
        let record = self.records.get(id)?;
        let header = Header { flags, ..self.header_to_guest(record.key, op) };
        Some(Message::new(Some(id), header))
    }

    /// Queues the answer to a request.
    fn reply(&mut self, port: u32, csocket: u32, reply: Reply) {
        let header = self.header_to_guest(Key::datagram(csocket, port), op::RW);
        self.messages.push_back(Message { payload: Some(reply), ..Message::new(None, header) });
    }

    fn reply_result(&mut self, port: u32, csocket: u32, result: i32) {
        self.reply(port, csocket, Reply::Result(result));
    }
}

#[cfg(test)]
mod tests;
