//! Lines to clients. Pure.

use purlin_vmm_core::kvm::ExitCounts;
use serde_json::{Value, json};

use super::request::{CALLS, Code, Id, Refusal};
use super::{MAX_LINE, VERSION};
use crate::vm::{DeviceStats, ExitReason, Phase, VmError, VmExit, VmStats};

impl Id {
    fn value(&self) -> Value {
        match self {
            Id::None => Value::Null,
            Id::Number(number) => json!(number),
            Id::Text(text) => json!(text),
        }
    }
}

/// A request was done.
pub(super) fn done(id: &Id, result: &Value) -> String {
    json!({ "v": VERSION, "id": id.value(), "ok": result }).to_string()
}

/// A request was not done.
pub(super) fn refused(refusal: &Refusal) -> String {
    let error = json!({ "code": refusal.code.word(), "text": refusal.text });
    json!({ "v": VERSION, "id": refusal.id.value(), "error": error }).to_string()
}

/// What a client is told first.
pub(super) fn hello() -> String {
    event("hello", &json!({ "version": env!("CARGO_PKG_VERSION"), "calls": CALLS, "max_line": MAX_LINE }))
}

/// What a client is told last.
pub(super) fn ended(exit: &VmExit) -> String {
    event("ended", &end(exit))
}

fn event(name: &str, data: &Value) -> String {
    json!({ "v": VERSION, "event": name, "data": data }).to_string()
}

/// The answer to `status`.
pub(super) fn status(phase: &Phase, vcpus: u32, memory_mib: u64) -> Value {
    let (state, end) = match phase {
        Phase::Created => ("created", Value::Null),
        Phase::Running => ("running", Value::Null),
        Phase::Paused => ("paused", Value::Null),
        Phase::Ended(exit) => ("ended", end(exit)),
    };
    json!({ "state": state, "vcpus": vcpus, "memory_mib": memory_mib, "pid": std::process::id(), "end": end })
}

/// The answer to `stats`.
pub(super) fn stats(stats: &VmStats) -> Value {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let devices = stats.devices.iter().map(|DeviceStats { device, bytes, .. }| {
        let kind = format!("{:?}", device.device_type).to_lowercase();
        json!({ "type": kind, "id": device.id, "to_guest": bytes.to_guest, "from_guest": bytes.from_guest })
    });
    let boot = stats.boot.iter().map(|phase| json!({ "name": phase.name, "us": micros(phase.took) }));
    json!({
        "uptime_us": micros(stats.uptime),
        "vcpu_us": micros(stats.vcpu_time),
        "vcpu_exits": stats.vcpus.iter().map(ExitCounts::total).collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
        "boot": boot.collect::<Vec<_>>(),
    })
}

fn end(exit: &VmExit) -> Value {
    let reason = match exit.reason {
        ExitReason::Exited => "exited",
        ExitReason::Stopped => "stopped",
        ExitReason::StopTimedOut => "stop_timed_out",
        ExitReason::SetupFailed(_) => "setup_failed",
        ExitReason::GuestReset => "reset",
        ExitReason::PoweredOff => "powered_off",
        ExitReason::GuestHalted => "halted",
        ExitReason::TripleFault => "triple_fault",
        ExitReason::Failed(_) => "failed",
        ExitReason::Killed => "killed",
    };
    json!({ "code": exit.code, "reason": reason, "text": exit.reason.to_string() })
}

/// What an error of the machine is on the wire.
pub(super) fn refusal(id: Id, error: &VmError) -> Refusal {
    let code = match error {
        VmError::NotStarted => Code::NotStarted,
        VmError::Ended => Code::Ended,
        _ => Code::Failed,
    };
    Refusal { id, code, text: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::SetupFailure;
    use crate::vm::BootPhase;

    #[test]
    fn lines() {
        let exit = VmExit { code: 7, reason: ExitReason::SetupFailed(SetupFailure::new("a\n\"b\"")) };
        let stats = {
            let mut stats = VmStats { uptime: Duration::from_millis(2), ..Default::default() };
            stats.vcpus.push(ExitCounts::default());
            stats.boot.push(BootPhase::new("kernel opened", Duration::from_micros(3)));
            super::stats(&stats)
        };
        let status_of = |phase| status(&phase, 2, 512);
        let pid = std::process::id();
        let table = [
            (done(&Id::Number(7), &json!({})), r#"{"id":7,"ok":{},"v":1}"#.to_owned()),
            (
                refused(&refusal(Id::Text("x".into()), &VmError::NotStarted)),
                r#"{"error":{"code":"not_started","text":"the virtual machine has not been started"},"id":"x","v":1}"#.into(),
            ),
            (
                refused(&refusal(Id::None, &VmError::Ended)),
                r#"{"error":{"code":"ended","text":"the virtual machine has ended"},"id":null,"v":1}"#.into(),
            ),
            (
                ended(&exit),
                r#"{"data":{"code":7,"reason":"setup_failed","text":"the workload was not started: Internal: a\n\"b\""},"event":"ended","v":1}"#.into(),
            ),
            (
                status_of(Phase::Paused).to_string(),
                format!(r#"{{"end":null,"memory_mib":512,"pid":{pid},"state":"paused","vcpus":2}}"#),
            ),
            (
                stats.to_string(),
                r#"{"boot":[{"name":"kernel opened","us":3}],"devices":[],"uptime_us":2000,"vcpu_exits":[0],"vcpu_us":0}"#.into(),
            ),
        ];
        for (line, expected) in table {
            assert_eq!(line, expected);
            assert!(!line.contains('\n'));
        }
        assert_eq!(status_of(Phase::Ended(exit))["end"]["code"], 7);
        assert_eq!(serde_json::from_str::<Value>(&hello()).unwrap()["data"]["calls"], json!(CALLS));
    }

    /// Every word this server says is in the list of the protocol, and every call in the client's usage.
    #[test]
    fn words_are_listed() {
        let protocol = include_str!("mod.rs");
        let (_, listed) = protocol.split_once("//! Reasons: ").unwrap();
        let (listed, _) = listed.split_once("Error codes").unwrap();
        let reasons = [
            ExitReason::Exited,
            ExitReason::Stopped,
            ExitReason::StopTimedOut,
            ExitReason::SetupFailed(SetupFailure::new("")),
            ExitReason::GuestReset,
            ExitReason::PoweredOff,
            ExitReason::GuestHalted,
            ExitReason::TripleFault,
            ExitReason::Failed(String::new()),
            ExitReason::Killed,
        ];
        for reason in reasons {
            let word = end(&VmExit { code: 0, reason })["reason"].as_str().unwrap().to_owned();
            assert!(listed.contains(&format!("`{word}`")), "{word}");
        }

        let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/purlin_ctl.rs");
        let client = std::fs::read_to_string(client).unwrap();
        let usage = client.lines().find(|line| line.contains("usage: ")).unwrap();
        for call in CALLS {
            assert!(protocol.contains(&format!("//! | `{call}` |")), "{call}");
            assert!(usage.split([' ', '|']).any(|word| word == call), "{call}: {usage}");
        }
    }
}
