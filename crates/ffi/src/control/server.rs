//! The thread behind a control socket. It never waits for the machine or for a client.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, send};
use serde_json::{Value, json};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::connection::Connection;
use super::lines::Line;
use super::request::{Call, Code, Id, Refusal, Request, parse};
use super::socket::Socket;
use super::{MAX_CLIENTS, MAX_LINE, reply};
use crate::machine::after;
use crate::vm::{Command, Phase, Remote, Reply, VmError, VmExit};

/// How long clients get to take their last lines.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long nobody is accepted after the host refused a descriptor.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

const LISTENER: u64 = 0;
const WAKE: u64 = 1;
const FIRST_CLIENT: u64 = 2;

/// What the thread is told.
enum Note {
    /// The answer to a client's request, as a line.
    Answer { client: u64, line: String },
    /// The machine is over; how it ended, if it ran.
    End(Option<VmExit>),
}

/// Tells the thread, from any other.
#[derive(Clone)]
struct Notes {
    queue: Sender<Note>,
    wake: Arc<EventFd>,
}

impl Notes {
    fn send(&self, note: Note) {
        if self.queue.send(note).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// A control socket that is served.
pub(crate) struct Server {
    notes: Notes,
    thread: JoinHandle<()>,
}

impl Server {
    /// Makes the socket and its thread.
    pub fn start(path: &Path, remote: Remote) -> io::Result<Self> {
        let socket = Socket::bind(path)?;
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let epoll = Epoll::new()?;
        let watch =
            |fd: RawFd, data| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, data));
        watch(socket.fd().as_raw_fd(), LISTENER)?;
        watch(wake.as_raw_fd(), WAKE)?;
        let (queue, inbox) = channel();
        let notes = Notes { queue, wake };
        let worker = Worker {
            socket,
            epoll,
            remote,
            notes: notes.clone(),
            inbox,
            clients: BTreeMap::new(),
            next: FIRST_CLIENT,
            accept_again: None,
            farewell: None,
        };
        let thread = std::thread::Builder::new().name("purlin-control".to_owned());
        Ok(Server { notes, thread: thread.spawn(move || worker.run())? })
    }

    /// Tells clients how the machine ended, if it ran, and removes the socket.
    pub fn finish(self, exit: Option<VmExit>) {
        self.notes.send(Note::End(exit));
        if self.thread.join().is_err() {
            log::error!("the thread of a control socket panicked");
        }
    }
}

struct Worker {
    socket: Socket,
    epoll: Epoll,
    remote: Remote,
    notes: Notes,
    inbox: Receiver<Note>,
    clients: BTreeMap<u64, Connection>,
    next: u64,
    /// Until when nobody is accepted.
    accept_again: Option<Instant>,
    /// Until when clients may take their last lines.
    farewell: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        let mut ready = [EpollEvent::default(); 16];
        while !self.is_over() {
            let count = match self.epoll.wait(self.timeout(), &mut ready) {
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => 0,
                Err(e) => return log::error!("a control socket is not served any more: {e}"),
            };
            for event in ready.iter().take(count) {
                match event.data() {
                    LISTENER => self.accept(),
                    WAKE => self.hear(),
                    client => self.serve(client, event.event_set()),
                }
            }
            if self.accept_again.is_some_and(|again| again <= Instant::now()) {
                self.accept_again = None;
                self.watch_listener(EventSet::IN);
            }
        }
    }

    fn is_over(&self) -> bool {
        let said = self.clients.values().all(|client| !client.wants_to_write());
        self.farewell.is_some_and(|end| said || end <= Instant::now())
    }

    /// Milliseconds until something is due, rounded up; -1 for never.
    fn timeout(&self) -> i32 {
        let Some(next) = self.accept_again.into_iter().chain(self.farewell).min() else { return -1 };
        let left = next.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    fn accept(&mut self) {
        let socket = match self.socket.accept() {
            Ok(socket) => socket,
            Err(e) => {
                let usual = [ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::ConnectionAborted];
                if !usual.contains(&e.kind()) {
                    self.accept_again = Some(after(REFUSED_PAUSE));
                    self.watch_listener(EventSet::empty());
                }
                return;
            }
        };
        if self.clients.len() >= MAX_CLIENTS || self.farewell.is_some() {
            let text = format!("{MAX_CLIENTS} clients are connected");
            let line = reply::refused(&Refusal { id: Id::None, code: Code::TooManyClients, text });
            // Whether it gets there or not.
            let _ = send(&socket, format!("{line}\n").as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            return;
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let event = EpollEvent::new(EventSet::IN, number);
        if self.epoll.ctl(ControlOperation::Add, socket.as_raw_fd(), event).is_ok() {
            let mut client = Connection::new(socket);
            client.send(&reply::hello());
            self.clients.insert(number, client);
            self.go_on(number);
        }
    }

    fn hear(&mut self) {
        let _ = self.notes.wake.read();
        while let Ok(note) = self.inbox.try_recv() {
            match note {
                Note::Answer { client, line } => {
                    if let Some(connection) = self.clients.get_mut(&client) {
                        connection.pending = connection.pending.saturating_sub(1);
                        connection.send(&line);
                        self.go_on(client);
                    }
                }
                Note::End(exit) => {
                    self.farewell = Some(after(FAREWELL));
                    if let Some(exit) = exit {
                        let line = reply::ended(&exit);
                        self.clients.values_mut().for_each(|client| client.send(&line));
                    }
                    let clients: Vec<u64> = self.clients.keys().copied().collect();
                    clients.into_iter().for_each(|client| self.go_on(client));
                }
            }
        }
    }

    fn serve(&mut self, number: u64, ready: EventSet) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if ready.contains(EventSet::OUT) {
            client.write();
        }
        if ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR) && client.wants_to_read() {
            client.read();
        } else if ready.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            // Gone, and nothing of it is waited for.
            return self.forget(number);
        }
        self.go_on(number);
    }

    /// Looks at what a client has sent, as far as it may send, and watches it for what it wants next.
    fn go_on(&mut self, number: u64) {
        while let Some(client) = self.clients.get_mut(&number)
            && let Some(line) = client.next_line()
        {
            match self.answer(number, &line) {
                Some(answer) => {
                    if let Some(client) = self.clients.get_mut(&number) {
                        client.send(&answer);
                    }
                }
                None => {
                    if let Some(client) = self.clients.get_mut(&number) {
                        client.pending = client.pending.saturating_add(1);
                    }
                }
            }
        }
        let Some(client) = self.clients.get(&number) else { return };
        if client.is_over() {
            return self.forget(number);
        }
        let read = if client.wants_to_read() { EventSet::IN } else { EventSet::empty() };
        let write = if client.wants_to_write() { EventSet::OUT } else { EventSet::empty() };
        let event = EpollEvent::new(read | write, number);
        if self.epoll.ctl(ControlOperation::Modify, client.fd().as_raw_fd(), event).is_err() {
            self.forget(number);
        }
    }

    /// Closing takes it out of the epoll set.
    fn forget(&mut self, number: u64) {
        self.clients.remove(&number);
    }

    /// The answer to a line; none if it comes later.
    fn answer(&self, client: u64, line: &Line) -> Option<String> {
        let Line::Text(line) = line else {
            let text = format!("a line has at most {MAX_LINE} bytes");
            return Some(reply::refused(&Refusal { id: Id::None, code: Code::TooLong, text }));
        };
        match parse(line) {
            Ok(request) => self.obey(client, request),
            Err(refusal) => Some(reply::refused(&refusal)),
        }
    }

    fn obey(&self, client: u64, request: Request) -> Option<String> {
        let Request { id, call } = request;
        let nothing = |(): ()| json!({});
        let posted = match call {
            Call::Status => {
                let status = reply::status(&self.remote.phase(), self.remote.vcpus, self.remote.memory_mib);
                return Some(reply::done(&id, &status));
            }
            Call::Kill => {
                self.remote.kill();
                Ok(())
            }
            Call::Stop { grace } => self.unless_ended(|remote| remote.stop(grace)),
            Call::CtrlAltDel => self.unless_ended(Remote::ctrl_alt_del),
            Call::Pause => return self.later(client, id, Command::Pause, nothing),
            Call::Resume => return self.later(client, id, Command::Resume, nothing),
            Call::Stats => return self.later(client, id, Command::Stats, |stats| reply::stats(&stats)),
        };
        Some(result(id, posted.map(nothing)))
    }

    fn unless_ended(&self, tell: impl FnOnce(&Remote) -> Result<(), VmError>) -> Result<(), VmError> {
        match self.remote.phase() {
            Phase::Ended(_) => Err(VmError::Ended),
            _ => tell(&self.remote),
        }
    }

    /// Asks the machine, whose answer becomes a note.
    fn later<T: 'static>(
        &self,
        client: u64,
        id: Id,
        command: impl FnOnce(Reply<T>) -> Command,
        value: impl FnOnce(T) -> Value + Send + 'static,
    ) -> Option<String> {
        let (notes, own_id) = (self.notes.clone(), id.clone());
        let asked = self.remote.ask(command, move |answer| {
            notes.send(Note::Answer { client, line: result(own_id, answer.map(value)) });
        });
        asked.err().map(|e| result(id, Err(e)))
    }

    fn watch_listener(&self, events: EventSet) {
        let fd = self.socket.fd().as_fd().as_raw_fd();
        if let Err(e) = self.epoll.ctl(ControlOperation::Modify, fd, EpollEvent::new(events, LISTENER)) {
            log::error!("a control socket takes no more clients: {e}");
        }
    }
}

fn result(id: Id, result: Result<Value, VmError>) -> String {
    match result {
        Ok(value) => reply::done(&id, &value),
        Err(e) => reply::refused(&reply::refusal(id, &e)),
    }
}
