//! The vCPU thread as a state machine, without the thread.
//!
//! The thread starts paused, in boot and in restore alike; the first resume is the one that starts it.

/// What a vCPU thread is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VcpuCommand {
    /// Leave the guest and stay out. Acknowledged once registers are complete.
    Pause,
    /// Enter the guest.
    Resume,
    /// Say whether the vCPU is halted with interrupts off, so that nothing will ever wake it.
    QueryParked,
    /// End the thread.
    Finish,
}

/// Where a vCPU thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum VcpuState {
    Paused,
    Running,
    /// The vCPU met a final exit (shutdown, error); it will not run again.
    Ended,
    /// The thread returns.
    Finished,
}

/// What the thread does about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Ack,
    /// Look at the vCPU and answer.
    Parked,
}

impl VcpuState {
    /// Every command is answered in every state: nobody waits for a thread that has nothing to say.
    ///
    /// `Pause` reaches a running thread only after `KVM_RUN` returned EINTR, by which time the kernel has
    /// completed the port or MMIO read in flight (Linux, Documentation/virt/kvm/api.rst, "immediate_exit").
    pub(super) fn on(self, command: VcpuCommand) -> (VcpuState, Reply) {
        use VcpuCommand::{Finish, Pause, QueryParked, Resume};
        use VcpuState::{Ended, Finished, Paused, Running};
        match (self, command) {
            (state, QueryParked) => (state, Reply::Parked),
            (_, Finish) | (Finished, _) => (Finished, Reply::Ack),
            (Ended, _) => (Ended, Reply::Ack),
            (Paused | Running, Pause) => (Paused, Reply::Ack),
            (Paused | Running, Resume) => (Running, Reply::Ack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VcpuCommand::*;
    use super::VcpuState::*;
    use super::*;

    #[test]
    fn transition_matrix() {
        let table = [
            (Paused, [Paused, Running, Paused, Finished]),
            (Running, [Paused, Running, Running, Finished]),
            (Ended, [Ended, Ended, Ended, Finished]),
            (Finished, [Finished, Finished, Finished, Finished]),
        ];
        for (from, to) in table {
            for (command, want) in [Pause, Resume, QueryParked, Finish].into_iter().zip(to) {
                let (next, reply) = from.on(command);
                assert_eq!(next, want, "{from:?} on {command:?}");
                assert_eq!(reply == Reply::Parked, command == QueryParked);
            }
        }
    }
}
