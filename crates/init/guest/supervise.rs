//! PID 1's life while the workload runs: reap, listen, stop.

use crate::channel::Channel;
use crate::clock;
use crate::console::{say, trace, with_error};
use crate::control::{Event, Request};
use crate::lease::Dhcp;
use crate::reap::{End, Signal, Supervisor};
use crate::sys::{self, Child, Fd, Poll};

/// How long killed processes may take to disappear, milliseconds.
const LAST_REAP: u64 = 500;

/// Watches over the workload until it has ended.
pub fn until_end(supervisor: Supervisor, channel: Option<&mut Channel>, dhcp: Option<Dhcp>) -> End {
    if channel.is_none() && dhcp.is_none() {
        return reap_only(supervisor);
    }
    match sys::child_events() {
        Ok(events) => Watch { supervisor, channel, dhcp, events }.run(),
        Err(_) => reap_only(supervisor),
    }
}

fn reap_only(mut supervisor: Supervisor) -> End {
    loop {
        reap_one(&mut supervisor, true);
        if let Some(end) = supervisor.end() {
            return end;
        }
    }
}

/// Gives whether there may be more.
fn reap_one(supervisor: &mut Supervisor, block: bool) -> bool {
    match sys::reap(block) {
        Child::Ended(pid, status) => {
            supervisor.reaped(pid, status);
            true
        }
        Child::Running => false,
        Child::None => {
            supervisor.no_children();
            false
        }
    }
}

struct Watch<'a> {
    supervisor: Supervisor,
    channel: Option<&'a mut Channel>,
    dhcp: Option<Dhcp>,
    events: Fd,
}

impl Watch<'_> {
    fn run(mut self) -> End {
        loop {
            // First, because a child may have ended before its signal was blocked.
            while self.supervisor.end().is_none() && reap_one(&mut self.supervisor, false) {}
            if let Some(end) = self.supervisor.end() {
                if end.kill_rest {
                    self.kill_rest();
                }
                return end;
            }
            if let Some(channel) = &mut self.channel {
                channel.flush();
            }
            self.wait();
        }
    }

    fn wait(&mut self) {
        let lease = self.dhcp.as_ref().and_then(Dhcp::deadline);
        let channel = self.channel.as_ref().and_then(|channel| channel.deadline());
        let deadline = [self.supervisor.deadline(), channel, lease].into_iter().flatten().min();
        let timeout = deadline.map(|deadline| deadline.saturating_sub(sys::now()));
        let mut entries = [
            Poll::new(&self.events, Poll::READ),
            self.channel.as_ref().map_or(Poll::nothing(), |channel| channel.poll_entry()),
            self.dhcp.as_ref().map_or(Poll::nothing(), Dhcp::poll_entry),
        ];
        sys::poll(&mut entries, timeout);
        let [children, host, server] = &entries;
        if children.found_anything() {
            self.take_signal();
        }
        self.hear_host(host);
        if let Some(dhcp) = &mut self.dhcp
            && (server.found_anything() || lease.is_some_and(|due| sys::now() >= due))
        {
            dhcp.run();
        }
        if self.supervisor.deadline().is_some() {
            let signal = self.supervisor.tick(sys::now());
            send_signal(&self.supervisor, signal);
        }
    }

    fn hear_host(&mut self, found: &Poll) {
        let Some(channel) = &mut self.channel else { return };
        let (supervisor, mut answers) = (&mut self.supervisor, Answers::default());
        channel.ready(found, |request| answers.handle(request, supervisor));
        answers.send(channel);
    }

    /// Empties the descriptor; at most one SIGCHLD waits there.
    fn take_signal(&self) {
        let mut record = [0; 128];
        let _ = sys::read(&self.events, &mut record);
    }

    /// Kills every other process and waits a moment for them to disappear.
    fn kill_rest(&self) {
        sys::kill(-1, Signal::Kill.number());
        let deadline = sys::now().saturating_add(LAST_REAP);
        loop {
            match sys::reap(false) {
                Child::Ended(..) => {}
                Child::None => return,
                Child::Running => {
                    let left = deadline.saturating_sub(sys::now());
                    if left == 0 {
                        return;
                    }
                    sys::poll(&mut [Poll::new(&self.events, Poll::READ)], Some(left));
                    self.take_signal();
                }
            }
        }
    }
}

fn send_signal(supervisor: &Supervisor, signal: Option<Signal>) {
    if let Some(signal) = signal {
        sys::kill(supervisor.workload(), signal.number());
    }
}

fn set_time(host: u64) {
    let Some(time) = clock::correction(sys::real_time(), host) else { return };
    match sys::set_real_time(time) {
        Ok(()) => trace("the clock is set"),
        Err(why) => say(&with_error("set the clock", why)),
    }
}

/// Answers to one buffer of requests. Of several pings the last is answered: the others are answered by it.
#[derive(Default)]
struct Answers {
    stopping: bool,
    pong: Option<u32>,
}

impl Answers {
    fn handle(&mut self, request: Request, supervisor: &mut Supervisor) {
        match request {
            Request::Stop { grace_ms } => {
                let signal = supervisor.stop(sys::now(), grace_ms);
                send_signal(supervisor, signal);
                self.stopping = true;
            }
            Request::Ping { token } => self.pong = Some(token),
            Request::SetTime { nanoseconds } => set_time(nanoseconds),
            #[allow(
                unreachable_patterns,
                reason = "the enum is non-exhaustive for hosts; here all kinds are known"
            )]
            _ => {}
        }
    }

    fn send(self, channel: &mut Channel) {
        if self.stopping {
            channel.answer(&Event::Stopping);
        }
        if let Some(token) = self.pong {
            channel.answer(&Event::Pong { token });
        }
    }
}
