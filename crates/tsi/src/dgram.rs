//! One datagram socket of the guest. Pure.
//!
//! Its datagrams leave through one host socket, except for redirected destinations, which have a connected
//! socket each, so that the receiver sees one source port per destination and the header is sent once.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use crate::io::{Preamble, SocketId, Verdict};
use crate::timers::TimerKey;
use crate::wire::{Family, SockAddr};

/// Destinations remembered as having been sent to.
const CONTACTS: usize = 64;

/// Where the next datagram goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Route {
    /// Nowhere.
    #[default]
    None,
    /// Through the common socket.
    Direct(SockAddr),
    /// Through the socket of a redirected destination.
    Redirected(SocketId),
    /// It was connected before the machine was restored; the first datagram connects it again.
    Lost(SockAddr),
}

/// A redirected destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirected {
    pub original: SocketAddr,
    pub target: SocketAddr,
    pub socket: SocketId,
    /// Not sent yet.
    pub preamble: Option<Preamble>,
    pub used: Instant,
}

/// A question to the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asking {
    Send(SocketAddr),
    Connect {
        addr: SocketAddr,
        csocket: u32,
    },
    /// After a restore; nobody waits.
    Reconnect(SocketAddr),
}

impl Asking {
    /// What is asked about.
    pub fn destination(&self) -> SocketAddr {
        match self {
            Asking::Send(addr) | Asking::Reconnect(addr) | Asking::Connect { addr, .. } => *addr,
        }
    }
}

/// State of one datagram socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dgram {
    pub family: Family,
    /// The common socket.
    pub socket: Option<SocketId>,
    /// It exists.
    pub opened: bool,
    /// Destination of SENDTO_DATA.
    pub destination: Route,
    /// Destination of plain datagrams: the socket is connected.
    pub peer: Route,
    /// The peer as the guest knows it.
    pub peer_name: Option<SockAddr>,
    pub redirected: Vec<Redirected>,
    pub asking: Option<Asking>,
    /// The last verdict that let something out, and for which generation of the policy it holds.
    pub verdict: Option<(SocketAddr, u64, Verdict)>,
    /// A connect on its way: whom to tell, and where to.
    pub connecting: Option<(Option<u32>, SockAddr)>,
    pub idle: Option<TimerKey>,
    /// Destinations that were let out under the policy in force and may answer, the last one at the back.
    contacts: VecDeque<SocketAddr>,
}

impl Dgram {
    pub fn new(family: Family) -> Self {
        Dgram {
            family,
            socket: None,
            opened: false,
            destination: Route::None,
            peer: Route::None,
            peer_name: None,
            redirected: Vec::new(),
            asking: None,
            verdict: None,
            connecting: None,
            idle: None,
            contacts: VecDeque::new(),
        }
    }

    /// Every host socket it has.
    pub fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.socket.into_iter().chain(self.redirected.iter().map(|r| r.socket))
    }

    /// Remembers a destination the guest sends to.
    pub fn contacted(&mut self, destination: SocketAddr) {
        if self.contacts.back() == Some(&destination) {
            return;
        }
        self.contacts.retain(|&known| known != destination);
        if self.contacts.len() >= CONTACTS {
            self.contacts.pop_front();
        }
        self.contacts.push_back(destination);
    }

    /// True if datagrams to there have been let out, directly.
    pub fn has_contacted(&self, destination: SocketAddr) -> bool {
        self.contacts.contains(&destination)
    }

    /// Destinations that were let out directly.
    pub fn contacts(&self) -> impl Iterator<Item = SocketAddr> {
        self.contacts.iter().copied()
    }

    /// A destination is not let out any more.
    pub fn lose_contact(&mut self, destination: SocketAddr) {
        self.contacts.retain(|&known| known != destination);
        if self.destination == Route::Direct(destination.into()) {
            self.destination = Route::None;
        }
    }

    /// True if a datagram from there on the common socket is for the guest. It is told its last destination
    /// as the source of everything, so only addresses it wrote to may answer; any port, as TFTP and STUN
    /// need. A connected socket's kernel lets only the peer through.
    pub fn expects(&self, from: Option<&SockAddr>) -> bool {
        if self.family == Family::Unix {
            return true;
        }
        match from.and_then(SockAddr::inet) {
            Some(addr) => self.contacts.iter().any(|known| reached(known.ip()) == addr.ip().to_canonical()),
            None => false,
        }
    }

    /// The redirected destination with this original address.
    pub fn find(&mut self, original: SocketAddr) -> Option<&mut Redirected> {
        self.redirected.iter_mut().find(|r| r.original == original)
    }

    /// The redirected destination with this socket.
    pub fn by_socket(&mut self, socket: SocketId) -> Option<&mut Redirected> {
        self.redirected.iter_mut().find(|r| r.socket == socket)
    }

    /// Takes out the redirected destination with this socket, and every route to it.
    pub fn forget(&mut self, socket: SocketId) {
        self.redirected.retain(|r| r.socket != socket);
        for route in [&mut self.destination, &mut self.peer] {
            if *route == Route::Redirected(socket) {
                *route = Route::None;
            }
        }
    }
}

/// Where the kernel takes the wildcard to: the loopback address.
pub(crate) fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_contacted_addresses_are_expected() {
        let mut d = Dgram::new(Family::V4);
        let addr = |text: &str| SockAddr::Inet(text.parse().unwrap());
        assert!(!d.expects(Some(&addr("10.0.0.1:53"))));
        d.contacted("10.0.0.1:53".parse().unwrap());
        d.contacted("0.0.0.0:1".parse().unwrap());
        assert!(d.expects(Some(&addr("10.0.0.1:4000"))));
        assert!(d.expects(Some(&addr("[::ffff:10.0.0.1]:4000"))));
        assert!(d.expects(Some(&addr("127.0.0.1:9"))));
        assert!(!d.expects(Some(&addr("10.0.0.2:53"))));
        assert!(!d.expects(None));
        for i in 0..CONTACTS as u8 {
            d.contacted(([10, 1, 0, i], 53).into());
        }
        assert!(!d.expects(Some(&addr("10.0.0.1:53"))));
    }
}
