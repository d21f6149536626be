//! One byte stream between the guest and a host socket. Pure.
//!
//! ```text
//! outbound:  Created --CONNECT--> Connecting --host connected, reply 0--> AwaitRequest --REQUEST--> Open
//! inbound:   Handshake (REQUEST sent) --RESPONSE--> Open
//! both:      Open --SHUTDOWN(both) / RST / host error--> Dead
//! ```

use std::net::SocketAddr;
use std::time::Instant;

use crate::credit::Credit;
use crate::io::{Preamble, SocketId};
use crate::slots::Id;
use crate::timers::TimerKey;
use crate::wire::{SockAddr, shut};

/// What a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A TSI socket; the record stays until the guest releases it.
    Tsi,
    /// A mapped vsock port; the record ends with the connection.
    Port,
}

/// Whom the outcome of a connect is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// The control socket on this port waits for a reply.
    Control(u32),
    /// Nobody: the guest already has, unread, the reply to an earlier attempt.
    Nobody,
}

/// A connect on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// What the guest asked for.
    pub target: SockAddr,
    /// Where the host connects to.
    pub actual: SockAddr,
    pub tell: Tell,
    /// A REQUEST that came before its time: window and progress of the guest.
    pub held: Option<(u32, u32)>,
    /// It goes to this listener's socket, which is the guest's own, and so past the policy.
    pub own: Option<SocketId>,
    pub preamble: Option<Preamble>,
    /// Until when a full backlog is tried again.
    pub retry_until: Instant,
    pub retry: Option<TimerKey>,
}

/// A connection the host opened, waiting for the guest's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub listener: Id,
    pub timer: Option<TimerKey>,
    /// Until when a refusal is not final.
    pub patience: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Connecting(Box<Attempt>),
    AwaitRequest,
    Handshake(Handshake),
    Open,
    Dead,
}

/// State of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub origin: Origin,
    pub phase: Phase,
    pub socket: Option<SocketId>,
    pub credit: Credit,
    /// Directions the guest has shut ([`shut`]).
    pub guest_shut: u32,
    /// Directions the guest was told are shut.
    pub host_shut: u32,
    /// The guest's end of data has not been passed to the socket yet.
    pub fin_due: bool,
    /// A CREDIT_UPDATE is among the messages.
    pub update_queued: bool,
    /// For `getpeername(2)`.
    pub peer: Option<SockAddr>,
    /// The policy let it out, to this target if it redirected it.
    pub judged: Option<Option<SocketAddr>>,
}

impl Stream {
    pub fn new(origin: Origin, phase: Phase) -> Self {
        Stream {
            origin,
            phase,
            socket: None,
            credit: Credit::default(),
            guest_shut: 0,
            host_shut: 0,
            fin_due: false,
            update_queued: false,
            peer: None,
            judged: None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// True if bytes of the host may go to the guest.
    pub fn may_read(&self) -> bool {
        self.is_open() && self.guest_shut & shut::RECEIVE == 0 && self.host_shut & shut::SEND == 0
    }

    /// Becomes open: window and progress of the guest, and our window.
    pub fn open(&mut self, window: u32, peer: (u32, u32)) {
        self.phase = Phase::Open;
        self.credit = Credit::new(window);
        // A new connection has sent nothing, so only progress that is not 0 is refused, and ignored.
        if self.credit.peer(peer.0, peer.1).is_err() {
            let _ = self.credit.peer(peer.0, 0);
        }
        self.guest_shut = 0;
        self.host_shut = 0;
        self.fin_due = false;
        self.update_queued = false;
    }
}
