//! What is saved of a muxer, and how one continues from it.
//!
//! Connections are not moved: the guest is told that its transport was reset, and its connected stream
//! sockets then end. Listeners and datagram sockets survive in the guest, so they come back here.

use thiserror::Error;

use super::{Body, Key, Muxer, Record};
use crate::dgram::{Dgram, Route};
use crate::listener::Listener;
use crate::slots::Id;
use crate::stream::{Origin, Phase, Stream, Tell};
use crate::wire::{Family, Header, Reply, SockAddr, TSI_PORT, control, errno};

/// A stream of a TSI socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Guest's port.
    pub guest: u32,
    /// Host's port.
    pub host: u32,
    /// Control socket, if known.
    pub csocket: Option<u32>,
    /// Its family.
    pub family: Family,
    /// It was announced and nothing else; it can still be used.
    pub unused: bool,
    /// The control socket that waits for the reply to CONNECT.
    pub owed: Option<u32>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerState {
    /// Guest's port.
    pub guest: u32,
    /// Control socket.
    pub csocket: Option<u32>,
    /// What the guest asked for.
    pub requested: SockAddr,
    /// As in `listen(2)`.
    pub backlog: u32,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
    /// Connections in the guest's queue that nobody has asked for.
    pub ready: u32,
    /// The control socket that waits for a connection.
    pub waiter: Option<u32>,
}

/// A datagram socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DgramState {
    /// Guest's port.
    pub guest: u32,
    /// Control socket.
    pub csocket: Option<u32>,
    /// Its family.
    pub family: Family,
    /// It is connected to this address.
    pub peer: Option<SockAddr>,
}

/// An answer the guest has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyState {
    /// The control port that was asked.
    pub port: u32,
    /// Control socket that waits.
    pub csocket: u32,
    /// What it is told.
    pub reply: Reply,
}

/// Everything that is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MuxerState {
    /// The next of the host's ports.
    pub next_port: u32,
    /// Streams.
    pub streams: Vec<StreamState>,
    /// Listeners.
    pub listeners: Vec<ListenerState>,
    /// Datagram sockets.
    pub dgrams: Vec<DgramState>,
    /// Answers, in their order.
    pub replies: Vec<ReplyState>,
}

/// Saved state that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// More records than the configuration allows.
    #[error("{found} records, {limit} are possible")]
    TooMany {
        /// Records in the state.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More answers than can wait at one time.
    #[error("{found} answers wait, {limit} are possible")]
    TooManyReplies {
        /// Answers in the state.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Two records of the same ports.
    #[error("ports {guest} and {host} are there twice")]
    Twice {
        /// Guest's port.
        guest: u32,
        /// Host's port.
        host: u32,
    },
    /// The muxer has been used.
    #[error("the muxer has records already")]
    NotFresh,
}

impl Muxer {
    /// The state, without connections of mapped ports, which end.
    pub fn save(&self) -> MuxerState {
        let mut state = MuxerState { next_port: self.next_port, ..MuxerState::default() };
        let mut records: Vec<&Record> = self.records.iter().map(|(_, r)| r).filter(|r| r.is_tsi()).collect();
        records.sort_by_key(|record| record.key);
        for record in records {
            let (key, csocket, family) = (record.key, record.csocket, record.family);
            match &record.body {
                Body::Stream(stream) => {
                    let owed = match &stream.phase {
                        Phase::Connecting(attempt) => match attempt.tell {
                            Tell::Control(port) => Some(port),
                            Tell::Nobody => None,
                        },
                        _ => None,
                    };
                    let unused = stream.phase == Phase::Created;
                    let Key { guest, host, .. } = key;
                    state.streams.push(StreamState { guest, host, csocket, family, unused, owed });
                }
                Body::Listener(listener) => state.listeners.push(ListenerState {
                    guest: key.guest,
                    csocket,
                    requested: listener.requested.clone(),
                    backlog: listener.backlog,
                    v6_only: listener.v6_only,
                    ready: listener.ready.saturating_add(listener.offered),
                    waiter: listener.waiter,
                }),
                Body::Dgram(dgram) => {
                    state.dgrams.push(DgramState {
                        guest: key.guest,
                        csocket,
                        family,
                        peer: dgram.peer_name.clone(),
                    });
                }
            }
        }
        let replies = self.messages.iter().filter_map(|message| {
            let Header { src_port: port, dst_port: csocket, .. } = message.header;
            Some(ReplyState { port, csocket, reply: message.payload.clone()? })
        });
        state.replies.extend(replies);
        state
    }

    /// Continues from a saved state, in a muxer without records but for its mapped ports. The guest must be
    /// told that its transport was reset.
    ///
    /// # Errors
    ///
    /// [`StateError`]; the muxer is then as before.
    pub fn restore(&mut self, state: &MuxerState) -> Result<(), StateError> {
        self.check_state(state)?;
        self.next_port = state.next_port;
        for saved in &state.replies {
            self.reply(saved.port, saved.csocket, saved.reply.clone());
        }
        for saved in &state.streams {
            let phase = if saved.unused { Phase::Created } else { Phase::Dead };
            let body = Body::Stream(Stream::new(Origin::Tsi, phase));
            let key = Key::stream(saved.guest, saved.host);
            let id = self.put(Record::new(key, saved.csocket, saved.family, body));
            if let Some(csocket) = saved.owed {
                self.reply_result(control::CONNECT, csocket, -errno::ECONNRESET);
            }
            if saved.unused { self.list_unused(id) } else { self.list_dead(id) }
        }
        for saved in &state.listeners {
            let mut listener = Listener::new(saved.requested.clone(), saved.guest, saved.backlog);
            (listener.ready, listener.waiter) = (saved.ready, saved.waiter);
            let (key, family) = (Key::stream(saved.guest, TSI_PORT), saved.requested.family());
            let body = Body::Listener(listener);
            let id = self.put(Record::new(key, saved.csocket, family, body));
            self.open_listener(id, saved.v6_only);
        }
        for saved in &state.dgrams {
            self.restore_dgram(saved);
        }
        Ok(())
    }

    fn put(&mut self, record: Record) -> Id {
        let key = record.key;
        let id = self.records.insert(record);
        self.by_key.insert(key, id);
        id
    }

    /// A connected one connects again with its first datagram, and only if the policy still says so.
    fn restore_dgram(&mut self, saved: &DgramState) {
        let mut dgram = Dgram::new(saved.family);
        if let Some(peer) = saved.peer.clone().filter(|p| p.family() == saved.family) {
            dgram.peer = Route::Lost(peer.clone());
            dgram.peer_name = Some(peer);
        }
        let key = Key::datagram(saved.guest, TSI_PORT);
        let body = Body::Dgram(dgram);
        self.put(Record::new(key, saved.csocket, saved.family, body));
    }

    fn check_state(&self, state: &MuxerState) -> Result<(), StateError> {
        if self.records.iter().any(|(_, r)| r.is_tsi()) || !self.by_key.is_empty() {
            return Err(StateError::NotFresh);
        }
        let found = state.streams.len() + state.listeners.len() + state.dgrams.len();
        let limit = self.config.limits.records;
        if found > limit {
            return Err(StateError::TooMany { found, limit });
        }
        // One for each request that was read before the guest had to wait, and what each record owed.
        let (found, limit) = (state.replies.len(), self.config.limits.messages.saturating_add(limit));
        if found > limit {
            return Err(StateError::TooManyReplies { found, limit });
        }
        let mut seen = std::collections::HashSet::new();
        let streams = state.streams.iter().map(|s| Key::stream(s.guest, s.host));
        let listeners = state.listeners.iter().map(|l| Key::stream(l.guest, TSI_PORT));
        let dgrams = state.dgrams.iter().map(|d| Key::datagram(d.guest, TSI_PORT));
        for key in streams.chain(listeners).chain(dgrams) {
            if !seen.insert(key) {
                return Err(StateError::Twice { guest: key.guest, host: key.host });
            }
        }
        Ok(())
    }

    fn has_socket(&self, listener: &Listener) -> bool {
        match listener.shares {
            Some(holder) => self.listener(holder).is_some_and(|l| l.socket.is_some()),
            None => listener.socket.is_some(),
        }
    }

    /// Host sockets of TSI listeners that could not be opened, after a restore.
    pub fn lost_listeners(&self) -> impl Iterator<Item = &SockAddr> {
        self.records.iter().filter_map(|(_, record)| match &record.body {
            Body::Listener(listener) if !listener.is_port && !self.has_socket(listener) => {
                Some(&listener.requested)
            }
            _ => None,
        })
    }
}
