//! From a line to a request. Pure; what a client sends is hostile.

use std::time::Duration;

use serde_json::{Map, Value};

use super::VERSION;

/// Bytes of an id that is a text.
const MAX_ID: usize = 64;
/// What a workload gets to end if the client does not say.
const DEFAULT_GRACE_MS: u64 = 10_000;
/// The longest time that can be asked for: a day.
const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// Every call, as its name is on the wire.
pub(super) const CALLS: [&str; 7] = ["ctrl_alt_del", "kill", "pause", "resume", "stats", "status", "stop"];

/// What a client calls its request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Id {
    #[default]
    None,
    Number(u64),
    Text(String),
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    CtrlAltDel,
    Kill,
    Pause,
    Resume,
    Stats,
    Status,
    Stop { grace: Duration },
}

/// A line that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub id: Id,
    pub call: Call,
}

/// Why a request is not done, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BadRequest,
    TooLong,
    TooManyClients,
    UnsupportedVersion,
    UnknownCall,
    BadArgument,
    NotStarted,
    Ended,
    Failed,
}

/// A line that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub id: Id,
    pub code: Code,
    pub text: String,
}

impl Code {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::TooLong => "too_long",
            Code::TooManyClients => "too_many_clients",
            Code::UnsupportedVersion => "unsupported_version",
            Code::UnknownCall => "unknown_call",
            Code::BadArgument => "bad_argument",
            Code::NotStarted => "not_started",
            Code::Ended => "ended",
            Code::Failed => "failed",
        }
    }
}

/// Reads a line.
pub(super) fn parse(line: &[u8]) -> Result<Request, Refusal> {
    let bad = |text: String| Refusal { id: Id::None, code: Code::BadRequest, text };
    let mut fields = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(bad("a request is an object".to_owned())),
        Err(e) => return Err(bad(format!("not JSON: {e}"))),
    };
    let id = read_id(fields.remove("id")).ok_or_else(|| {
        bad(format!("id: neither null, nor a whole number from 0 on, nor a text of at most {MAX_ID} bytes"))
    })?;
    match read_call(fields) {
        Ok(call) => Ok(Request { id, call }),
        Err((code, text)) => Err(Refusal { id, code, text }),
    }
}

fn read_id(value: Option<Value>) -> Option<Id> {
    match value {
        None | Some(Value::Null) => Some(Id::None),
        Some(Value::Number(number)) => number.as_u64().map(Id::Number),
        Some(Value::String(text)) if text.len() <= MAX_ID => Some(Id::Text(text)),
        Some(_) => None,
    }
}

fn read_call(mut fields: Map<String, Value>) -> Result<Call, (Code, String)> {
    let bad = |text: &str| (Code::BadRequest, text.to_owned());
    match fields.remove("v") {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(_) => return Err((Code::UnsupportedVersion, format!("v: this is version {VERSION}"))),
        None => return Err(bad("v: the version is missing")),
    }
    let Some(Value::String(name)) = fields.remove("call") else {
        return Err(bad("call: the name of a call is missing"));
    };
    let mut arguments = match fields.remove("args") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(bad("args: not an object")),
    };
    if let Some(field) = fields.keys().next() {
        return Err(bad(&format!("{field:?}: no such field")));
    }
    let call = match name.as_str() {
        "ctrl_alt_del" => Call::CtrlAltDel,
        "kill" => Call::Kill,
        "pause" => Call::Pause,
        "resume" => Call::Resume,
        "stats" => Call::Stats,
        "status" => Call::Status,
        "stop" => Call::Stop { grace: read_grace(arguments.remove("grace_ms"))? },
        _ => return Err((Code::UnknownCall, format!("call: {name:?} is none of {}", CALLS.join(", ")))),
    };
    match arguments.keys().next() {
        Some(argument) => Err((Code::BadArgument, format!("{argument:?}: {name} has no such argument"))),
        None => Ok(call),
    }
}

fn read_grace(value: Option<Value>) -> Result<Duration, (Code, String)> {
    let millis = match value {
        None => Some(DEFAULT_GRACE_MS),
        Some(value) => value.as_u64().filter(|millis| *millis <= MAX_GRACE_MS),
    };
    let bad = || (Code::BadArgument, format!("grace_ms: not a whole number from 0 to {MAX_GRACE_MS}"));
    millis.map(Duration::from_millis).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(millis: u64) -> Call {
        Call::Stop { grace: Duration::from_millis(millis) }
    }

    #[test]
    fn good_requests() {
        let table = [
            (r#"{"v":1,"call":"status"}"#, Id::None, Call::Status),
            (r#"{"v":1,"id":null,"call":"kill","args":null}"#, Id::None, Call::Kill),
            (r#"{"v":1,"id":0,"call":"pause","args":{}}"#, Id::Number(0), Call::Pause),
            (r#" {"call" : "resume" , "v" : 1 , "id" : "" } "#, Id::Text(String::new()), Call::Resume),
            (r#"{"v":1,"id":18446744073709551615,"call":"stats"}"#, Id::Number(u64::MAX), Call::Stats),
            (r#"{"v":1,"id":"ü","call":"stop"}"#, Id::Text("ü".to_owned()), stop(10_000)),
            (r#"{"v":1,"call":"stop","args":{"grace_ms":0}}"#, Id::None, stop(0)),
            (r#"{"v":1,"call":"stop","args":{"grace_ms":86400000}}"#, Id::None, stop(86_400_000)),
        ];
        for (line, id, call) in table {
            assert_eq!(parse(line.as_bytes()), Ok(Request { id, call }), "{line}");
        }
    }

    #[test]
    fn refused_requests() {
        let deep = "[".repeat(4000);
        let long_id = format!(r#"{{"v":1,"id":"{}","call":"status"}}"#, "x".repeat(65));
        let table = [
            ("", Id::None, Code::BadRequest),
            ("status", Id::None, Code::BadRequest),
            ("[]", Id::None, Code::BadRequest),
            ("7", Id::None, Code::BadRequest),
            (deep.as_str(), Id::None, Code::BadRequest),
            ("{}{}", Id::None, Code::BadRequest),
            (long_id.as_str(), Id::None, Code::BadRequest),
            (r#"{"v":1,"id":-1,"call":"status"}"#, Id::None, Code::BadRequest),
            (r#"{"v":1,"id":1.5,"call":"status"}"#, Id::None, Code::BadRequest),
            (r#"{"v":1,"id":[],"call":"status"}"#, Id::None, Code::BadRequest),
            (r#"{"id":7,"call":"status"}"#, Id::Number(7), Code::BadRequest),
            (r#"{"id":7,"v":2,"call":"status"}"#, Id::Number(7), Code::UnsupportedVersion),
            (r#"{"id":7,"v":"1","call":"status"}"#, Id::Number(7), Code::UnsupportedVersion),
            (r#"{"id":7,"v":1}"#, Id::Number(7), Code::BadRequest),
            (r#"{"id":7,"v":1,"call":["status"]}"#, Id::Number(7), Code::BadRequest),
            (r#"{"id":7,"v":1,"call":"Status"}"#, Id::Number(7), Code::UnknownCall),
            (r#"{"id":7,"v":1,"call":"status","args":[]}"#, Id::Number(7), Code::BadRequest),
            (r#"{"id":7,"v":1,"call":"status","more":1}"#, Id::Number(7), Code::BadRequest),
            (r#"{"id":7,"v":1,"call":"status","args":{"x":1}}"#, Id::Number(7), Code::BadArgument),
            (r#"{"id":7,"v":1,"call":"stop","args":{"grace_ms":-1}}"#, Id::Number(7), Code::BadArgument),
            (r#"{"id":7,"v":1,"call":"stop","args":{"grace_ms":null}}"#, Id::Number(7), Code::BadArgument),
            (
                r#"{"id":7,"v":1,"call":"stop","args":{"grace_ms":86400001}}"#,
                Id::Number(7),
                Code::BadArgument,
            ),
        ];
        for (line, id, code) in table {
            let refusal = parse(line.as_bytes()).unwrap_err();
            assert_eq!((refusal.id, refusal.code), (id, code), "{line}: {}", refusal.text);
            assert!(!refusal.text.is_empty());
        }
        assert_eq!(parse(b"\xff").unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn every_call_is_known() {
        for name in CALLS {
            assert!(parse(format!(r#"{{"v":1,"call":"{name}"}}"#).as_bytes()).is_ok(), "{name}");
        }
    }
}
