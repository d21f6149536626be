//! The driver side: a guest that speaks the protocol of libkrunfw's kernel.

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin_devices::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use purlin_devices::virtio::{ActivateContext, VirtioDevice};
use purlin_egress::Policy;
use purlin_vmm_core::memory::SharedRam;

use crate::config::{MuxerConfig, TsiFlags};
use crate::io::Stats;
use crate::muxer::Muxer;
use crate::shell::{Vsock, VsockConfig};
use crate::wire::{HEADER_LEN, Header, SockAddr, control, kind, op};

pub const LIMIT: Duration = Duration::from_secs(20);
pub const GP: u32 = 5000;
const RX_BUFFER: u32 = 3776;

pub struct Guest {
    pub device: Vsock,
    pub ram: SharedRam,
    pub rx: DriverRing,
    pub tx: DriverRing,
    pub events: DriverRing,
    pub interrupt: Arc<RecordingInterrupt>,
    pub got: VecDeque<(Header, Vec<u8>)>,
    /// Buffers are offered again when they come back.
    pub generous: bool,
}

pub fn config() -> MuxerConfig {
    MuxerConfig { tsi: TsiFlags::HIJACK_INET, ..MuxerConfig::default() }
}

pub fn rings(ram: &SharedRam) -> [DriverRing; 3] {
    [
        DriverRing::new(ram, 0x1000, 0x20_0000, 256),
        DriverRing::new(ram, 0x30_0000, 0x80_0000, 256),
        DriverRing::new(ram, 0xc0_0000, 0x1_0000, 256),
    ]
}

impl Guest {
    pub fn new(config: MuxerConfig) -> Self {
        Self::with(VsockConfig::new(config))
    }

    /// With a policy in JSON.
    pub fn under(policy: &str) -> Self {
        let mut device = VsockConfig::new(config());
        device.egress = Policy::from_json(policy.as_bytes()).unwrap();
        Self::with(device)
    }

    pub fn with(config: VsockConfig) -> Self {
        let ram = guest_ram(16 << 20);
        let [rx, tx, events] = rings(&ram);
        let device = Vsock::new(config).unwrap();
        let interrupt = Arc::default();
        let mut guest =
            Guest { device, ram, rx, tx, events, interrupt, got: VecDeque::new(), generous: true };
        guest.device.activate(guest.context()).unwrap();
        guest.offer(64);
        for _ in 0..8 {
            guest.events.submit(&[Buf::Write(4)]);
        }
        guest
    }

    pub fn context(&self) -> ActivateContext {
        ActivateContext {
            memory: self.ram.clone(),
            queues: vec![
                self.rx.device_queue(0, true),
                self.tx.device_queue(1, true),
                self.events.device_queue(2, true),
            ],
            interrupt: self.interrupt.clone(),
            shm: None,
        }
    }

    pub fn offer(&mut self, buffers: usize) {
        for _ in 0..buffers {
            self.rx.submit(&[Buf::Write(RX_BUFFER)]);
        }
        self.rx.kick();
    }

    pub fn send(&mut self, header: Header, payload: &[u8]) {
        let header = Header { src_cid: 3, dst_cid: 2, len: payload.len() as u32, ..header };
        while self.tx.free_descriptors() < 2 {
            self.tx.used();
        }
        let raw = header.emit();
        if payload.is_empty() {
            self.tx.submit(&[Buf::Read(&raw)]);
        } else {
            self.tx.submit(&[Buf::Read(&raw), Buf::Read(payload)]);
        }
        self.tx.kick();
    }

    pub fn ask(&mut self, to: u32, bytes: &[u8]) {
        let header =
            Header { src_port: 4000, dst_port: to, kind: kind::DGRAM, op: op::RW, ..Header::default() };
        self.send(header, bytes);
    }

    pub fn stream(&mut self, host: u32, op: u16, fwd_cnt: u32, payload: &[u8]) {
        let header = Header {
            src_port: GP,
            dst_port: host,
            kind: kind::STREAM,
            op,
            buf_alloc: 256 << 10,
            fwd_cnt,
            flags: if op == op::SHUTDOWN { 3 } else { 0 },
            ..Header::default()
        };
        self.send(header, payload);
    }

    /// Takes what has come.
    pub fn collect(&mut self) -> usize {
        let used = self.rx.used();
        self.rx.want_interrupt();
        self.tx.used();
        for buffer in &used {
            let header = Header::parse(buffer.data.first_chunk().unwrap());
            assert_eq!(buffer.len, HEADER_LEN as u32 + header.len);
            self.got.push_back((header, buffer.data[HEADER_LEN..buffer.len as usize].to_vec()));
        }
        if self.generous && !used.is_empty() {
            self.offer(used.len());
        }
        used.len()
    }

    /// All that comes on the stream until its end is announced. The device hears after so many bytes each time that there
    /// is room again.
    pub fn receive_to_end(&mut self, credit_after: usize) -> Vec<u8> {
        let mut got = Vec::new();
        loop {
            let (header, payload) = self.next();
            match header.op {
                op::RW => got.extend(payload),
                op::SHUTDOWN => return got,
                other => panic!("op {other} after {} bytes", got.len()),
            }
            if got.len() % credit_after < RX_BUFFER as usize {
                self.stream(620, op::CREDIT_UPDATE, got.len() as u32, &[]);
            }
        }
    }

    /// The next packet of the device.
    pub fn next(&mut self) -> (Header, Vec<u8>) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(packet) = self.got.pop_front() {
                return packet;
            }
            if self.collect() == 0 {
                assert!(Instant::now() < deadline, "the device says nothing");
                self.interrupt.wait(Duration::from_millis(20));
                self.interrupt.take();
            }
        }
    }

    /// How often the device's thread has woken up.
    pub fn turns(&mut self) -> u64 {
        self.device.quiesce(Instant::now() + LIMIT).unwrap();
        let turns = self.device.slot.parked().unwrap().turns;
        self.device.resume();
        turns
    }

    /// The muxer's counters.
    pub fn stats(&mut self) -> Stats {
        self.look(Muxer::stats)
    }

    /// Bytes that have been taken from the guest and not written yet.
    pub fn buffered(&mut self) -> u64 {
        self.look(Muxer::buffered)
    }

    fn look<T>(&mut self, look: impl Fn(&Muxer) -> T) -> T {
        self.device.quiesce(Instant::now() + LIMIT).unwrap();
        let seen = look(&self.device.slot.parked().unwrap().host.as_ref().unwrap().muxer);
        self.device.resume();
        seen
    }

    /// Sends these bytes as the device's window lets it.
    pub fn upload(&mut self, host: u32, bytes: &[u8]) {
        let (mut sent, mut fwd) = (0, 0);
        while sent < bytes.len() {
            let room = (256 << 10) - (sent - fwd);
            let len = room.min(60_000).min(bytes.len() - sent);
            if len == 0 {
                fwd = self.expect(op::CREDIT_UPDATE).0.fwd_cnt as usize;
                continue;
            }
            self.stream(host, op::RW, 0, &bytes[sent..sent + len]);
            sent += len;
        }
    }

    pub fn shutdown(&mut self, host: u32, flags: u32) {
        let (kind, buf_alloc) = (kind::STREAM, 256 << 10);
        let header = Header {
            src_port: GP,
            dst_port: host,
            kind,
            op: op::SHUTDOWN,
            flags,
            buf_alloc,
            ..Header::default()
        };
        self.send(header, &[]);
    }

    /// Waits until everything sent so far has been looked at; the stream packets that came meanwhile.
    pub fn settle(&mut self) -> Vec<Header> {
        self.ask(control::ACCEPT, &[0; 8]);
        let mut seen = Vec::new();
        loop {
            let (header, _) = self.next();
            if header.kind == kind::DGRAM {
                return seen;
            }
            seen.push(header);
        }
    }

    pub fn expect(&mut self, op: u16) -> (Header, Vec<u8>) {
        let (header, payload) = self.next();
        assert_eq!(header.op, op, "{header:?}");
        (header, payload)
    }

    pub fn result(&mut self) -> i32 {
        let (header, payload) = self.expect(op::RW);
        assert_eq!((header.kind, header.dst_port, payload.len()), (kind::DGRAM, 4000, 136));
        i32::from_le_bytes(*payload.first_chunk().unwrap())
    }

    pub fn connect(&mut self, addr: std::net::SocketAddr) -> i32 {
        self.ask(control::CREATE, &[&GP.to_le_bytes()[..], &[2, 0, 1, 0]].concat());
        self.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &sockaddr(addr)].concat());
        self.result()
    }

    pub fn open(&mut self, listener: &TcpListener) -> TcpStream {
        assert_eq!(self.connect(listener.local_addr().unwrap()), 0);
        self.stream(620, op::REQUEST, 0, &[]);
        self.expect(op::RESPONSE);
        listener.accept().unwrap().0
    }
}

pub fn sockaddr(addr: std::net::SocketAddr) -> Vec<u8> {
    let mut area = [0; 128];
    let len = SockAddr::Inet(addr).emit(&mut area);
    [&len.to_le_bytes()[..], &area].concat()
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
