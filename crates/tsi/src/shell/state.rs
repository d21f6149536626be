//! The saved form of a muxer.

use purlin_devices::virtio::RestoreError;
use purlin_snapshot::{DecodeError, Reader, Writer};

use crate::muxer::{DgramState, ListenerState, MuxerState, ReplyState, StreamState};
use crate::wire::{CONTROL_PORTS, Family, Reply, SockAddr};

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
    w.u32(count(state.replies.len()));
    for reply in &state.replies {
        w.u32(reply.port);
        w.u32(reply.csocket);
        match &reply.reply {
            Reply::Result(value) => {
                w.bool(false);
                w.u32(value.cast_unsigned());
            }
            Reply::Name(name) => {
                w.bool(true);
                addr(w, name);
            }
        }
    }
}

/// Version 1 has no answers at its end.
pub(super) fn load(r: &mut Reader<'_>, version: u16) -> Result<MuxerState, RestoreError> {
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
    let replies = if version >= 2 { r.count("replies", MAX_RECORDS)? } else { 0 };
    for _ in 0..replies {
        let port = r.u32("reply.port")?;
        if !CONTROL_PORTS.contains(&port) {
            return Err(DecodeError::Value { field: "reply.port", value: port.into() }.into());
        }
        let csocket = r.u32("reply.csocket")?;
        let reply = match r.bool("reply.is_name")? {
            false => Reply::Result(r.u32("reply.result")?.cast_signed()),
            true => Reply::Name(read_addr(r)?),
        };
        state.replies.push(ReplyState { port, csocket, reply });
    }
    Ok(state)
}

/// Body of a fuzz target: any bytes as the saved part of a muxer. What is taken comes out the same when it is saved again.
#[doc(hidden)]
pub fn tsi_state(data: &[u8]) {
    let loaded = load(&mut Reader::new(data), 2).or_else(|_| load(&mut Reader::new(data), 1));
    let Ok(state) = loaded else { return };
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
    let again = muxer.save();
    let mut w = Writer::new();
    save(&mut w, &again);
    let bytes = w.into_bytes();
    let loaded = load(&mut Reader::new(&bytes), 2);
    debug_assert!(loaded.is_ok_and(|loaded| loaded == again));
    while muxer.poll_packet().is_some() {}
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
    use crate::wire::control;

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
        let dgram = DgramState { guest: 7000, csocket: None, family: Family::V4, peer: Some(addr.clone()) };
        let reply = |port, reply| ReplyState { port, csocket: 4000, reply };
        MuxerState {
            next_port: 70_000,
            streams: vec![stream],
            listeners: vec![listener],
            dgrams: vec![dgram],
            replies: vec![
                reply(control::CONNECT, Reply::Result(-111)),
                reply(control::GETNAME, Reply::Name(addr)),
            ],
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
        assert_eq!(load(&mut Reader::new(&bytes(&state)), 2).unwrap(), state);
    }

    /// As the first version of the section has it.
    const FIRST: &str = "70110100\
        01000000 88130000 6c020000 01a00f0000 0200 01 0000000000\
        01000000 70170000 01a10f0000 10000000 020000507f0000010000000000000000 05000000 00 02000000 01a10f0000\
        01000000 581b0000 0000000000 0200 01 10000000 020000507f0000010000000000000000";

    #[test]
    fn the_first_version_is_loaded_without_answers() {
        let digits: String = FIRST.split_whitespace().collect();
        let old: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        let mut r = Reader::new(&old);
        let want = MuxerState { replies: Vec::new(), ..example() };
        assert_eq!(load(&mut r, 1).unwrap(), want);
        r.finish().unwrap();
        assert!(load(&mut Reader::new(&old), 2).is_err());
        // The rest is as it was.
        assert!(bytes(&example()).starts_with(&old));
    }

    #[test]
    fn answers_come_from_the_ports_that_give_them() {
        let mut state = example();
        state.replies[0].port = 80;
        let loaded = load(&mut Reader::new(&bytes(&state)), 2);
        assert!(
            matches!(
                loaded,
                Err(RestoreError::Decode(DecodeError::Value { field: "reply.port", value: 80 }))
            ),
            "{loaded:?}"
        );
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
