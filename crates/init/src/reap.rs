//! What PID 1 does about the processes below it: when to signal, when the machine is done, and with which code.

use crate::abi::EXIT_SETUP;

/// A process id.
pub type Pid = i32;

/// How long a killed workload may take to disappear before the machine restarts regardless, milliseconds. A process
/// in an uninterruptible wait, for a file system that no longer answers, never disappears.
pub const KILL_WAIT_MS: u64 = 2000;

/// A signal that PID 1 sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Signal {
    /// The signal's number.
    pub const fn number(self) -> i32 {
        match self {
            Self::Terminate => 15,
            Self::Kill => 9,
        }
    }
}

/// The end of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code to report.
    pub code: i32,
    /// Whether remaining processes are to be killed first: the host asked for a stop.
    pub kill_rest: bool,
}

/// The exit code that a `wait` status stands for: the process's own, or 128 + the signal that ended it. `None` if the
/// process has not ended.
pub fn exit_code(status: i32) -> Option<i32> {
    let signal = status & 0x7f;
    match signal {
        0 => Some((status >> 8) & 0xff),
        0x7f => None,
        _ => Some(128 + signal),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// SIGTERM was sent; SIGKILL follows at that time.
    Terminating {
        until: u64,
    },
    /// SIGKILL was sent; at that time the workload is given up.
    Killing {
        until: u64,
    },
}

/// Watches over one workload. Pure: told of children, requests and the time (milliseconds of any clock that does not go
/// back), it says what to do.
#[derive(Clone, Debug)]
pub struct Supervisor {
    workload: Pid,
    state: State,
    code: Option<i32>,
}

impl Supervisor {
    /// Watches the process `workload`, which runs.
    pub fn new(workload: Pid) -> Self {
        Self { workload, state: State::Running, code: None }
    }

    /// The workload's process id.
    pub fn workload(&self) -> Pid {
        self.workload
    }

    /// A child was reaped. Other children than the workload are orphans it left behind: they need no more than that.
    pub fn reaped(&mut self, pid: Pid, status: i32) {
        if pid == self.workload && self.code.is_none() {
            self.code = exit_code(status);
        }
    }

    /// There are no children at all, which can only mean that the workload's end was missed.
    pub fn no_children(&mut self) {
        self.code.get_or_insert(EXIT_SETUP);
    }

    /// The host asks for a stop. Gives the signal to send to the workload now.
    pub fn stop(&mut self, now: u64, grace_ms: u32) -> Option<Signal> {
        let asked = now.saturating_add(u64::from(grace_ms));
        match self.state {
            State::Running => {
                self.state = State::Terminating { until: asked };
                Some(Signal::Terminate)
            }
            State::Terminating { until } => {
                self.state = State::Terminating { until: until.min(asked) };
                None
            }
            State::Killing { .. } => None,
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Running => None,
            State::Terminating { until } | State::Killing { until } => Some(until),
        }
    }

    /// Time has passed. Gives the signal to send to the workload now.
    pub fn tick(&mut self, now: u64) -> Option<Signal> {
        match self.state {
            State::Terminating { until } if now >= until => {
                self.state = State::Killing { until: now.saturating_add(KILL_WAIT_MS) };
                Some(Signal::Kill)
            }
            State::Killing { until } if now >= until => {
                self.code.get_or_insert(128 + Signal::Kill.number());
                None
            }
            _ => None,
        }
    }

    /// Whether the workload's life is over.
    pub fn end(&self) -> Option<End> {
        Some(End { code: self.code?, kill_rest: self.state != State::Running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses() {
        let table: [(i32, Option<i32>); 8] = [
            (0x0000, Some(0)),
            (0x0700, Some(7)),
            (0xff00, Some(255)),
            (0x0009, Some(137)),
            (0x000f, Some(143)),
            (0x008b, Some(139)), // SIGSEGV with a core file
            (0x137f, None),      // stopped
            (0xffff, None),      // continued
        ];
        for (status, code) in table {
            assert_eq!(exit_code(status), code, "{status:#x}");
        }
    }

    #[test]
    fn the_workload_decides_the_code_and_orphans_do_not() {
        let mut supervisor = Supervisor::new(2);
        supervisor.reaped(3, 0x0100);
        assert_eq!(supervisor.end(), None);
        supervisor.reaped(2, 0x137f);
        assert_eq!(supervisor.end(), None);
        supervisor.reaped(2, 0x0700);
        supervisor.no_children();
        assert_eq!(supervisor.end(), Some(End { code: 7, kill_rest: false }));
    }

    #[test]
    fn a_missed_end_is_reported_as_a_failure() {
        let mut supervisor = Supervisor::new(2);
        supervisor.no_children();
        assert_eq!(supervisor.end(), Some(End { code: 125, kill_rest: false }));
    }

    #[test]
    fn a_stop_terminates_then_kills_then_gives_up() {
        let mut supervisor = Supervisor::new(2);
        assert_eq!(supervisor.deadline(), None);
        assert_eq!(supervisor.stop(100, 50), Some(Signal::Terminate));
        assert_eq!(supervisor.deadline(), Some(150));
        assert_eq!(supervisor.tick(149), None);
        assert_eq!(supervisor.tick(150), Some(Signal::Kill));
        assert_eq!(supervisor.tick(151), None);
        assert_eq!(supervisor.deadline(), Some(150 + KILL_WAIT_MS));
        assert_eq!(supervisor.end(), None);
        assert_eq!(supervisor.tick(150 + KILL_WAIT_MS), None);
        assert_eq!(supervisor.end(), Some(End { code: 137, kill_rest: true }));
    }

    #[test]
    fn a_second_stop_can_only_shorten_the_grace() {
        let mut supervisor = Supervisor::new(2);
        supervisor.stop(0, 1000);
        assert_eq!(supervisor.stop(10, 5000), None);
        assert_eq!(supervisor.deadline(), Some(1000));
        assert_eq!(supervisor.stop(20, 0), None);
        assert_eq!(supervisor.deadline(), Some(20));
    }

    #[test]
    fn a_workload_that_obeys_gives_its_own_code() {
        let mut supervisor = Supervisor::new(2);
        supervisor.stop(0, 1000);
        supervisor.reaped(2, 0x0300);
        assert_eq!(supervisor.end(), Some(End { code: 3, kill_rest: true }));
    }

    #[derive(Clone, Debug)]
    enum Input {
        Reaped(Pid, i32),
        Stop(u32),
        Wait(u16),
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            (1..5, any::<i32>()).prop_map(|(pid, status)| Input::Reaped(pid, status)),
            any::<u32>().prop_map(Input::Stop),
            any::<u16>().prop_map(Input::Wait),
        ]
    }

    proptest! {
        #[test]
        fn each_signal_is_sent_once_in_order_and_the_code_never_changes(inputs in proptest::collection::vec(input(), 0..60)) {
            let mut supervisor = Supervisor::new(2);
            let (mut now, mut sent, mut end) = (0, alloc::vec::Vec::new(), None);
            for input in inputs {
                match input {
                    Input::Reaped(pid, status) => supervisor.reaped(pid, status),
                    Input::Stop(grace) => sent.extend(supervisor.stop(now, grace)),
                    Input::Wait(time) => {
                        now += u64::from(time);
                        sent.extend(supervisor.tick(now));
                    }
                }
                if let Some(before) = end {
                    prop_assert_eq!(supervisor.end().map(|end| end.code), Some(before));
                }
                end = supervisor.end().map(|end| end.code);
            }
            let order = [Signal::Terminate, Signal::Kill];
            prop_assert!(order.starts_with(&sent));
        }

        #[test]
        fn a_stop_always_ends(grace: u32) {
            let mut supervisor = Supervisor::new(2);
            supervisor.stop(0, grace);
            for _ in 0..2 {
                let deadline = supervisor.deadline().unwrap();
                supervisor.tick(deadline);
            }
            prop_assert_eq!(supervisor.end(), Some(End { code: 137, kill_rest: true }));
        }
    }
}
