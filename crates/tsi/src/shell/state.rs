//! The saved form of a muxer.

use purlin_devices::virtio::RestoreError;
use purlin_snapshot::{DecodeError, Reader, Writer};

use crate::muxer::{DgramState, ListenerState, MuxerState, StreamState};
use crate::wire::{Family, SockAddr};

/// More than any configuration allows is not even decoded.
const MAX_RECORDS: u32 = 1 << 20;

pub(super) fn save(w: &mut Writer, state: &MuxerState) {
    w.u32(state.next_port);
    w.u32(count(state.streams.len()));
    for s in &state.streams {
        w.u32(s.guest);
        w.u32(s.host);
        option(w, s.csocket);
        w.u16(s.family as u16);
        w.bool(s.unused);
        option(w, s.owed);
    }
    w.u32(count(state.listeners.len()));
    for l in &state.listeners {
        w.u32(l.guest);
        option(w, l.csocket);
        addr(w, &l.requested);
        w.u32(l.backlog);
        w.bool(l.v6_only);
        w.u32(l.ready);
        option(w, l.waiter);
    }
    w.u32(count(state.dgrams.len()));
    for d in &state.dgrams {
        w.u32(d.guest);
        option(w, d.csocket);
        w.u16(d.family as u16);
        w.bool(d.peer.is_some());
        if let Some(peer) = &d.peer {
            addr(w, peer);
        }
    }
}

pub(super) fn load(r: &mut Reader<'_>) -> Result<MuxerState, RestoreError> {
    let mut state = MuxerState { next_port: r.u32("next_port")?, ..MuxerState::default() };
    for _ in 0..r.count("streams", MAX_RECORDS)? {
        state.streams.push(StreamState {
            guest: r.u32("stream.guest")?,
            host: r.u32("stream.host")?,
            csocket: read_option(r, "stream.csocket")?,
            family: read_family(r)?,
            unused: r.bool("stream.unused")?,
            owed: read_option(r, "stream.owed")?,
        });
    }
    for _ in 0..r.count("listeners", MAX_RECORDS)? {
        state.listeners.push(ListenerState {
            guest: r.u32("listener.guest")?,
            csocket: read_option(r, "listener.csocket")?,
            requested: read_addr(r)?,
            backlog: r.u32("listener.backlog")?,
            v6_only: r.bool("listener.v6_only")?,
            ready: r.u32("listener.ready")?,
            waiter: read_option(r, "listener.waiter")?,
        });
    }
    for _ in 0..r.count("dgrams", MAX_RECORDS)? {
        state.dgrams.push(DgramState {
            guest: r.u32("dgram.guest")?,
            csocket: read_option(r, "dgram.csocket")?,
            family: read_family(r)?,
            peer: if r.bool("dgram.connected")? { Some(read_addr(r)?) } else { None },
        });
    }
    Ok(state)
}

/// Body of a fuzz target: any bytes as the saved part of a muxer. What is taken comes out the same when it is saved again.
#[doc(hidden)]
pub fn tsi_state(data: &[u8]) {
    let Ok(state) = load(&mut Reader::new(data)) else { return };
    let tsi = crate::TsiFlags::HIJACK_INET | crate::TsiFlags::HIJACK_UNIX;
    let mut config = crate::MuxerConfig { tsi, ..crate::MuxerConfig::default() };
    config.limits.records = 64;
    let Ok(mut muxer) = crate::Muxer::new(config) else { return };
    if muxer.restore(&state).is_err() {
        return;
    }
    let now = std::time::Instant::now();
    while let Some(action) = muxer.poll_action() {
        if let crate::Action::Listen { socket, addr, .. } = action {
            muxer.handle_socket(now, socket, crate::SocketEvent::Listening(addr));
        }
    }
    while muxer.poll_packet().is_some() {}
    let again = muxer.save();
    let mut w = Writer::new();
    save(&mut w, &again);
    let bytes = w.into_bytes();
    let loaded = load(&mut Reader::new(&bytes));
    debug_assert!(loaded.is_ok_and(|loaded| loaded == again));
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn option(w: &mut Writer, value: Option<u32>) {
    w.bool(value.is_some());
    w.u32(value.unwrap_or(0));
}

fn read_option(r: &mut Reader<'_>, field: &'static str) -> Result<Option<u32>, DecodeError> {
    let some = r.bool(field)?;
    let value = r.u32(field)?;
    Ok(some.then_some(value))
}

fn read_family(r: &mut Reader<'_>) -> Result<Family, DecodeError> {
    let raw = r.u16("family")?;
    Family::from_raw(raw).ok_or(DecodeError::Value { field: "family", value: raw.into() })
}

fn addr(w: &mut Writer, addr: &SockAddr) {
    let mut bytes = [0; 128];
    let len = addr.emit(&mut bytes) as usize;
    w.bytes(bytes.get(..len).unwrap_or_default());
}

fn read_addr(r: &mut Reader<'_>) -> Result<SockAddr, DecodeError> {
    let bytes = r.bytes("address", 128)?;
    SockAddr::parse(bytes).map_err(|_| DecodeError::Value { field: "address", value: bytes.len() as u64 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> MuxerState {
        let addr = SockAddr::Inet("127.0.0.1:80".parse().unwrap());
        let stream = StreamState {
            guest: 5000,
            host: 620,
            csocket: Some(4000),
            family: Family::V4,
            unused: true,
            owed: None,
        };
        let listener = ListenerState {
            guest: 6000,
            csocket: Some(4001),
            requested: addr.clone(),
            backlog: 5,
            v6_only: false,
            ready: 2,
            waiter: Some(4001),
        };
        let dgram = DgramState { guest: 7000, csocket: None, family: Family::V4, peer: Some(addr) };
        MuxerState {
            next_port: 70_000,
            streams: vec![stream],
            listeners: vec![listener],
            dgrams: vec![dgram],
        }
    }

    fn bytes(state: &MuxerState) -> Vec<u8> {
        let mut w = Writer::new();
        save(&mut w, state);
        w.into_bytes()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let state = example();
        assert_eq!(load(&mut Reader::new(&bytes(&state))).unwrap(), state);
    }

    proptest! {
        #[test]
        fn broken_state_is_an_error_or_taken(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut edited = bytes(&example());
            for (at, value) in edits {
                let at = at.index(edited.len());
                edited[at] = value;
            }
            tsi_state(&edited);
            tsi_state(&noise);
        }
    }
}
