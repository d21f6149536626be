//! One client: what it sent and was not looked at yet, and what it has not taken yet.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::lines::{Line, Lines};

/// Requests of one client that are being worked on at a time; it is not listened to meanwhile.
const MAX_PENDING: usize = 8;
/// A client that has more than this to take is not listened to.
const MAX_OUTGOING: usize = 32 << 10;
/// Bytes taken per look.
const READ: usize = 4096;

pub(super) struct Connection {
    socket: OwnedFd,
    lines: Lines,
    outgoing: VecDeque<u8>,
    /// The client has sent everything.
    at_end: bool,
    broken: bool,
    pub pending: usize,
}

impl Connection {
    /// `socket` does not block.
    pub fn new(socket: OwnedFd) -> Self {
        Connection {
            socket,
            lines: Lines::default(),
            outgoing: VecDeque::new(),
            at_end: false,
            broken: false,
            pending: 0,
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn takes_more(&self) -> bool {
        !self.broken && self.pending < MAX_PENDING && self.outgoing.len() <= MAX_OUTGOING
    }

    /// True if the socket is to be read when it has something.
    pub fn wants_to_read(&self) -> bool {
        self.takes_more() && !self.at_end
    }

    /// True if the socket is to be written when it takes something.
    pub fn wants_to_write(&self) -> bool {
        !self.broken && !self.outgoing.is_empty()
    }

    /// True if nothing is left to do for the client.
    pub fn is_over(&self) -> bool {
        self.broken || (self.at_end && self.pending == 0 && self.outgoing.is_empty())
    }

    /// Takes what the client sent, once.
    pub fn read(&mut self) {
        let mut bytes = [0; READ];
        let room = self.lines.room().min(READ);
        let Some(space) = bytes.get_mut(..room).filter(|space| !space.is_empty()) else { return };
        match recv(&self.socket, space, RecvFlags::DONTWAIT).map(|(count, _)| count) {
            Ok(0) => self.at_end = true,
            Ok(count) => self.lines.push(bytes.get(..count).unwrap_or_default()),
            Err(e) => self.failed(e.into()),
        }
    }

    /// The next line to look at now.
    pub fn next_line(&mut self) -> Option<Line> {
        if !self.takes_more() {
            return None;
        }
        self.lines.next().or_else(|| if self.at_end { self.lines.finish() } else { None })
    }

    /// Sends a line, or as much of it as the client takes now; the rest follows by [`Connection::write`].
    pub fn send(&mut self, line: &str) {
        self.outgoing.extend(line.as_bytes());
        self.outgoing.push_back(b'\n');
        self.write();
    }

    /// Sends what the client takes now.
    pub fn write(&mut self) {
        while self.wants_to_write() {
            let (bytes, _) = self.outgoing.as_slices();
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(0) => return,
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(e) => match io::Error::from(e) {
                    e if e.kind() == ErrorKind::Interrupted => {}
                    e => return self.failed(e),
                },
            }
        }
    }

    fn failed(&mut self, e: io::Error) {
        self.broken = !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
    }
}
