//! The client's states (RFC 2131 §4.4). Times are milliseconds of a clock that does not go back.

use alloc::vec::Vec;

use super::packet::{Identity, Kind, Message, Reply, build, parse};
use crate::net::{Address, Settings};

/// How long a boot waits for an address, milliseconds. The client goes on asking after that.
pub const PATIENCE_MS: u64 = 5000;

/// First wait for an answer.
const FIRST_WAIT: u64 = 100;
/// Longest wait for an answer (RFC 2131 §4.1).
const LONGEST_WAIT: u64 = 64_000;
/// More than it takes from the first wait to the longest, and few enough not to overflow.
const MOST_DOUBLINGS: u32 = 16;
/// Requests for an offered address before the client starts over.
const REQUESTS: u32 = 4;
/// Shortest time between requests for more time (RFC 2131 §4.4.5).
const SHORTEST_RENEWAL: u64 = 60_000;
/// Shortest lease that is believed, seconds: a server that gives less would be asked without end.
const SHORTEST_LEASE: u32 = 10;
/// A lease that does not end.
const FOR_EVER: u32 = u32::MAX;

/// Range of an interface's largest packet, and what it is without the option.
const MTU: core::ops::RangeInclusive<u32> = 1280..=65520;

/// Where a packet goes, from port 68 to port 67.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Everybody on the interface's network.
    Broadcast,
    /// The server.
    Server(Address),
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send a packet.
    Send(Destination, Vec<u8>),
    /// Set the interface up with this.
    Use(Lease),
    /// Take this address away again: its lease is over.
    Drop(Lease),
}

/// What a server has given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The interface's settings.
    pub settings: Settings,
    /// Who gave it.
    server: Address,
    /// When it is renewed, rebound, over; all `None` if it has no end.
    times: Option<Times>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    renew: u64,
    rebind: u64,
    end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Asking for offers.
    Selecting,
    /// Asking for an offered address.
    Requesting { address: Address, server: Address },
    /// Having an address.
    Bound(Lease),
}

/// One interface's client.
#[derive(Clone, Debug)]
pub struct Client {
    identity: Identity,
    state: State,
    /// Messages sent in this state.
    sent: u32,
    /// The exchange's start.
    since: u64,
    /// What the last DISCOVER said of the time since then, seconds; a REQUEST repeats it, so that relays hand both to
    /// the same servers (RFC 2131 §4.4.1).
    secs: u16,
    /// When to do something next.
    next: Option<u64>,
    /// Scatters waits and numbers.
    random: u32,
}

impl Client {
    /// A client that asks at once: call [`tick`](Self::tick). `random` should differ between machines.
    pub fn new(mac: [u8; 6], random: u32, now: u64) -> Self {
        let identity = Identity { xid: random, mac };
        let random = random | 1;
        Self { identity, state: State::Selecting, sent: 0, since: now, secs: 0, next: Some(now), random }
    }

    /// The lease in use.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(lease) => Some(lease),
            State::Selecting | State::Requesting { .. } => None,
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.next
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) -> Option<Order> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        match self.state.clone() {
            State::Selecting => Some(self.ask(now, Message::Discover)),
            State::Requesting { address, server } if self.sent < REQUESTS => {
                Some(self.ask(now, Message::Select { address, server }))
            }
            State::Requesting { .. } => {
                self.start_over(now, 0);
                Some(self.ask(now, Message::Discover))
            }
            State::Bound(lease) => self.extend(now, lease),
        }
    }

    /// A packet has come to port 68, from this address.
    pub fn receive(&mut self, now: u64, packet: &[u8], from: Address) -> Option<Order> {
        let reply = parse(packet, self.identity)?;
        match (self.state.clone(), reply.kind) {
            (State::Selecting, Kind::Offer) => {
                let (address, server) = (reply.address, reply.server.unwrap_or(from));
                self.state = State::Requesting { address, server };
                self.sent = 0;
                Some(self.ask(now, Message::Select { address, server }))
            }
            // To a DISCOVER: the server takes the rapid commit (RFC 4039). Its option 80 is not insisted on.
            (State::Selecting, Kind::Ack) => Some(Order::Use(self.bind(now, &reply, from))),
            (State::Requesting { address, server }, Kind::Ack) => {
                let is_it = reply.address == address && reply.server.is_none_or(|other| other == server);
                is_it.then(|| Order::Use(self.bind(now, &reply, from)))
            }
            (State::Requesting { server, .. }, Kind::Nak) => {
                if reply.server.is_none_or(|other| other == server) {
                    self.start_over(now, FIRST_WAIT);
                }
                None
            }
            (State::Bound(lease), kind) if self.sent > 0 => match kind {
                Kind::Ack => {
                    let new = self.bind(now, &reply, from);
                    (new.settings != lease.settings).then_some(Order::Use(new))
                }
                Kind::Nak => {
                    self.start_over(now, FIRST_WAIT);
                    Some(Order::Drop(lease))
                }
                Kind::Offer => None,
            },
            _ => None,
        }
    }

    /// A new exchange, after a pause: a server that refuses at once must not keep the client busy.
    fn start_over(&mut self, now: u64, pause: u64) {
        self.identity.xid = self.random();
        self.state = State::Selecting;
        (self.sent, self.since, self.next) = (0, now, Some(now.saturating_add(pause)));
    }

    fn ask(&mut self, now: u64, message: Message) -> Order {
        let wait = (FIRST_WAIT << self.sent.min(MOST_DOUBLINGS)).min(LONGEST_WAIT);
        let wait = wait.saturating_add(u64::from(self.random()) % (wait / 4));
        self.sent = self.sent.saturating_add(1);
        self.next = Some(now.saturating_add(wait));
        self.packet(now, Destination::Broadcast, message)
    }

    fn packet(&mut self, now: u64, to: Destination, message: Message) -> Order {
        if !matches!(message, Message::Select { .. }) {
            self.secs = u16::try_from(now.saturating_sub(self.since) / 1000).unwrap_or(u16::MAX);
        }
        Order::Send(to, build(self.identity, self.secs, message))
    }

    /// Something is due in a lease's life.
    fn extend(&mut self, now: u64, lease: Lease) -> Option<Order> {
        let Times { renew, rebind, end } = lease.times?;
        if now >= end {
            self.start_over(now, 0);
            return Some(Order::Drop(lease));
        }
        if self.sent == 0 {
            self.identity.xid = self.random();
            self.since = now;
        }
        debug_assert!(now >= renew);
        self.sent = self.sent.saturating_add(1);
        let unicast = now < rebind;
        // Half of what is left, but not more often than once a minute; and not past the next change of state.
        let until = if unicast { rebind } else { end };
        let wait = (until.saturating_sub(now) / 2).max(SHORTEST_RENEWAL);
        self.next = Some(now.saturating_add(wait).min(until));
        let to = if unicast { Destination::Server(lease.server) } else { Destination::Broadcast };
        Some(self.packet(now, to, Message::Extend { address: lease.settings.address, unicast }))
    }

    fn bind(&mut self, now: u64, reply: &Reply, from: Address) -> Lease {
        let mtu = reply.mtu.map_or(*MTU.end(), u32::from).clamp(*MTU.start(), *MTU.end());
        let settings = Settings {
            address: reply.address,
            prefix: reply.prefix.unwrap_or_else(|| class_prefix(reply.address)),
            router: reply.router,
            mtu: Some(mtu),
            dns: reply.dns.clone(),
        };
        let times = times(now, reply);
        let lease = Lease { settings, server: reply.server.unwrap_or(from), times };
        self.state = State::Bound(lease.clone());
        (self.sent, self.next) = (0, times.map(|times| times.renew));
        lease
    }

    /// A xorshift generator: enough to scatter retries.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// When a lease is renewed (by default at half of its time), rebound (at seven eighths) and over (RFC 2131 §4.4.5).
fn times(now: u64, reply: &Reply) -> Option<Times> {
    let seconds = reply.lease.filter(|&seconds| seconds != FOR_EVER)?.max(SHORTEST_LEASE);
    let length = u64::from(seconds).saturating_mul(1000);
    let rebind = match reply.rebinding.map(|seconds| u64::from(seconds).saturating_mul(1000)) {
        Some(rebind) if rebind > 0 && rebind < length => rebind,
        _ => length / 8 * 7,
    };
    let renew = match reply.renewal.map(|seconds| u64::from(seconds).saturating_mul(1000)) {
        Some(renew) if renew > 0 && renew < rebind => renew,
        _ => (length / 2).min(rebind / 2 + rebind / 4),
    };
    let at = |after| now.saturating_add(after);
    Some(Times { renew: at(renew), rebind: at(rebind), end: at(length) })
}

/// The prefix of an address's class, for servers that send no mask (RFC 950).
fn class_prefix([first, ..]: Address) -> u8 {
    match first {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}
