//! Host sockets, by the muxer's ids, and the epoll they are registered with.
//!
//! Every socket is registered once, edge-triggered. Waiting until a socket takes bytes is switched on when one
//! does not, once: unix and datagram sockets would otherwise report every byte their peer takes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use purlin_vmm_core::memory::VolatileSlice;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::addr;
use super::outbuf::OutBuf;
use super::sys::{self, IoVecs};
use crate::io::{Preamble, SocketId};
use crate::wire::{Family, SockAddr};

const NEW: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// The host's queue of a listener is at least this long. The guest's own, which the muxer keeps to, may be shorter; a
/// client beyond the host's would try again only after a second.
const LEAST_BACKLOG: u32 = 128;

/// What a socket is, as far as events are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connecting,
    Stream,
    Listener,
    Datagram,
}

/// One host socket.
#[derive(Debug)]
pub(super) struct Sock {
    pub id: SocketId,
    fd: OwnedFd,
    pub kind: Kind,
    pub unix: bool,
    /// Nothing is written before its first bytes have been looked at.
    pub held: bool,
    /// What comes from it is looked at.
    pub tapped: bool,
    /// Waits for the limit on bytes, to be read.
    pub parked_read: bool,
    /// The same, to be written.
    pub parked_write: bool,
    /// What events said of the end, or of anything out of the ordinary. After that it is read until there is nothing.
    pub told: EventSet,
    waits_writable: bool,
    pub out: OutBuf,
    /// Receive buffers to offer for the next read.
    pub appetite: usize,
    /// Removed when the socket closes.
    file: Option<PathBuf>,
}

/// Fewest receive buffers offered to a read.
const LEAST_APPETITE: usize = 4;
/// Most.
pub(super) const MOST_APPETITE: usize = 64;

impl Sock {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the peer neither sends nor reads any more.
    pub fn has_hung_up(&self) -> bool {
        let mut state = [PollFd::from_borrowed_fd(self.fd(), PollFlags::empty())];
        let polled = rustix::event::poll(&mut state, Some(&Timespec::default()));
        polled.is_ok() && state.iter().any(|fd| fd.revents().contains(PollFlags::HUP))
    }

    /// Learns from a read that filled `used` of the buffers offered.
    pub fn learn(&mut self, used: usize, all: bool) {
        self.appetite = if all { (self.appetite * 4).min(MOST_APPETITE) } else { used.max(LEAST_APPETITE) };
    }

    /// True if a read that filled less than it was offered means that there is no more for now. A unix
    /// socket also stops at a message that came with descriptors.
    pub fn short_read_is_all(&self) -> bool {
        !self.unix && self.told.is_empty()
    }

    /// True if after such a read there is nothing but the peer's FIN. Urgent bytes make reads stop short too, and an error takes
    /// what is behind it.
    pub fn short_read_is_the_end(&self) -> bool {
        !self.unix && self.told == EventSet::READ_HANG_UP
    }
}

/// How a connect began.
pub(super) enum Begun {
    Done,
    InProgress,
}

/// All host sockets of a device.
pub(super) struct Sockets {
    epoll: Epoll,
    table: Vec<Option<Sock>>,
}

impl Sockets {
    pub fn new() -> io::Result<Self> {
        Ok(Sockets { epoll: Epoll::new()?, table: Vec::new() })
    }

    /// Where everything is registered.
    pub fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Registers a descriptor that is not a socket, edge-triggered.
    pub fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token);
        self.epoll.ctl(ControlOperation::Add, fd, event)
    }

    /// Undoes [`Sockets::watch`].
    pub fn unwatch(&self, fd: RawFd) {
        let _ = self.epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default());
    }

    pub fn get(&mut self, id: SocketId) -> Option<&mut Sock> {
        self.table.get_mut(id.slot() as usize)?.as_mut().filter(|s| s.id == id)
    }

    fn insert(&mut self, id: SocketId, fd: OwnedFd, kind: Kind, unix: bool) -> rustix::io::Result<&mut Sock> {
        let waits_writable = kind == Kind::Connecting;
        let event = EpollEvent::new(interest(waits_writable), id.to_bits());
        let added = self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event);
        added.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::NOMEM))?;
        let slot = id.slot() as usize;
        if self.table.len() <= slot {
            self.table.resize_with(slot + 1, || None);
        }
        let entry = self.table.get_mut(slot).ok_or(Errno::NOMEM)?;
        let sock = Sock {
            id,
            fd,
            kind,
            unix,
            held: false,
            tapped: false,
            parked_read: false,
            parked_write: false,
            told: EventSet::empty(),
            waits_writable,
            out: OutBuf::default(),
            appetite: LEAST_APPETITE,
            file: None,
        };
        Ok(entry.insert(sock))
    }

    /// Begins a stream connect.
    pub fn connect(&mut self, id: SocketId, to: &SockAddr) -> rustix::io::Result<Begun> {
        let os = addr::to_os(to)?;
        let unix = to.family() == Family::Unix;
        let fd = net::socket_with(addr::family(to.family()), SocketType::STREAM, NEW, None)?;
        if !unix {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        // Loopback connects are through when the call returns, and say so only if asked again.
        let outcome = match net::connect(&fd, &os) {
            Err(Errno::INPROGRESS) => net::connect(&fd, &os),
            other => other,
        };
        match outcome {
            Ok(()) | Err(Errno::ISCONN) => {
                self.insert(id, fd, Kind::Stream, unix)?;
                Ok(Begun::Done)
            }
            Err(Errno::INPROGRESS | Errno::ALREADY) => {
                self.insert(id, fd, Kind::Connecting, unix)?;
                Ok(Begun::InProgress)
            }
            Err(e) => Err(e),
        }
    }

    /// The outcome of a connect, if there is one.
    pub fn connect_outcome(&mut self, id: SocketId, flags: EventSet) -> Option<Result<(), i32>> {
        let sock = self.get(id)?;
        if !flags.intersects(EventSet::OUT | EventSet::ERROR | EventSet::HANG_UP) {
            return None;
        }
        let outcome = sockopt::socket_error(&sock.fd).and_then(|inner| inner);
        match outcome {
            Ok(()) => {
                sock.kind = Kind::Stream;
                Some(Ok(()))
            }
            Err(e) => {
                self.close(id, true);
                Some(Err(e.raw_os_error()))
            }
        }
    }

    /// Listens, and says on which address.
    pub fn listen(
        &mut self,
        id: SocketId,
        at: &SockAddr,
        backlog: u32,
        v6_only: bool,
        replace: bool,
    ) -> rustix::io::Result<SockAddr> {
        let os = addr::to_os(at)?;
        let file = addr::file_of(at);
        let fd = net::socket_with(addr::family(at.family()), SocketType::STREAM, NEW, None)?;
        if file.is_none() {
            sockopt::set_socket_reuseaddr(&fd, true)?;
        }
        if at.family() == Family::V6 {
            sockopt::set_ipv6_v6only(&fd, v6_only)?;
        }
        if replace && let Some(file) = &file {
            remove_socket(file);
        }
        net::bind(&fd, &os)?;
        net::listen(&fd, i32::try_from(backlog.max(LEAST_BACKLOG)).unwrap_or(i32::MAX))?;
        let bound = addr::from_os(net::getsockname(&fd)?).ok_or(Errno::AFNOSUPPORT)?;
        let unix = at.family() == Family::Unix;
        self.insert(id, fd, Kind::Listener, unix)?.file = file;
        Ok(bound)
    }

    /// Takes a connection.
    pub fn accept(&mut self, listener: SocketId, id: SocketId) -> rustix::io::Result<Option<SockAddr>> {
        let sock = self.get(listener).ok_or(Errno::BADF)?;
        let unix = sock.unix;
        let (fd, from) = loop {
            match net::acceptfrom_with(&sock.fd, NEW) {
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                other => break other?,
            }
        };
        if !unix {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        self.insert(id, fd, Kind::Stream, unix)?;
        Ok(from.and_then(addr::from_os))
    }

    /// Makes a datagram socket.
    pub fn open_datagram(&mut self, id: SocketId, family: Family) -> rustix::io::Result<()> {
        let fd = net::socket_with(addr::family(family), SocketType::DGRAM, NEW, None)?;
        if addr::family(family) == AddressFamily::UNIX {
            // A name of the kernel's choice, so that peers can answer.
            net::bind(&fd, &SocketAddrUnix::new_unnamed())?;
        }
        self.insert(id, fd, Kind::Datagram, family == Family::Unix)?;
        Ok(())
    }

    /// Connects a datagram socket, made here if it is new.
    pub fn connect_datagram(&mut self, id: SocketId, to: &SockAddr) -> rustix::io::Result<()> {
        let os = addr::to_os(to)?;
        if self.get(id).is_none() {
            self.open_datagram(id, to.family())?;
        }
        let sock = self.get(id).ok_or(Errno::BADF)?;
        net::connect(&sock.fd, &os)
    }

    /// Sends what must come before anything else. True if the socket broke.
    pub fn preamble(&mut self, id: SocketId, bytes: &Preamble) -> bool {
        let Some(sock) = self.get(id) else { return false };
        sock.out.push_preamble(bytes.as_bytes());
        self.flush(id, 0).is_err()
    }

    /// Writes what is kept, at most `limit` bytes of it besides a preamble. How many bytes of stream data got
    /// away.
    pub fn flush(&mut self, id: SocketId, limit: usize) -> io::Result<usize> {
        let Some(sock) = self.get(id) else { return Ok(0) };
        let mut counted = 0;
        loop {
            let bytes = sock.out.pending_within(limit - counted);
            if bytes.is_empty() {
                break;
            }
            match net::send(&sock.fd, bytes, net::SendFlags::NOSIGNAL) {
                Ok(n) => counted += sock.out.advance(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wait_writable(id)?;
                    break;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(counted)
    }

    /// Writes stream data, as much as the socket takes and at most `limit` bytes. 0 if older bytes wait.
    pub fn write(
        &mut self,
        id: SocketId,
        vecs: &mut IoVecs,
        slices: &[VolatileSlice<'_>],
        limit: usize,
    ) -> io::Result<usize> {
        let Some(sock) = self.get(id).filter(|s| s.out.is_empty()) else { return Ok(0) };
        let mut total = 0;
        let shortened;
        let mut rest = match sys::shorten(slices, limit) {
            None => slices,
            Some(short) => {
                shortened = short;
                &shortened
            }
        };
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(sys::MAX_PIECES));
            let wanted: usize = now.iter().map(|s| s.len()).sum();
            let sent = match sys::send(sock.fd.as_fd(), vecs, now, None) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(e) => return Err(e),
            };
            total += sent;
            if sent < wanted {
                self.wait_writable(id)?;
                break;
            }
            rest = later;
        }
        Ok(total)
    }

    /// Asks for an event when the socket takes bytes again.
    fn wait_writable(&mut self, id: SocketId) -> io::Result<()> {
        // Not through `get`: the epoll is borrowed.
        let entry = self.table.get_mut(id.slot() as usize).and_then(Option::as_mut);
        let Some(sock) = entry.filter(|s| s.id == id && !s.waits_writable) else { return Ok(()) };
        // Modifying looks at the socket anew, so room that appeared meanwhile is not missed.
        let event = EpollEvent::new(interest(true), id.to_bits());
        self.epoll.ctl(ControlOperation::Modify, sock.fd.as_raw_fd(), event)?;
        sock.waits_writable = true;
        Ok(())
    }

    /// Shuts the sending side down.
    pub fn shutdown_write(&mut self, id: SocketId) {
        if let Some(sock) = self.get(id) {
            // Fails only if the peer is gone, which reading finds out.
            let _ = net::shutdown(&sock.fd, net::Shutdown::Write);
        }
    }

    /// Closes.
    pub fn close(&mut self, id: SocketId, abort: bool) {
        let entry = self.table.get_mut(id.slot() as usize);
        let Some(sock) = entry.filter(|s| s.as_ref().is_some_and(|s| s.id == id)).and_then(Option::take)
        else {
            return;
        };
        if sock.kind == Kind::Listener {
            if let Some(file) = &sock.file {
                remove_socket(file);
            }
        } else if abort && !sock.unix {
            // A reset instead of an end.
            let _ = sockopt::set_socket_linger(&sock.fd, Some(Duration::ZERO));
        }
    }

    /// Clears the error of a datagram socket.
    pub fn clear_error(&mut self, id: SocketId) {
        if let Some(sock) = self.get(id) {
            let _ = sockopt::socket_error(&sock.fd);
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let ids: Vec<SocketId> = self.table.iter().flatten().map(|s| s.id).collect();
        for id in ids {
            self.close(id, false);
        }
    }
}

/// Events of a socket.
fn interest(writable: bool) -> EventSet {
    let always = EventSet::IN | EventSet::READ_HANG_UP | EventSet::PRIORITY | EventSet::EDGE_TRIGGERED;
    if writable { always | EventSet::OUT } else { always }
}

/// Removes a socket's file. Anything else of that name stays.
fn remove_socket(file: &std::path::Path) {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::symlink_metadata(file).is_ok_and(|meta| meta.file_type().is_socket()) {
        let _ = std::fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what the muxer keeps (`tests/memory.rs`) and the policy, far below the 4 KiB an idle connection may cost.
    #[test]
    fn a_socket_is_small() {
        let size = size_of::<Option<Sock>>() + super::super::gate::PASSED_SIZE;
        assert!(size <= 1024, "{size} bytes");
    }
}
