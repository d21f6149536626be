//! A listening socket: what may be accepted, and who is told. Pure.
//!
//! The host accepts and offers a connection to the guest before anybody there calls `accept(2)`: the guest's
//! `poll(2)` sees offered connections. An ACCEPT message only asks whether one is there.

use crate::io::SocketId;
use crate::slots::Id;
use crate::wire::{SockAddr, errno};

/// State of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    pub socket: Option<SocketId>,
    /// It has no socket of its own, but a share in the connections of this one's.
    pub shares: Option<Id>,
    /// Those that share its socket.
    pub sharers: Vec<Id>,
    /// Turns given to them, and to itself.
    pub turns: usize,
    /// What the guest asked for.
    pub requested: SockAddr,
    /// What it got.
    pub bound: Option<SockAddr>,
    /// The guest's port connections go to.
    pub guest_port: u32,
    pub backlog: u32,
    pub v6_only: bool,
    /// Belongs to a mapped port, not to a TSI socket.
    pub is_port: bool,
    /// The control socket that waits for the outcome of LISTEN.
    pub opening: Option<u32>,
    /// Connections offered and not answered.
    pub offered: u32,
    /// Connections the guest has and nobody has asked for. One that ends meanwhile still counts: the guest
    /// has it in its queue.
    pub ready: u32,
    /// The control socket that waits for a connection.
    pub waiter: Option<u32>,
    /// The host may have connections for us.
    pub acceptable: bool,
    /// An accept is on its way, or a pause.
    pub busy: bool,
}

/// What an ACCEPT is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptAnswer {
    Now(i32),
    Later,
}

impl Listener {
    pub fn new(requested: SockAddr, guest_port: u32, backlog: u32) -> Self {
        Listener {
            socket: None,
            shares: None,
            sharers: Vec::new(),
            turns: 0,
            requested,
            bound: None,
            guest_port,
            backlog,
            v6_only: false,
            is_port: false,
            opening: None,
            offered: 0,
            ready: 0,
            waiter: None,
            acceptable: false,
            busy: false,
        }
    }

    /// True if the guest can be offered one more connection.
    pub fn has_room(&self, limit: u32) -> bool {
        let room = self.backlog.max(1).min(limit);
        self.offered.saturating_add(self.ready) < room
    }

    /// True if the host may have a connection, and none is on its way.
    pub fn may_accept(&self) -> bool {
        self.acceptable && !self.busy
    }

    /// The guest took an offered connection: the control socket to tell, if one waits.
    pub fn established(&mut self) -> Option<u32> {
        self.offered = self.offered.saturating_sub(1);
        if self.is_port {
            return None;
        }
        let waiter = self.waiter.take();
        if waiter.is_none() {
            self.ready = self.ready.saturating_add(1);
        }
        waiter
    }

    /// An offered connection came to nothing.
    pub fn refused(&mut self) {
        self.offered = self.offered.saturating_sub(1);
    }

    /// ACCEPT from a control socket.
    pub fn accept(&mut self, csocket: u32, nonblocking: bool) -> AcceptAnswer {
        if self.ready > 0 {
            self.ready -= 1;
            return AcceptAnswer::Now(0);
        }
        if nonblocking {
            self.waiter = None;
            return AcceptAnswer::Now(-errno::EAGAIN);
        }
        self.waiter = Some(csocket);
        AcceptAnswer::Later
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Family;

    fn listener(backlog: u32) -> Listener {
        Listener::new(SockAddr::unspecified(Family::V4), 7, backlog)
    }

    #[test]
    fn accept_takes_what_is_there_or_waits() {
        let mut l = listener(5);
        assert_eq!(l.accept(9, true), AcceptAnswer::Now(-errno::EAGAIN));
        assert_eq!(l.accept(9, false), AcceptAnswer::Later);
        l.offered = 2;
        assert_eq!(l.established(), Some(9));
        assert_eq!(l.established(), None);
        assert_eq!(l.accept(9, false), AcceptAnswer::Now(0));
        assert_eq!(l.accept(9, true), AcceptAnswer::Now(-errno::EAGAIN));
    }

    #[test]
    fn a_non_blocking_retry_takes_the_waiter_back() {
        let mut l = listener(5);
        assert_eq!(l.accept(9, false), AcceptAnswer::Later);
        assert_eq!(l.accept(9, true), AcceptAnswer::Now(-errno::EAGAIN));
        assert_eq!(l.established(), None);
        assert_eq!(l.ready, 1);
    }

    #[test]
    fn the_backlog_bounds_what_is_offered() {
        for (backlog, limit, room) in [(0, 10, 1), (3, 10, 3), (100, 10, 10)] {
            let mut l = listener(backlog);
            let mut taken = 0;
            while l.has_room(limit) {
                l.offered += 1;
                taken += 1;
            }
            assert_eq!(taken, room);
            l.established();
            assert!(!l.has_room(limit));
            l.accept(1, true);
            assert!(l.has_room(limit));
        }
    }
}
