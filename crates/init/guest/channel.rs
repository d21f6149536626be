//! The guest's end of the control channel. Nothing here ever waits for the host.

use core::ffi::CStr;

use crate::control::{Decoder, Event, Outbox, Request};
use crate::errno::Errno;
use crate::sys::{self, Fd, Poll, Result, flag};

/// First and longest pause before a channel whose host is absent is looked at again, milliseconds. Such a channel
/// reports a hang-up without end, so it must not be polled meanwhile.
const PAUSE: core::ops::RangeInclusive<u64> = 10..=1000;

/// How long the last words may take, milliseconds, if the channel is full.
const LAST_WORDS: u64 = 100;

pub struct Channel {
    fd: Fd,
    decoder: Decoder,
    outbox: Outbox,
    pause: u64,
    paused_until: Option<u64>,
}

impl Channel {
    /// Opens a port's device node.
    pub fn open(node: &CStr) -> Result<Self> {
        sys::open(node, flag::READ_WRITE | flag::NONBLOCK).map(Self::new)
    }

    /// Takes over a descriptor that PID 1 was started with.
    pub fn inherited(number: i32) -> Result<Self> {
        let fd = Fd::inherited(number);
        sys::adopt(&fd)?;
        Ok(Self::new(fd))
    }

    fn new(fd: Fd) -> Self {
        Self { fd, decoder: Decoder::new(), outbox: Outbox::new(), pause: *PAUSE.start(), paused_until: None }
    }

    /// Queues an event; it is dropped if the host has left too many unread.
    pub fn send(&mut self, event: &Event) {
        self.outbox.push(&event.encode());
    }

    /// Queues the answer to a request.
    pub fn answer(&mut self, event: &Event) {
        self.outbox.push_answer(&event.encode());
    }

    /// Writes what the host takes now.
    pub fn flush(&mut self) {
        while !self.outbox.pending().is_empty() {
            match sys::write(self.fd.number(), self.outbox.pending()) {
                Ok(count @ 1..) => self.outbox.written(count),
                Ok(0) | Err(Errno::AGAIN) => return,
                // Nobody will ever read it.
                Err(_) => self.outbox = Outbox::new(),
            }
        }
    }

    /// Writes what is queued before the machine restarts, giving a slow host a moment.
    pub fn flush_last(&mut self) {
        self.flush();
        if !self.outbox.pending().is_empty() {
            sys::poll(&mut [Poll::new(&self.fd, Poll::WRITE)], Some(LAST_WORDS));
            self.flush();
        }
    }

    /// What to wait for now.
    pub fn poll_entry(&self) -> Poll {
        let write = if self.outbox.pending().is_empty() { 0 } else { Poll::WRITE };
        if self.paused_until.is_some() { Poll::nothing() } else { Poll::new(&self.fd, Poll::READ | write) }
    }

    /// When a paused channel wants to be looked at again.
    pub fn deadline(&self) -> Option<u64> {
        self.paused_until
    }

    /// Acts on what was found, and hands the host's requests to `handle`.
    pub fn ready(&mut self, found: &Poll, handle: impl FnMut(Request)) {
        if self.paused_until.is_some_and(|until| sys::now() >= until) {
            self.paused_until = None;
        }
        if !found.found_anything() {
            return;
        }
        let connected =
            if found.found(Poll::READ) { self.receive(handle) } else { !found.found(Poll::HANG_UP) };
        if connected {
            self.pause = *PAUSE.start();
        } else {
            self.paused_until = Some(sys::now().saturating_add(self.pause));
            self.pause = self.pause.saturating_mul(2).min(*PAUSE.end());
        }
    }

    /// Reads what is there, at most one buffer so that a flood cannot hold up the rest. False at the end of the stream.
    fn receive(&mut self, mut handle: impl FnMut(Request)) -> bool {
        let mut buffer = [0; 512];
        let length = match sys::read(&self.fd, &mut buffer) {
            Ok(length) => length,
            Err(why) => return why == Errno::AGAIN || why == Errno::INTR,
        };
        let mut input = buffer.get(..length).unwrap_or_default();
        while let Some(frame) = self.decoder.next(&mut input) {
            if let Some(request) = Request::decode(frame) {
                handle(request);
            }
        }
        length > 0
    }
}
