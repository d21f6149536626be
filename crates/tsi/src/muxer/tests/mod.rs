//! The muxer against scripted guests and hosts.

#![expect(unused_must_use, reason = "packets without payload need nothing done")]

mod credit;
mod guest;
mod hostile;
mod life;
mod policy;
mod requests;
mod sharing;
mod streams;

use std::time::{Duration, Instant};

use super::*;
use crate::config::{MuxerConfig, TsiFlags};
use crate::io::{Disposition, SocketEvent};
use crate::wire::{SockAddr, control, op};

pub const GP: u32 = 5000;
pub const CSOCKET: u32 = 4000;

/// A muxer, and the guest and host around it.
pub struct Bench {
    pub muxer: Muxer,
    pub now: Instant,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut MuxerConfig)) -> Self {
        let mut config = MuxerConfig {
            tsi: TsiFlags::HIJACK_INET | TsiFlags::HIJACK_UNIX,
            first_port: 1 << 20,
            ..MuxerConfig::default()
        };
        change(&mut config);
        Bench { muxer: Muxer::new(config).unwrap(), now: Instant::now() }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.muxer.handle_timeout(self.now);
    }

    /// A request of a control socket.
    pub fn ask_from(&mut self, csocket: u32, to: u32, bytes: &[u8]) {
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: csocket,
            dst_port: to,
            len: bytes.len() as u32,
            kind: kind::DGRAM,
            op: op::RW,
            ..Header::default()
        };
        let wanted = self.muxer.wants(&header).min(bytes.len());
        assert_eq!(self.muxer.handle_packet(self.now, &header, &bytes[..wanted]), Disposition::Done);
    }

    pub fn ask(&mut self, to: u32, bytes: &[u8]) {
        self.ask_from(CSOCKET, to, bytes);
    }

    pub fn create(&mut self, port: u32, family: u16, kind: u16) {
        self.ask(
            control::CREATE,
            &[&port.to_le_bytes()[..], &family.to_le_bytes(), &kind.to_le_bytes()].concat(),
        );
    }

    /// CONNECT or SENDTO_ADDR.
    pub fn ask_addr(&mut self, to: u32, port: u32, addr: &str) {
        self.ask(to, &[&port.to_le_bytes()[..], &sockaddr(addr)].concat());
    }

    pub fn connect(&mut self, addr: &str) {
        self.ask_addr(control::CONNECT, GP, addr);
    }

    pub fn listen(&mut self, port: u32, backlog: u32, addr: &str) {
        let fields = [port, port, backlog].map(u32::to_le_bytes).concat();
        self.ask(control::LISTEN, &[&fields[..], &sockaddr(addr)].concat());
    }

    pub fn release(&mut self, port: u32, host: u32) {
        self.ask(control::RELEASE, &[port, host].map(u32::to_le_bytes).concat());
    }

    /// A stream packet of the guest.
    pub fn send(&mut self, ports: (u32, u32), op: u16, change: impl FnOnce(&mut Header)) -> Disposition {
        let mut header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: ports.0,
            dst_port: ports.1,
            kind: kind::STREAM,
            op,
            buf_alloc: 256 << 10,
            ..Header::default()
        };
        change(&mut header);
        self.muxer.handle_packet(self.now, &header, &[])
    }

    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.muxer.poll_action()).collect()
    }

    pub fn action(&mut self) -> Action {
        let mut all = self.actions();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub fn event(&mut self, socket: SocketId, event: SocketEvent) {
        self.muxer.handle_socket(self.now, socket, event);
    }

    /// (op, ports as guest sees them (its own, host's), flags) of every packet; replies as (control port, csocket, result).
    pub fn packets(&mut self) -> Vec<(u16, u32, u32, i64)> {
        std::iter::from_fn(|| self.muxer.poll_packet())
            .map(|packet| {
                let Header { op, dst_port, src_port, flags, src_cid, dst_cid, .. } = packet.header;
                assert_eq!((src_cid, dst_cid), (2, 3));
                let value = match &packet.payload {
                    Some(bytes) => i32::from_le_bytes(*bytes.first_chunk().unwrap()).into(),
                    None => flags.into(),
                };
                (op, dst_port, src_port, value)
            })
            .collect()
    }

    /// The one reply there is.
    pub fn reply(&mut self, port: u32) -> i64 {
        let packets = self.packets();
        assert_eq!(packets.len(), 1, "{packets:?}");
        let (op, to, from, value) = packets[0];
        assert_eq!((op, to, from), (op::RW, CSOCKET, port));
        value
    }

    /// A TCP connection of the guest, open on both sides.
    pub fn open(&mut self) -> SocketId {
        self.create(GP, 2, 1);
        self.connect("192.0.2.1:80");
        let Action::Connect { socket, .. } = self.action() else { panic!("no connect") };
        self.event(socket, SocketEvent::Connected);
        assert_eq!(self.reply(control::CONNECT), 0);
        assert_eq!(self.send((GP, 620), op::REQUEST, |_| {}), Disposition::Done);
        assert_eq!(self.packets(), [(op::RESPONSE, GP, 620, 0)]);
        socket
    }
}

/// Length and address, as in requests.
pub fn sockaddr(addr: &str) -> Vec<u8> {
    let addr = match addr.parse() {
        Ok(inet) => SockAddr::Inet(inet),
        Err(_) => SockAddr::Unix(crate::wire::UnixAddr::new(addr.as_bytes()).unwrap()),
    };
    let mut area = [0; 128];
    let len = addr.emit(&mut area);
    [&len.to_le_bytes()[..], &area].concat()
}
