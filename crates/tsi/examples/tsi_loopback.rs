//! The muxer alone: a guest that is a few lines of this program connects to an echo server of the host.
//!
//! `cargo run -p purlin-tsi --example tsi_loopback` prints every packet between the two, and what the owner of the
//! sockets, which is also this program, was told to do. No virtual machine, no rings, no thread but the server's.

use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use purlin_tsi::wire::{Header, SockAddr, control, kind, op};
use purlin_tsi::{
    Action, Disposition, GrantKind, Muxer, MuxerConfig, ReadOutcome, SocketEvent, SocketId, TsiFlags,
};

/// The guest's port of its socket, and of the control socket that belongs to it.
const PORT: u32 = 5000;
const CONTROL: u32 = 4000;
/// The host's port of every stream the guest opens.
const HOST: u32 = 620;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    std::thread::spawn(move || echo(&listener));

    let mut config = MuxerConfig::default();
    config.tsi = TsiFlags::HIJACK_INET;
    let mut host = Host { muxer: Muxer::new(config)?, sockets: HashMap::new() };

    // What the guest's kernel makes of socket(2), connect(2), write(2), read(2) and close(2).
    host.request(control::CREATE, &[&PORT.to_le_bytes()[..], &[2, 0, 1, 0]].concat())?;
    host.request(control::CONNECT, &[&PORT.to_le_bytes()[..], &sockaddr(server)].concat())?;
    let (_, reply) = host.next_for_guest()?;
    println!("guest: connect(2) gives {}", i32::from_le_bytes(*reply.first_chunk().ok_or("no reply")?));
    host.stream(op::REQUEST, 0, &[])?;
    host.next_for_guest()?;
    host.stream(op::RW, 0, b"hello, host")?;
    let (_, payload) = host.next_for_guest()?;
    println!("guest: read(2) gives {:?}", String::from_utf8_lossy(&payload));
    host.request(control::RELEASE, &[PORT, HOST].map(u32::to_le_bytes).concat())?;
    host.stream(op::SHUTDOWN, 3, &[])?;
    host.next_for_guest()?;
    println!("{:?}, {} sockets are open", host.muxer.stats(), host.muxer.open_sockets());
    Ok(())
}

fn echo(listener: &TcpListener) {
    for mut peer in listener.incoming().flatten() {
        let mut bytes = [0; 1024];
        while let Ok(n) = peer.read(&mut bytes) {
            if n == 0 || peer.write_all(bytes.get(..n).unwrap_or_default()).is_err() {
                break;
            }
        }
    }
}

/// Length and address as requests carry them.
fn sockaddr(addr: SocketAddr) -> Vec<u8> {
    let mut area = [0; 128];
    let len = SockAddr::Inet(addr).emit(&mut area);
    [&len.to_le_bytes()[..], &area].concat()
}

/// Header and payload.
type Packet = (Header, Vec<u8>);

/// The muxer and its sockets, which here are the standard library's.
struct Host {
    muxer: Muxer,
    sockets: HashMap<SocketId, TcpStream>,
}

impl Host {
    fn request(&mut self, to: u32, payload: &[u8]) -> Result<(), Box<dyn Error>> {
        let kind = kind::DGRAM;
        self.packet(
            Header { src_port: CONTROL, dst_port: to, kind, op: op::RW, ..Header::default() },
            payload,
        )
    }

    fn stream(&mut self, op: u16, flags: u32, payload: &[u8]) -> Result<(), Box<dyn Error>> {
        let (kind, buf_alloc) = (kind::STREAM, 256 << 10);
        let header =
            Header { src_port: PORT, dst_port: HOST, kind, op, flags, buf_alloc, ..Header::default() };
        self.packet(header, payload)
    }

    /// One packet of the guest.
    fn packet(&mut self, header: Header, payload: &[u8]) -> Result<(), Box<dyn Error>> {
        let header = Header { src_cid: 3, dst_cid: 2, len: u32::try_from(payload.len())?, ..header };
        println!("guest -> host: {}", describe(&header));
        let wanted = self.muxer.wants(&header);
        let request = payload.get(..wanted).unwrap_or_default();
        if let Disposition::Stream(socket) = self.muxer.handle_packet(Instant::now(), &header, request)
            && let Some(stream) = self.sockets.get_mut(&socket)
        {
            stream.write_all(payload)?;
            self.muxer.handle_socket(Instant::now(), socket, SocketEvent::Written(header.len));
        }
        self.act();
        Ok(())
    }

    /// Does what the muxer wants of sockets.
    fn act(&mut self) {
        while let Some(action) = self.muxer.poll_action() {
            println!("  {action:?}");
            match action {
                Action::Connect { socket, addr } => {
                    let made = addr.inet().map(TcpStream::connect);
                    let event = match made {
                        Some(Ok(stream)) => {
                            self.sockets.insert(socket, stream);
                            SocketEvent::Connected
                        }
                        Some(Err(e)) => SocketEvent::Refused(e.raw_os_error().unwrap_or(111)),
                        None => SocketEvent::Refused(97),
                    };
                    self.muxer.handle_socket(Instant::now(), socket, event);
                }
                Action::Close { socket, .. } => drop(self.sockets.remove(&socket)),
                // A whole owner does the others, too.
                _ => {}
            }
        }
    }

    /// The next packet for the guest: a message, or what a socket has.
    fn next_for_guest(&mut self) -> Result<Packet, Box<dyn Error>> {
        loop {
            self.act();
            if let Some(packet) = self.muxer.poll_packet() {
                println!("host -> guest: {}", describe(&packet.header));
                return Ok((packet.header, packet.payload.map_or(Vec::new(), |bytes| bytes.to_vec())));
            }
            if let Some(found) = self.read()? {
                return Ok(found);
            }
            // Instead of waiting for events.
            std::thread::sleep(Duration::from_millis(1));
            for &socket in self.sockets.keys() {
                self.muxer.handle_socket(Instant::now(), socket, SocketEvent::Readable);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Packet>, Box<dyn Error>> {
        let Some(grant) = self.muxer.poll_grant(4096) else { return Ok(None) };
        let (GrantKind::Stream { bytes, .. }, Some(stream)) =
            (grant.what, self.sockets.get_mut(&grant.socket))
        else {
            return Ok(None);
        };
        stream.set_nonblocking(true)?;
        let mut payload = vec![0; usize::try_from(bytes.min(4096))?];
        let (outcome, n) = match stream.read(&mut payload) {
            Ok(0) => (ReadOutcome::End, 0),
            Ok(n) => (ReadOutcome::More, n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => (ReadOutcome::Drained, 0),
            Err(_) => (ReadOutcome::Failed, 0),
        };
        stream.set_nonblocking(false)?;
        payload.truncate(n);
        let header = if n > 0 { self.muxer.stream_header(grant.socket, u32::try_from(n)?) } else { None };
        self.muxer.handle_read(Instant::now(), grant.socket, outcome);
        Ok(header.map(|header| {
            println!("host -> guest: {}", describe(&header));
            (header, payload)
        }))
    }
}

fn describe(header: &Header) -> String {
    let kind = if header.kind == kind::STREAM { "stream" } else { "datagram" };
    let Header { src_port, dst_port, op, flags, len, .. } = header;
    format!("{kind} {src_port} -> {dst_port}, op {op}, flags {flags}, {len} bytes")
}
