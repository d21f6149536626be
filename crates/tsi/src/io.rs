//! What goes in and out of the muxer: the seam between it and whoever owns sockets and rings. Plain data.

use std::net::SocketAddr;

use crate::slots::Id;
use crate::wire::{Family, Header, REPLY_LEN, SockAddr};

/// A host socket. The muxer makes the ids; an id is never used for a second socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub(crate) Id);

impl SocketId {
    /// Index for a table: small, and unique among the sockets that are open.
    pub fn slot(self) -> u32 {
        self.0.slot
    }

    /// All of it in one number.
    pub fn to_bits(self) -> u64 {
        u64::from(self.0.generation) << 32 | u64::from(self.0.slot)
    }

    /// The inverse of [`SocketId::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        SocketId(Id { slot: bits as u32, generation: (bits >> 32) as u32 })
    }
}

/// Names a question to the policy until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueryId {
    pub(crate) record: Id,
    pub(crate) destination: SocketAddr,
}

/// A transport protocol, as policies tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Traffic that wants to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the guest wants to go.
    pub destination: SocketAddr,
}

/// What a policy says to a [`Flow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Allow,
    /// `connect(2)` answers ECONNREFUSED; datagrams vanish.
    Deny,
    /// It goes elsewhere. What comes first is for the receiver to learn where the guest wanted to go: the
    /// first bytes of a connection, or a datagram of its own before the first of a destination.
    Redirect {
        /// Where to.
        target: SocketAddr,
        /// What comes first.
        header: Preamble,
    },
}

/// Longest [`Preamble`] in bytes.
const PREAMBLE_MAX: usize = 32;

/// Bytes that go before anything of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Preamble {
    bytes: [u8; PREAMBLE_MAX],
    len: usize,
}

impl Preamble {
    /// These bytes; `None` for more than 32.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut copy = [0; PREAMBLE_MAX];
        copy.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Preamble { bytes: copy, len: bytes.len() })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Names a [`Flow`] that was let out, until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(crate) record: Id,
    pub(crate) part: FlowPart,
}

/// Which of a record's flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FlowPart {
    /// All there is to a stream.
    Stream,
    /// The peer a datagram socket is connected to.
    Peer,
    /// A destination of a datagram socket.
    Destination(SocketAddr),
    /// The last bytes, on this socket, of a stream that the guest has closed.
    Rest(SocketId),
}

/// A [`Flow`] that was let out and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlow {
    /// Its name.
    pub id: FlowId,
    /// What it is.
    pub flow: Flow,
    /// Where it was redirected to, if it was.
    pub target: Option<SocketAddr>,
    /// Its socket, if it is a stream.
    pub stream: Option<SocketId>,
}

/// What the owner of the sockets is to do. Actions are executed in order; each failure comes back as the
/// event named at the action, success likewise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Make a stream socket and connect it without waiting. [`SocketEvent::Connected`] or
    /// [`SocketEvent::Refused`], at once or later; after the latter the socket is gone.
    Connect {
        /// Its id from now on.
        socket: SocketId,
        /// Where to.
        addr: SockAddr,
    },
    /// Make a stream socket that listens. [`SocketEvent::Listening`], or [`SocketEvent::Refused`] after
    /// which it is gone.
    Listen {
        /// Its id from now on.
        socket: SocketId,
        /// Where.
        addr: SockAddr,
        /// As in `listen(2)`.
        backlog: u32,
        /// Set IPV6_V6ONLY.
        v6_only: bool,
        /// Remove a socket of this path first.
        replace: bool,
    },
    /// Take one connection of a listener. [`SocketEvent::Accepted`], [`SocketEvent::NothingToAccept`] or
    /// [`SocketEvent::Refused`] for the new id; after the last two it is gone.
    Accept {
        /// The listener.
        listener: SocketId,
        /// Id of the connection.
        socket: SocketId,
    },
    /// Make a datagram socket on the wildcard address. [`SocketEvent::Opened`] or [`SocketEvent::Refused`].
    OpenDatagram {
        /// Its id from now on.
        socket: SocketId,
        /// Its family.
        family: Family,
    },
    /// Connect a datagram socket, made before if it is new. [`SocketEvent::Connected`] or
    /// [`SocketEvent::Refused`]; after the latter a new socket is gone, another as before.
    ConnectDatagram {
        /// Its id.
        socket: SocketId,
        /// Where to.
        addr: SockAddr,
    },
    /// Send these bytes before any other byte of the stream. They are not counted in
    /// [`SocketEvent::Written`].
    Preamble {
        /// The stream.
        socket: SocketId,
        /// The bytes.
        bytes: Preamble,
    },
    /// Shut the sending side down. All bytes have been written.
    ShutdownWrite {
        /// The stream.
        socket: SocketId,
    },
    /// Close the socket. Its id is dead; there are no further events.
    Close {
        /// The socket.
        socket: SocketId,
        /// Reset the connection and forget what is not sent; otherwise everything has been written.
        abort: bool,
    },
    /// Answer with [`Muxer::handle_verdict`](crate::Muxer::handle_verdict), best before the next packet.
    AskPolicy {
        /// Goes into the answer.
        id: QueryId,
        /// What wants to leave.
        flow: Flow,
    },
}

/// What happened to a host socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketEvent {
    /// A connect succeeded.
    Connected,
    /// The action failed with this error number (positive).
    Refused(i32),
    /// It listens on this address.
    Listening(SockAddr),
    /// A connection was accepted, from this address if it has one.
    Accepted(Option<SockAddr>),
    /// No connection is waiting.
    NothingToAccept,
    /// A datagram socket is ready.
    Opened,
    /// There may be something to read or to accept, or the end of it.
    Readable,
    /// The peer is gone in both directions. Bytes may be left to read.
    HungUp,
    /// So many more bytes of [`Disposition::Stream`] payload were taken by the host.
    Written(u32),
    /// A write failed for good.
    WriteFailed,
    /// The preamble of a [`Disposition::Datagram`] was sent. Until then the next one of the socket has it, too.
    PreambleSent,
}

/// What is to be done with the payload of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Disposition {
    /// Nothing: it was a message, or is dropped.
    Done,
    /// Write it to this stream, or keep it to be written later, in order. Report progress with
    /// [`SocketEvent::Written`] or [`SocketEvent::WriteFailed`].
    Stream(SocketId),
    /// Send it as one datagram; errors are of no interest.
    Datagram {
        /// The socket.
        socket: SocketId,
        /// Where to; a connected socket's peer if there is none.
        to: Option<SockAddr>,
        /// A datagram that goes before it, and without which it does not go. [`SocketEvent::PreambleSent`] when it is
        /// out.
        preamble: Option<Preamble>,
    },
}

/// A packet for the guest that carries no stream data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// All of it; `len` is the length of the payload.
    pub header: Header,
    /// A reply of the control plane.
    pub payload: Option<Box<[u8; REPLY_LEN]>>,
    /// Nobody in the guest waits for it: it may go unnoticed until there is something else, or some milliseconds.
    pub lazy: bool,
}

/// Permission to read from a host socket into packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The socket.
    pub socket: SocketId,
    /// What to read.
    pub what: GrantKind,
}

/// What a [`Grant`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind {
    /// Bytes of a stream.
    Stream {
        /// At most so many.
        bytes: u32,
        /// In at most so many packets.
        packets: u32,
    },
    /// One datagram.
    Datagram,
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// There may be more.
    More,
    /// There is no more for now; [`SocketEvent::Readable`] comes when there is.
    Drained,
    /// The peer sends no more.
    End,
    /// The connection is broken.
    Failed,
}

/// Counters since the muxer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Streams that reached the open state.
    pub streams: u64,
    /// Connections reset because the guest broke the protocol or a cap.
    pub violations: u64,
    /// Datagrams to the guest that were dropped: too long for a receive buffer, or from a stranger.
    pub datagrams_dropped: u64,
    /// Connections and datagrams a policy denied.
    pub denied: u64,
    /// Packets of the guest that named nothing, or were malformed.
    pub strays: u64,
}
