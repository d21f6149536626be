//! Bodies of fuzz targets: what a guest sends, and whole sessions with a simulated host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::{Dial, MuxerConfig, PortMap, TsiFlags, UnixPort};
use crate::io::{
    Action, Disposition, Flow, GrantKind, Preamble, QueryId, ReadOutcome, SocketEvent, SocketId, Verdict,
};
use crate::muxer::Muxer;
use crate::wire::{HEADER_LEN, Header, MAX_REQUEST, SockAddr, UnixAddr, kind, op};

/// Any bytes as packets of a guest: 44 of header, then as many of request as the muxer wants.
pub fn vsock_packet(data: &[u8]) {
    let mut session = Session::new();
    let mut rest = data;
    while let Some((raw, tail)) = rest.split_first_chunk::<HEADER_LEN>() {
        // Mostly for us, or nothing would be reached.
        let mut header = Header { src_cid: 3, dst_cid: 2, ..Header::parse(raw) };
        header.len %= 70_000;
        let wanted = session.muxer.wants(&header).min(tail.len());
        let (request, tail) = tail.split_at(wanted);
        session.packet(&header, request);
        rest = tail;
    }
    session.end();
}

/// Any bytes as a session: packets, socket events, time, and reads, in any order. Panics if the muxer loses
/// count of sockets or bytes.
pub fn tsi_ops(data: &[u8]) {
    let mut session = Session::new();
    let mut input = Input(data);
    while let Some(choice) = input.byte() {
        session.step(choice, &mut input);
        session.check();
    }
    session.end();
}

/// Bytes, taken one by one; zeros at the end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn pick<T: Copy>(&mut self, from: &[T; 8]) -> T {
        let [first, ..] = from;
        from.get(self.below(8) as usize).copied().unwrap_or(*first)
    }

    fn below(&mut self, limit: u32) -> u32 {
        let high = u32::from(self.byte().unwrap_or(0));
        let low = u32::from(self.byte().unwrap_or(0));
        (high << 8 | low) % limit
    }
}

/// A host socket, as the simulated host has it.
#[derive(Debug, Default)]
struct Sim {
    /// A stream that is connected.
    stream: bool,
    listener: bool,
    /// Bytes the muxer handed over and the host has not taken.
    unwritten: u32,
}

struct Session {
    muxer: Muxer,
    now: Instant,
    open: BTreeMap<SocketId, Sim>,
    ever: BTreeSet<SocketId>,
    /// Connects and accepts without an outcome yet.
    pending: Vec<(SocketId, bool)>,
    queries: Vec<(QueryId, Flow)>,
    handed: u64,
    taken: u64,
    dropped: u64,
}

#[expect(clippy::panic, reason = "a failed check is the result")]
fn fail(text: &str) -> ! {
    panic!("{text}")
}

impl Session {
    fn new() -> Self {
        let path = |name: &[u8]| UnixAddr::new(name);
        let port = |port, name: &[u8], dial| path(name).map(|path| UnixPort { port, path, dial });
        let ports = [port(7, b"/guest", Dial::Guest), port(8, b"/host", Dial::Host)];
        let mut config = MuxerConfig {
            tsi: TsiFlags::from_bits(0xf).unwrap_or(TsiFlags::NONE),
            port_map: PortMap::all(),
            unix_ports: ports.into_iter().flatten().collect(),
            unix_listen_roots: vec![b"/run/".to_vec()],
            ask_policy: true,
            ..MuxerConfig::default()
        };
        config.limits.sockets = 24;
        config.limits.records = 24;
        config.limits.unused = 8;
        config.limits.flows = 2;
        config.limits.messages = 64;
        let Ok(muxer) = Muxer::new(config) else { fail("the configuration is sound") };
        let mut session = Session {
            muxer,
            now: Instant::now(),
            open: BTreeMap::new(),
            ever: BTreeSet::new(),
            pending: Vec::new(),
            queries: Vec::new(),
            handed: 0,
            taken: 0,
            dropped: 0,
        };
        session.act();
        session
    }

    fn make(&mut self, socket: SocketId, sim: Sim) {
        if !self.ever.insert(socket) {
            fail("a socket id was used twice");
        }
        self.open.insert(socket, sim);
    }

    fn gone(&mut self, socket: SocketId) {
        if let Some(sim) = self.open.remove(&socket) {
            self.dropped += u64::from(sim.unwritten);
        }
        self.pending.retain(|(id, _)| *id != socket);
    }

    fn event(&mut self, socket: SocketId, event: SocketEvent) {
        self.muxer.handle_socket(self.now, socket, event);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.muxer.poll_action() {
            match action {
                Action::Connect { socket, .. } => {
                    self.make(socket, Sim::default());
                    self.pending.push((socket, false));
                }
                Action::Listen { socket, addr, .. } => {
                    self.make(socket, Sim { listener: true, ..Sim::default() });
                    self.muxer.handle_socket(self.now, socket, SocketEvent::Listening(addr));
                }
                Action::Accept { listener, socket } => {
                    if !self.open.get(&listener).is_some_and(|s| s.listener) {
                        fail("accept on what does not listen");
                    }
                    self.make(socket, Sim::default());
                    self.pending.push((socket, true));
                }
                Action::OpenDatagram { socket, .. } => {
                    self.make(socket, Sim::default());
                    self.muxer.handle_socket(self.now, socket, SocketEvent::Opened);
                }
                Action::ConnectDatagram { socket, .. } => {
                    if !self.open.contains_key(&socket) {
                        self.make(socket, Sim::default());
                    }
                    self.muxer.handle_socket(self.now, socket, SocketEvent::Connected);
                }
                Action::Preamble { socket, .. } => {
                    if !self.open.contains_key(&socket) {
                        fail("a preamble for a socket that is gone");
                    }
                }
                Action::ShutdownWrite { socket } => match self.open.get(&socket) {
                    Some(sim) if sim.unwritten == 0 => {}
                    Some(_) => fail("shut down before everything was written"),
                    None => fail("shut down after close"),
                },
                Action::Close { socket, abort } => {
                    match self.open.get(&socket) {
                        Some(sim) if sim.unwritten > 0 && !abort => fail("closed with bytes left"),
                        Some(_) => {}
                        None => fail("closed twice"),
                    }
                    self.gone(socket);
                }
                Action::AskPolicy { id, flow } => self.queries.push((id, flow)),
            }
        }
    }

    fn packet(&mut self, header: &Header, request: &[u8]) {
        match self.muxer.handle_packet(self.now, header, request) {
            Disposition::Done => {}
            Disposition::Stream(socket) => match self.open.get_mut(&socket) {
                Some(sim) => {
                    sim.unwritten += header.len;
                    self.handed += u64::from(header.len);
                }
                None => fail("payload for a socket that is gone"),
            },
            Disposition::Datagram { socket, preamble, .. } => {
                if !self.open.contains_key(&socket) {
                    fail("a datagram for a socket that is gone");
                }
                if preamble.is_some() && header.len.is_multiple_of(2) {
                    self.muxer.handle_socket(self.now, socket, SocketEvent::PreambleSent);
                }
            }
        }
        self.act();
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        match choice % 8 {
            0 | 1 => self.random_request(input),
            2 | 3 => self.random_stream_packet(input),
            4 => self.random_outcome(input),
            5 => self.random_event(input),
            6 => {
                self.now += Duration::from_millis(u64::from(input.below(2000)));
                self.muxer.handle_timeout(self.now);
                self.act();
                if let Some((id, _)) = self.queries.pop() {
                    let target = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
                    let verdict = match (input.below(4), Preamble::new(b"where to")) {
                        (0, _) => Verdict::Deny,
                        (1, Some(header)) => Verdict::Redirect { target, header },
                        _ => Verdict::Allow,
                    };
                    let through = self.muxer.handle_verdict(self.now, id, verdict);
                    if through.is_some_and(|socket| self.ever.contains(&socket)) {
                        fail("a stream that was let out has an old socket");
                    }
                    self.act();
                    if input.below(4) == 0 {
                        self.replace_policy(input);
                    }
                }
            }
            _ => self.take_output(input),
        }
    }

    /// A new policy that closes some of what is open.
    fn replace_policy(&mut self, input: &mut Input<'_>) {
        self.muxer.policy_changed();
        let open = self.muxer.open_flows();
        for flow in &open {
            if flow.stream.is_some_and(|socket| !self.open.contains_key(&socket)) {
                fail("an open flow without its socket");
            }
            if input.below(2) == 0 {
                self.muxer.close_flow(flow.id);
                self.act();
                if self.muxer.open_flows().iter().any(|other| other.id == flow.id) {
                    fail("a flow is open after it was closed");
                }
            }
        }
    }

    fn random_request(&mut self, input: &mut Input<'_>) {
        let mut bytes = [0; MAX_REQUEST];
        let len = input.pick(&[8, 12, 24, 32, 40, 144, 144, 3]);
        let port = input.below(4) + 10;
        let family = input.pick(&[2u16, 2, 2, 2, 10, 10, 1, 1]);
        let to = 1024 + input.below(8);
        let mut put = |at: usize, value: &[u8]| {
            if let Some(area) = bytes.get_mut(at..at + value.len()) {
                area.copy_from_slice(value);
            }
        };
        put(0, &port.to_le_bytes());
        let mut addr = vec![0; 28];
        let addr_len = match family {
            2 => 16,
            10 => 28,
            _ => 8,
        };
        for (to, from) in addr.iter_mut().zip(family.to_le_bytes()) {
            *to = from;
        }
        if let Some(area) = addr.get_mut(2..8) {
            area.copy_from_slice(if family == 1 { b"/run/a" } else { &[0, 80, 127, 0, 0, 1] });
        }
        match to {
            1024 => {
                put(4, &family.to_le_bytes());
                put(6, &(input.below(2) as u16 + 1).to_le_bytes());
            }
            1025 | 1027 => {
                put(4, &u32::to_le_bytes(addr_len));
                put(8, &addr);
            }
            1029 => {
                put(4, &port.to_le_bytes());
                put(8, &input.below(4).to_le_bytes());
                put(12, &u32::to_le_bytes(addr_len));
                put(16, &addr);
            }
            1026 | 1031 => put(4, &620u32.to_le_bytes()),
            _ => put(4, &(input.below(2) << 11).to_le_bytes()),
        }
        let csocket = 100 + input.below(2);
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: if to == 1028 { port } else { csocket },
            dst_port: to,
            len,
            kind: kind::DGRAM,
            op: op::RW,
            ..Header::default()
        };
        let wanted = self.muxer.wants(&header);
        self.packet(&header, bytes.get(..wanted).unwrap_or_default());
    }

    fn random_stream_packet(&mut self, input: &mut Input<'_>) {
        let hosts = [620, 620, 620, 7, 7, 8, 1 << 30, (1 << 30) + 1];
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: if input.below(4) == 0 { 8 } else { input.below(4) + 10 },
            dst_port: input.pick(&hosts),
            len: if input.below(2) == 0 { 0 } else { input.below(65_000) },
            kind: kind::STREAM,
            op: input.below(9) as u16,
            flags: input.below(5),
            buf_alloc: input.below(3) * 100_000,
            fwd_cnt: if input.below(8) == 0 { input.below(60_000) } else { 0 },
        };
        self.packet(&header, &[]);
    }

    fn random_outcome(&mut self, input: &mut Input<'_>) {
        let Some((socket, accept)) = self.pending.pop() else { return };
        let outcome = input.below(4);
        let event = match (outcome, accept) {
            (0, true) => SocketEvent::NothingToAccept,
            (0 | 1, false) => SocketEvent::Refused(if outcome == 0 { 11 } else { 111 }),
            (1, true) => SocketEvent::Refused(24),
            (_, true) => SocketEvent::Accepted(Some(SockAddr::unspecified(crate::wire::Family::V4))),
            (_, false) => SocketEvent::Connected,
        };
        match &event {
            SocketEvent::Connected | SocketEvent::Accepted(_) => {
                if let Some(sim) = self.open.get_mut(&socket) {
                    sim.stream = true;
                }
            }
            _ => self.gone(socket),
        }
        self.event(socket, event);
    }

    fn random_event(&mut self, input: &mut Input<'_>) {
        let count = self.open.len().max(1) as u32;
        let index = input.below(count) as usize;
        let Some((&socket, sim)) = self.open.iter_mut().nth(index) else { return };
        let event = match input.below(5) {
            0 => SocketEvent::HungUp,
            1 if sim.stream => SocketEvent::WriteFailed,
            2 | 3 if sim.unwritten > 0 => {
                let n = (input.below(65_000) + 1).min(sim.unwritten);
                sim.unwritten -= n;
                self.taken += u64::from(n);
                SocketEvent::Written(n)
            }
            _ => SocketEvent::Readable,
        };
        if event == SocketEvent::HungUp && !sim.stream {
            return;
        }
        self.event(socket, event);
    }

    fn take_output(&mut self, input: &mut Input<'_>) {
        for _ in 0..input.below(8) {
            if self.muxer.packet_len().is_some() {
                if self.muxer.poll_packet().is_none() {
                    fail("a packet was promised");
                }
                continue;
            }
            let Some(grant) = self.muxer.poll_grant(3732) else { return };
            if !self.open.contains_key(&grant.socket) {
                fail("a grant for a socket that is gone");
            }
            let outcome = match input.below(4) {
                0 => ReadOutcome::More,
                1 => ReadOutcome::Drained,
                2 => ReadOutcome::End,
                _ => ReadOutcome::Failed,
            };
            if let GrantKind::Stream { bytes, packets } = grant.what {
                let mut left = if outcome == ReadOutcome::End { 0 } else { input.below(65_000).min(bytes) };
                if left > 0 {
                    let Some(mut burst) = self.muxer.stream_burst(grant.socket) else {
                        fail("no headers for a stream that was granted");
                    };
                    for _ in 0..packets {
                        let len = left.min(3732);
                        if len == 0 {
                            break;
                        }
                        burst.packet(len);
                        left -= len;
                    }
                }
            }
            self.muxer.handle_read(self.now, grant.socket, outcome);
            self.act();
        }
    }

    fn check(&self) {
        if self.muxer.open_sockets() != self.open.len() {
            fail("the muxer and the host disagree on how many sockets are open");
        }
        let unwritten: u64 = self.open.values().map(|s| u64::from(s.unwritten)).sum();
        if self.muxer.buffered() != unwritten {
            fail("the muxer and the host disagree on how many bytes are waiting");
        }
        if self.handed != self.taken + self.dropped + unwritten {
            fail("bytes were lost without their socket being closed");
        }
    }

    fn end(&mut self) {
        self.check();
        self.muxer.reset();
        self.act();
        self.check();
        if self.open.values().any(|sim| !sim.listener) || self.muxer.buffered() != 0 {
            fail("something is left after a reset");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn sessions_of_any_kind_keep_count(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            tsi_ops(&data);
        }

        #[test]
        fn packets_of_any_kind_are_taken(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            vsock_packet(&data);
        }
    }
}
