//! Bytes between guest memory and sockets, as the policy lets them pass.

use std::io;
use std::time::Instant;

use purlin_vmm_core::memory::VolatileSlice;
use rustix::net::{self, RecvFlags, SendFlags, SocketAddrAny};

use super::addr;
use super::host::Host;
use super::sys::{self, IoVecs};
use crate::io::{Preamble, SocketEvent, SocketId};
use crate::wire::SockAddr;

/// Longest datagram there is, and most that is read at a time from a stream that is looked at.
pub(super) const SCRATCH: usize = 64 << 10;

impl Host {
    /// Writes payload of a stream; what does not get away is kept.
    pub fn write(&mut self, now: Instant, socket: SocketId, vecs: &mut IoVecs, slices: &[VolatileSlice<'_>]) {
        let Some(sock) = self.sockets.get(socket) else { return };
        if sock.held {
            return self.hold(now, socket, slices);
        }
        let total = slices.iter().map(|s| s.len()).sum();
        let granted = self.budget(now, socket, total);
        let event = match self.sockets.write(socket, vecs, slices, granted) {
            Ok(n) => {
                self.spent(socket, granted, n);
                self.keep(socket, slices, n);
                if granted < total {
                    self.park_write(socket);
                }
                // A window is far below 4 GiB.
                SocketEvent::Written(n as u32)
            }
            Err(_) => SocketEvent::WriteFailed,
        };
        self.muxer.handle_socket(now, socket, event);
    }

    /// Writes what was kept.
    pub fn flush(&mut self, now: Instant, socket: SocketId) {
        let Some(sock) = self.sockets.get(socket).filter(|s| !s.held) else { return };
        let waiting = sock.out.pending().len();
        let granted = self.budget(now, socket, waiting);
        let event = match self.sockets.flush(socket, granted) {
            Ok(n) => {
                self.spent(socket, granted, n);
                if granted < waiting {
                    self.park_write(socket);
                }
                if n == 0 {
                    return;
                }
                SocketEvent::Written(n as u32)
            }
            Err(_) => SocketEvent::WriteFailed,
        };
        self.muxer.handle_socket(now, socket, event);
    }

    /// Keeps payload until the connection has shown a name it may have.
    fn hold(&mut self, now: Instant, socket: SocketId, slices: &[VolatileSlice<'_>]) {
        self.keep(socket, slices, 0);
        let new: usize = slices.iter().map(|s| s.len()).sum();
        let Some(sock) = self.sockets.get(socket) else { return };
        // The copy that will be sent, not the guest's memory.
        let kept = sock.out.pending();
        let fresh = kept.get(kept.len().saturating_sub(new)..).unwrap_or_default();
        match self.gate.inspect(now, socket, fresh) {
            None => {}
            Some(true) => {
                sock.held = false;
                self.flush(now, socket);
            }
            Some(false) => self.muxer.handle_socket(now, socket, SocketEvent::WriteFailed),
        }
    }

    /// Keeps the bytes behind the first `done` for when the socket takes more.
    fn keep(&mut self, socket: SocketId, slices: &[VolatileSlice<'_>], done: usize) {
        let Some(sock) = self.sockets.get(socket) else { return };
        let mut skip = done;
        for slice in slices {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            let left = slice.len() - skipped;
            if left == 0 {
                continue;
            }
            let Ok(rest) = slice.offset(skipped) else { continue };
            let _ = sock.out.push_with(left, |to| {
                rest.copy_to(to);
                Ok::<(), ()>(())
            });
        }
    }

    /// Sends one datagram. One that does not get away, or is over the limit on bytes, is lost, as datagrams
    /// are.
    pub fn send_datagram(
        &mut self,
        now: Instant,
        socket: SocketId,
        to: Option<&SockAddr>,
        preamble: Option<Preamble>,
        vecs: &mut IoVecs,
        slices: &[VolatileSlice<'_>],
    ) {
        let len = slices.iter().map(|s| s.len()).sum();
        let granted = self.budget(now, socket, len);
        if granted < len {
            return self.spent(socket, granted, 0);
        }
        if let Some(to) = to {
            self.tap_datagrams(socket, to);
        }
        let Some(sock) = self.sockets.get(socket) else { return };
        if let Some(preamble) = preamble {
            if net::send(sock.fd(), preamble.as_bytes(), SendFlags::NOSIGNAL).is_err() {
                // Nothing goes before it. The next datagram brings it again.
                return self.spent(socket, granted, 0);
            }
            self.muxer.handle_socket(now, socket, SocketEvent::PreambleSent);
        }
        let Some(sock) = self.sockets.get(socket) else { return };
        let Ok(to) = to.map(addr::to_os).transpose() else { return };
        let _ = sys::send(sock.fd(), vecs, slices, to.as_ref());
    }

    /// From now on the answers on this socket are read if they may come from a trusted resolver.
    pub fn tap_datagrams(&mut self, socket: SocketId, to: &SockAddr) {
        if to.inet().is_some_and(|to| self.gate.trusts(to))
            && let Some(sock) = self.sockets.get(socket)
        {
            sock.tapped = true;
        }
    }

    /// As `readv(2)` of at most [`SCRATCH`] bytes, by way of memory the guest cannot change, in which the answers of a
    /// resolver are read.
    pub fn read_tapped(
        &mut self,
        now: Instant,
        socket: SocketId,
        slices: &[VolatileSlice<'_>],
    ) -> io::Result<usize> {
        self.scratch.resize(SCRATCH, 0);
        let Some(sock) = self.sockets.get(socket) else { return Ok(0) };
        let room = slices.iter().map(|s| s.len()).sum::<usize>().min(SCRATCH);
        let buffer = self.scratch.get_mut(..room).unwrap_or_default();
        let (n, _) = net::recv(sock.fd(), &mut *buffer, RecvFlags::DONTWAIT)?;
        let got = buffer.get(..n).unwrap_or_default();
        self.gate.observe_stream(now, socket, got);
        scatter(got, slices);
        Ok(n)
    }

    /// As [`sys::receive`], likewise.
    pub fn receive_tapped(
        &mut self,
        now: Instant,
        socket: SocketId,
        slices: &[VolatileSlice<'_>],
    ) -> io::Result<(usize, Option<SocketAddrAny>)> {
        self.scratch.resize(SCRATCH, 0);
        let Some(sock) = self.sockets.get(socket) else { return Ok((0, None)) };
        let (_, n, from) = net::recvfrom(sock.fd(), &mut *self.scratch, RecvFlags::DONTWAIT)?;
        let got = self.scratch.get(..n).unwrap_or_default();
        let name = from.clone().and_then(addr::from_os).and_then(|name| name.inet());
        if let Some(name) = name {
            self.gate.observe_datagram(now, name, got);
        }
        scatter(got, slices);
        Ok((n, from))
    }

    /// How many of `want` bytes the limit lets pass. Unix sockets are not limited: they do not leave the host.
    pub fn budget(&mut self, now: Instant, socket: SocketId, want: usize) -> usize {
        match self.sockets.get(socket) {
            Some(sock) if !sock.unix => self.gate.take(now, want),
            _ => want,
        }
    }

    /// Of the bytes the limit let pass, so many did.
    pub fn spent(&mut self, socket: SocketId, granted: usize, passed: usize) {
        if self.sockets.get(socket).is_some_and(|sock| !sock.unix) {
            self.gate.give_back(granted.saturating_sub(passed));
        }
    }

    /// The socket is read again when the limit lets bytes pass.
    pub fn park_read(&mut self, socket: SocketId) {
        self.park(socket, |sock| &mut sock.parked_read);
    }

    /// What is kept for the socket is written when the limit lets bytes pass.
    fn park_write(&mut self, socket: SocketId) {
        self.park(socket, |sock| &mut sock.parked_write);
    }

    fn park(&mut self, socket: SocketId, flag: impl FnOnce(&mut super::sockets::Sock) -> &mut bool) {
        let Some(sock) = self.sockets.get(socket) else { return };
        let known = sock.parked_read || sock.parked_write;
        *flag(sock) = true;
        if !known {
            self.parked.push_back(socket);
        }
    }

    /// Goes on with those that waited for the limit on bytes, if it is time.
    pub fn wake_parked(&mut self, now: Instant) {
        if self.gate.retry_at.is_none_or(|at| at > now) {
            return;
        }
        self.gate.retry_at = None;
        for socket in std::mem::take(&mut self.parked) {
            let Some(sock) = self.sockets.get(socket) else { continue };
            let read = std::mem::take(&mut sock.parked_read);
            if std::mem::take(&mut sock.parked_write) {
                self.flush(now, socket);
            }
            if read {
                self.muxer.handle_socket(now, socket, SocketEvent::Readable);
            }
        }
    }
}

/// Copies bytes into pieces of guest memory, as far as they hold them.
fn scatter(bytes: &[u8], slices: &[VolatileSlice<'_>]) {
    let mut rest = bytes;
    for slice in slices {
        let (now, later) = rest.split_at(rest.len().min(slice.len()));
        slice.copy_from(now);
        rest = later;
    }
}
