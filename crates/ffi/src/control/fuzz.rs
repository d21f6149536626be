//! What the fuzz target of the control socket does.

use serde_json::Value;

use super::lines::{Line, Lines};
use super::request::{Call, parse};
use super::{MAX_LINE, VERSION, reply};

/// Takes `data` as what a client sends, in pieces whose sizes its first byte decides, and answers it without a
/// machine.
///
/// # Panics
///
/// If more than a line is kept, or an answer is not a line of JSON with the version and the id.
pub fn control_requests(data: &[u8]) {
    let (piece, stream) =
        data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest));
    let mut lines = Lines::default();
    for bytes in stream.chunks(piece) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = lines.room();
            assert!(room > 0 && room <= MAX_LINE + 1);
            let (now, later) = rest.split_at(room.min(rest.len()));
            lines.push(now);
            rest = later;
            while let Some(line) = lines.next() {
                answer(&line);
            }
        }
    }
    if let Some(line) = lines.finish() {
        answer(&line);
    }
    assert_eq!(lines.next(), None);
}

#[expect(clippy::expect_used, reason = "what is looked for")]
fn answer(line: &Line) {
    let Line::Text(line) = line else { return };
    assert!(!line.is_empty() && line.len() <= MAX_LINE);
    let answer = match parse(line) {
        Ok(request) => {
            if let Call::Stop { grace } = request.call {
                assert!(grace.as_secs() <= 24 * 60 * 60);
            }
            reply::done(&request.id, &Value::Null)
        }
        Err(refusal) => reply::refused(&refusal),
    };
    assert!(!answer.contains('\n'));
    let back: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(back.get("v").and_then(Value::as_u64), Some(VERSION));
    assert!(back.get("id").is_some());
}
