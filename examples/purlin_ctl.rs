//! A client of a control socket: asks a running machine something.
//!
//! `purlin-ctl SOCKET CALL [ARGUMENT=NUMBER...]`, as in `purlin-ctl /run/vm.sock stop grace_ms=5000`
//!
//! Prints what the machine answers, as JSON. `purlin-ctl SOCKET wait` waits for the machine's end and prints how it
//! ended. The protocol is in the documentation of `purlin::control`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

const USAGE: &str =
    "usage: purlin-ctl SOCKET status|stats|stop|ctrl_alt_del|kill|pause|resume|wait [ARGUMENT=NUMBER...]";
/// What the client calls its only request.
const ID: u64 = 1;

fn main() -> ExitCode {
    match run() {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("purlin-ctl: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Value, Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(socket), Some(call)) = (words.next(), words.next()) else { return Err(USAGE.into()) };
    let mut arguments = Map::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or(USAGE)?;
        arguments.insert(name.to_owned(), value.parse::<u64>()?.into());
    }

    let mut stream = UnixStream::connect(&socket).map_err(|e| format!("{socket}: {e}"))?;
    if call != "wait" {
        let request = json!({ "v": purlin::control::VERSION, "id": ID, "call": call, "args": arguments });
        stream.write_all(format!("{request}\n").as_bytes())?;
    }
    for line in BufReader::new(stream).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        if message["event"] == "ended" && call == "wait" {
            return Ok(message["data"].clone());
        }
        if message["id"] == ID && message["ok"].is_object() {
            return Ok(message["ok"].clone());
        }
        if let Some(text) = message["error"]["text"].as_str() {
            return Err(text.into());
        }
    }
    Err("the machine has ended".into())
}
