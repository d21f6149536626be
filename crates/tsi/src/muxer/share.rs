//! Listeners of one guest on one address. The guest's kernel has allowed it (SO_REUSEPORT); the host sees one
//! socket, whose connections they get in turn.

use super::Muxer;
use super::Owner;
use crate::listener::Listener;
use crate::slots::Id;
use crate::wire::SockAddr;

impl Muxer {
    /// Gives a listener a share in another's socket, if there is one on the same address of the host.
    pub(super) fn share_listener(&mut self, id: Id, addr: &SockAddr) -> bool {
        if addr.inet().is_none() {
            return false;
        }
        let restoring = self.listener(id).is_some_and(|l| l.opening.is_none());
        let holder = self.listeners.iter().copied().find(|&other| {
            let Some(listener) = self.listener(other).filter(|l| other != id && l.socket.is_some()) else {
                return false;
            };
            // One that is still being opened may come to nothing, which a guest that waits must hear.
            (restoring || listener.bound.is_some())
                && self.host_address(&listener.requested).is_ok_and(|its| its == *addr)
        });
        let Some(holder) = holder else { return false };
        let Some((bound, v6_only)) = self.listener(holder).map(|l| (l.bound.clone(), l.v6_only)) else {
            return false;
        };
        self.listeners.push(id);
        if let Some(listener) = self.listener_mut(id) {
            (listener.shares, listener.v6_only) = (Some(holder), v6_only);
        }
        if let Some(holder) = self.listener_mut(holder) {
            holder.sharers.push(id);
        }
        if let Some(bound) = bound {
            self.listening(id, bound);
        }
        self.take_connections(id);
        true
    }

    /// Whose socket a listener's connections come from.
    pub(super) fn socket_holder(&self, id: Id) -> Id {
        self.listener(id).and_then(|l| l.shares).unwrap_or(id)
    }

    /// Who gets the next connection of this one's socket; nobody if none has room.
    pub(super) fn next_in_turn(&self, holder: Id) -> Option<Id> {
        let limit = self.config.limits.backlog;
        let listener = self.listener(holder)?;
        let count = listener.sharers.len() + 1;
        (0..count).find_map(|step| {
            let place = listener.turns.wrapping_add(step) % count;
            let id = match place.checked_sub(1) {
                None => holder,
                Some(place) => *listener.sharers.get(place)?,
            };
            self.listener(id)?.has_room(limit).then_some(id)
        })
    }

    /// A listener goes: one of those that share its socket takes it over. False if there is none.
    pub(super) fn hand_over(&mut self, mut listener: Listener) -> bool {
        let (Some(heir), Some(socket)) = (listener.sharers.pop(), listener.socket) else { return false };
        for &id in &listener.sharers {
            if let Some(other) = self.listener_mut(id) {
                other.shares = Some(heir);
            }
        }
        if let Some(other) = self.listener_mut(heir) {
            (other.shares, other.sharers) = (None, listener.sharers);
            (other.bound, other.v6_only) = (listener.bound, listener.v6_only);
            (other.socket, other.acceptable) = (Some(socket), listener.acceptable);
        }
        if let Some(entry) = self.sockets.get_mut(socket.0) {
            entry.owner = Owner::Record(heir);
        }
        self.take_connections(heir);
        true
    }

    /// A listener goes that had only a share.
    pub(super) fn give_share_up(&mut self, id: Id, listener: &Listener) {
        if let Some(holder) = listener.shares.and_then(|holder| self.listener_mut(holder)) {
            holder.sharers.retain(|&other| other != id);
        }
    }
}
