//! How a virtual machine ended.

use std::fmt;

/// Parts of setting a guest up.
pub use purlin_init::control::Stage as SetupStage;

/// Exit code of a machine whose workload never ran or left no code.
pub(crate) const CODE_NO_STATUS: i32 = 125;
/// Exit code of a machine that was killed: 128 + SIGKILL.
pub(crate) const CODE_KILLED: i32 = 137;

/// The end of a virtual machine.
///
/// | what happened | `code` | `reason` |
/// |---|---|---|
/// | the workload exited with status *n* | *n* (0–255) | [`Exited`](ExitReason::Exited) |
/// | the workload was ended by signal *s* | 128 + *s* | [`Exited`](ExitReason::Exited) |
/// | the host asked it to stop, and it did | its status, often 143 or 137 | [`Stopped`](ExitReason::Stopped) |
/// | the program was not found | 127 | [`SetupFailed`](ExitReason::SetupFailed) |
/// | the program cannot be executed | 126 | [`SetupFailed`](ExitReason::SetupFailed) |
/// | the guest could not be set up | 125 | [`SetupFailed`](ExitReason::SetupFailed) |
/// | the guest restarted without a status: kernel panic, lost init, `reboot` | 125 | [`GuestReset`](ExitReason::GuestReset) |
/// | the guest powered off through ACPI without a status | 125 | [`PoweredOff`](ExitReason::PoweredOff) |
/// | the guest powered off otherwise or halted without a status | 125 | [`GuestHalted`](ExitReason::GuestHalted) |
/// | a processor met a triple fault without a status: a crash, or a restart | 125 | [`TripleFault`](ExitReason::TripleFault) |
/// | a processor could not go on (KVM error), or a thread of this library panicked or could not | 125 | [`Failed`](ExitReason::Failed) |
/// | the host asked it to stop, it did not in time, and was killed | 137 | [`StopTimedOut`](ExitReason::StopTimedOut) |
/// | the host killed it | 137 | [`Killed`](ExitReason::Killed) |
///
/// A status the guest reported counts whatever happened afterwards. 0 therefore always means that the
/// workload itself exited with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmExit {
    /// An exit status, 0 to 255 unless the guest reported something else.
    pub code: i32,
    /// What happened.
    pub reason: ExitReason,
}

/// Why a virtual machine ended; see the table at [`VmExit`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// The workload ended.
    Exited,
    /// The workload ended after [`Vm::stop`](crate::Vm::stop).
    Stopped,
    /// The guest did not end in time after [`Vm::stop`](crate::Vm::stop) and was killed.
    StopTimedOut,
    /// The workload could not be started; what the guest's init says of it.
    SetupFailed(SetupFailure),
    /// The guest restarted without reporting a status.
    GuestReset,
    /// The guest powered off through ACPI without reporting a status, as a system with an init of its own does when it is
    /// done.
    PoweredOff,
    /// Every processor of the guest is halted for good.
    GuestHalted,
    /// A processor met a fault while it handled faults, which resets a PC: a crash, or how some kernels restart.
    TripleFault,
    /// A processor could not go on.
    Failed(String),
    /// The host ended it.
    Killed,
}

/// Why a workload could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetupFailure {
    /// What part of the setup failed.
    pub stage: SetupStage,
    /// The error number of the guest's system call, if it was one.
    pub errno: Option<i32>,
    /// What the guest's init says of it. Text of the guest, at most 512 bytes.
    pub message: String,
}

#[cfg(test)]
impl SetupFailure {
    pub(crate) fn new(message: &str) -> Self {
        SetupFailure { stage: SetupStage::Internal, errno: None, message: message.to_owned() }
    }
}

impl fmt::Display for SetupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.stage, self.message)?;
        match self.errno {
            Some(errno) => write!(f, ": {}", std::io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Exited => f.write_str("the workload ended"),
            ExitReason::Stopped => f.write_str("the workload was stopped"),
            ExitReason::StopTimedOut => f.write_str("the guest did not stop in time and was killed"),
            ExitReason::SetupFailed(why) => write!(f, "the workload was not started: {why}"),
            ExitReason::GuestReset => {
                f.write_str("the guest restarted without a status (kernel panic, lost init)")
            }
            ExitReason::PoweredOff => f.write_str("the guest powered off without a status"),
            ExitReason::GuestHalted => f.write_str("the guest halted without a status"),
            ExitReason::TripleFault => f.write_str("the guest ended in a triple fault, without a status"),
            ExitReason::Failed(why) => write!(f, "the guest cannot go on: {why}"),
            ExitReason::Killed => f.write_str("the guest was killed"),
        }
    }
}

impl VmExit {
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        VmExit { code: CODE_NO_STATUS, reason: ExitReason::Failed(why.into()) }
    }
}
