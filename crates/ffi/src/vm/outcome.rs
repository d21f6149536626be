//! From what was observed to how the machine ended. Pure.

use std::io;

use purlin_init::control::Event;
use purlin_vmm_core::kvm::VcpuEnd;

use super::exit::{CODE_KILLED, CODE_NO_STATUS, ExitReason, SetupFailure, VmExit};

/// What made the machine end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The reset line.
    Reset,
    /// The guest powered off.
    Off,
    /// Processors halted for good.
    Halted,
    /// A processor ended.
    Vcpu(VcpuEnd),
    /// A thread of devices panicked or could not go on.
    ThreadFailed(String),
    /// The host.
    Killed,
    /// The host, because the guest did not end in time.
    TimedOut,
}

/// What is known by then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Status reported through the control channel or the exit code call.
    pub code: Option<i32>,
    /// Why the workload was not started.
    pub setup_failed: Option<SetupFailure>,
    /// Its init has spoken: the guest has booted.
    pub booted: bool,
    /// The workload runs, and init listens.
    pub started: bool,
    /// The host asked it to stop.
    pub stop_requested: bool,
    /// Why this host cannot run guests; looked for only if KVM gave up.
    pub host: Option<String>,
}

impl Facts {
    /// Remembers what the guest's init says. The last word counts.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Hello { .. } => self.booted = true,
            Event::Started { .. } => self.started = true,
            Event::SetupFailed { stage, errno, message } => {
                let errno = errno.map(|errno| errno.0);
                self.setup_failed = Some(SetupFailure { stage, errno, message });
            }
            Event::Exited { code } => self.code = Some(code),
            _ => {}
        }
    }
}

pub(super) fn outcome(facts: Facts, end: End) -> VmExit {
    let Facts { code, setup_failed, stop_requested, host, .. } = facts;
    if let Some(why) = setup_failed {
        return VmExit { code: code.unwrap_or(CODE_NO_STATUS), reason: ExitReason::SetupFailed(why) };
    }
    if let Some(code) = code {
        let reason = if stop_requested { ExitReason::Stopped } else { ExitReason::Exited };
        return VmExit { code, reason };
    }
    let reason = match end {
        End::Killed => return VmExit { code: CODE_KILLED, reason: ExitReason::Killed },
        End::TimedOut => return VmExit { code: CODE_KILLED, reason: ExitReason::StopTimedOut },
        End::Reset | End::Vcpu(VcpuEnd::SystemEvent(_)) => ExitReason::GuestReset,
        End::Off => ExitReason::PoweredOff,
        End::Halted => ExitReason::GuestHalted,
        End::Vcpu(VcpuEnd::Shutdown) => ExitReason::TripleFault,
        End::ThreadFailed(thread) => ExitReason::Failed(format!(
            "its thread {thread} panicked or could not go on, which is a defect of this library"
        )),
        End::Vcpu(end) => ExitReason::Failed(match host {
            Some(host) => format!("{}; {host}", describe(&end)),
            None => describe(&end),
        }),
    };
    VmExit { code: CODE_NO_STATUS, reason }
}

fn describe(end: &VcpuEnd) -> String {
    match end {
        VcpuEnd::Halt => "halted without an interrupt controller".to_owned(),
        VcpuEnd::FailEntry(reason) => format!("the processor refused the guest state (reason {reason:#x})"),
        VcpuEnd::InternalError => "KVM could not emulate an instruction".to_owned(),
        VcpuEnd::Run(errno) => format!("KVM_RUN: {}", io::Error::from_raw_os_error(*errno)),
        VcpuEnd::Panicked => "a device panicked, which is a defect of this library".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let said = |code| Facts { code: Some(code), ..Default::default() };
        let stopped = |code| Facts { code, stop_requested: true, ..Default::default() };
        let failure = || SetupFailure::new("exec");
        let failed = |code| Facts { code, setup_failed: Some(failure()), ..Default::default() };
        let silent = Facts::default;
        let why = || ExitReason::SetupFailed(failure());
        let table = [
            (said(0), End::Reset, 0, ExitReason::Exited),
            (said(7), End::Reset, 7, ExitReason::Exited),
            (said(7), End::Killed, 7, ExitReason::Exited),
            (said(0), End::Vcpu(VcpuEnd::Shutdown), 0, ExitReason::Exited),
            (said(-1), End::Halted, -1, ExitReason::Exited),
            (stopped(Some(143)), End::Reset, 143, ExitReason::Stopped),
            (stopped(None), End::Killed, 137, ExitReason::Killed),
            (stopped(None), End::TimedOut, 137, ExitReason::StopTimedOut),
            (stopped(Some(143)), End::TimedOut, 143, ExitReason::Stopped),
            (stopped(None), End::Reset, 125, ExitReason::GuestReset),
            (failed(Some(127)), End::Reset, 127, why()),
            (failed(None), End::Killed, 125, why()),
            (silent(), End::Reset, 125, ExitReason::GuestReset),
            (silent(), End::Vcpu(VcpuEnd::SystemEvent(2)), 125, ExitReason::GuestReset),
            (said(3), End::Off, 3, ExitReason::Exited),
            (stopped(None), End::Off, 125, ExitReason::PoweredOff),
            (silent(), End::Off, 125, ExitReason::PoweredOff),
            (silent(), End::Halted, 125, ExitReason::GuestHalted),
            (silent(), End::Killed, 137, ExitReason::Killed),
            (silent(), End::Vcpu(VcpuEnd::Shutdown), 125, ExitReason::TripleFault),
            (
                silent(),
                End::ThreadFailed("purlin-fs".into()),
                125,
                ExitReason::Failed(
                    "its thread purlin-fs panicked or could not go on, which is a defect of this library"
                        .into(),
                ),
            ),
            (
                silent(),
                End::Vcpu(VcpuEnd::Run(5)),
                125,
                ExitReason::Failed("KVM_RUN: Input/output error (os error 5)".into()),
            ),
        ];
        for (facts, end, code, reason) in table {
            let got = outcome(facts.clone(), end.clone());
            assert_eq!(got, VmExit { code, reason }, "{facts:?} {end:?}");
        }
    }

    #[test]
    fn a_host_that_cannot_run_guests_is_named() {
        let facts = Facts { host: Some("no hardware virtualization".into()), ..Default::default() };
        let exit = outcome(facts, End::Vcpu(VcpuEnd::InternalError));
        let text = exit.reason.to_string();
        assert_eq!(exit.code, 125);
        assert!(text.contains("emulate") && text.contains("no hardware virtualization"), "{text}");
    }

    #[test]
    fn the_guests_words() {
        let mut facts = Facts::default();
        let failed = Event::SetupFailed {
            stage: purlin_init::control::Stage::WorkingDirectory,
            errno: Some(purlin_init::errno::Errno(2)),
            message: "/no".into(),
        };
        facts.note(failed);
        facts.note(Event::Exited { code: 125 });
        let exit = outcome(facts, End::Reset);
        let text = exit.reason.to_string();
        assert_eq!(exit.code, 125);
        assert!(text.contains("/no") && text.contains("No such file"), "{text}");
    }

    #[test]
    fn nothing_but_a_reported_zero_gives_zero() {
        let ends = [
            End::Reset,
            End::Off,
            End::Halted,
            End::Killed,
            End::TimedOut,
            End::Vcpu(VcpuEnd::InternalError),
        ];
        for end in ends {
            for stop_requested in [false, true] {
                let facts = Facts { stop_requested, ..Default::default() };
                assert_ne!(outcome(facts, end.clone()).code, 0);
            }
        }
    }
}
