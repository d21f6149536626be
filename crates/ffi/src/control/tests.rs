//! Clients of a control socket whose machine is a function.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::vm::{Command, ExitReason, Phase, VmStats};

struct Bench {
    dir: TempDir,
    remote: Remote,
    servers: Servers,
}

impl Bench {
    fn new(obey: impl FnMut(Command) + Send + 'static) -> Self {
        let bench = Bench {
            dir: tempfile::tempdir().unwrap(),
            remote: Remote::to(obey).unwrap(),
            servers: Servers::default(),
        };
        bench.servers.add(&bench.path(), bench.remote.clone()).unwrap();
        bench
    }

    /// A machine that does everything at once.
    fn willing() -> Self {
        let bench = Self::new(|command| match command {
            Command::Pause(reply) | Command::Resume(reply) => reply.send(Ok(())),
            Command::Stats(reply) => {
                reply.send(Ok(VmStats { vcpu_time: Duration::from_micros(7), ..VmStats::default() }));
            }
            _ => {}
        });
        bench.remote.set(Phase::Running);
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// A client that has been greeted.
    fn client(&self) -> Client {
        let mut client = Client::connect(&self.path());
        assert_eq!(client.next()["event"], "hello");
        client
    }
}

struct Client {
    write: UnixStream,
    read: BufReader<UnixStream>,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let write = UnixStream::connect(path).unwrap();
        Client { read: BufReader::new(write.try_clone().unwrap()), write }
    }

    fn send(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).unwrap();
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.read.read_line(&mut line).unwrap(), 0, "end of file");
        assert!(line.ends_with('\n'));
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, request: Value) -> Value {
        self.send(&format!("{request}\n"));
        self.next()
    }

    fn call(&mut self, name: &str) -> Value {
        self.ask(json!({ "v": 1, "id": name, "call": name }))
    }

    fn at_end(mut self) -> bool {
        matches!(self.read.read(&mut [0]), Ok(0))
    }
}

fn ok(id: &str) -> Value {
    json!({ "v": 1, "id": id, "ok": {} })
}

#[test]
fn calls_and_the_end() {
    let bench = Bench::willing();
    let (mut one, mut two) = (bench.client(), bench.client());
    let status = one.call("status");
    assert_eq!((&status["ok"]["state"], &status["ok"]["vcpus"]), (&json!("running"), &json!(2)));
    assert_eq!(two.call("pause"), ok("pause"));
    assert_eq!(one.call("resume"), ok("resume"));
    assert_eq!(one.call("stats")["ok"]["vcpu_us"], 7);
    assert_eq!(one.call("stop"), ok("stop"));
    assert_eq!(one.call("ctrl_alt_del"), ok("ctrl_alt_del"));
    assert_eq!(two.call("kill"), ok("kill"));
    assert_eq!(two.call("dance")["error"]["code"], "unknown_call");

    bench.servers.finish(Some(&VmExit { code: 3, reason: ExitReason::Stopped }));
    assert!(!bench.path().exists());
    for mut client in [one, two] {
        let last = client.next();
        assert_eq!((&last["event"], &last["data"]["code"]), (&json!("ended"), &json!(3)));
        assert!(client.at_end());
    }
    let late = bench.servers.add(&bench.path(), bench.remote.clone());
    assert!(matches!(late, Err(ControlError::Ended)));
}

#[test]
fn before_the_start_and_after_the_end() {
    let bench = Bench::new(drop);
    let mut client = bench.client();
    assert_eq!(client.call("status")["ok"]["state"], "created");
    for name in ["pause", "resume", "stats", "stop", "ctrl_alt_del"] {
        assert_eq!(client.call(name)["error"]["code"], "not_started", "{name}");
    }
    bench.remote.set(Phase::Ended(VmExit { code: 1, reason: ExitReason::Killed }));
    assert_eq!(client.call("status")["ok"]["end"]["reason"], "killed");
    for name in ["pause", "resume", "stats", "stop", "ctrl_alt_del"] {
        assert_eq!(client.call(name)["error"]["code"], "ended", "{name}");
    }
    // Never started.
    bench.servers.finish(None);
    assert!(client.at_end());
}

#[test]
fn lines_that_make_no_sense_do_not_end_a_connection() {
    let bench = Bench::willing();
    let mut client = bench.client();
    client.send(&"x".repeat(10 * MAX_LINE));
    client.send("\n\n  \n{}\nnull\n\0\n");
    assert_eq!(client.next()["error"]["code"], "too_long");
    for _ in 0..3 {
        assert_eq!(client.next()["error"]["code"], "bad_request");
    }
    assert_eq!(client.call("status")["ok"]["state"], "running");
}

#[test]
fn a_client_that_ends_its_side_is_answered() {
    let bench = Bench::willing();
    let mut client = bench.client();
    client.send(r#"{"v":1,"call":"pause"}"#);
    client.write.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.next()["ok"], json!({}));
    assert!(client.at_end());
}

#[test]
fn one_client_too_many() {
    let bench = Bench::willing();
    let clients: Vec<Client> = (0..MAX_CLIENTS).map(|_| bench.client()).collect();
    let mut more = Client::connect(&bench.path());
    assert_eq!(more.next()["error"]["code"], "too_many_clients");
    assert!(more.at_end());
    drop(clients);
    // The server hears of it in its own time.
    let again = || Client::connect(&bench.path()).next()["event"] == "hello";
    while !again() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Its requests wait in its own socket, and nobody else waits.
#[test]
fn a_client_that_does_not_take_its_answers() {
    let bench = Bench::willing();
    let (mut deaf, mut other) = (bench.client(), bench.client());
    const COUNT: usize = 5000;
    let mut write = deaf.write.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for i in 0..COUNT {
            writeln!(write, r#"{{"v":1,"id":{i},"call":"{}"}}"#, ["status", "stats"][i % 2]).unwrap();
        }
    });
    for _ in 0..10 {
        assert_eq!(other.call("status")["ok"]["state"], "running");
    }
    let mut ids: Vec<u64> = (0..COUNT).map(|_| deaf.next()["id"].as_u64().unwrap()).collect();
    writer.join().unwrap();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..COUNT as u64));
}

/// A machine that does not answer holds up nobody who does not ask it; at its end all are answered.
#[test]
fn requests_under_way_at_the_end() {
    let (keep, kept) = std::sync::mpsc::channel();
    let bench = Bench::new(move |command| drop(keep.send(command)));
    bench.remote.set(Phase::Running);
    let (mut asking, mut other) = (bench.client(), bench.client());
    let requests: String = (0..100).map(|i| format!("{{\"v\":1,\"id\":{i},\"call\":\"pause\"}}\n")).collect();
    asking.send(&requests);
    let first: Vec<Command> = (0..8).map(|_| kept.recv().unwrap()).collect();
    assert_eq!(other.call("status")["ok"]["state"], "running");
    assert!(kept.try_recv().is_err(), "more than eight of one client are under way");
    drop(first);
    let rest = std::thread::spawn(move || kept.into_iter().take(92).for_each(drop));
    for _ in 0..100 {
        assert_eq!(asking.next()["error"]["code"], "ended");
    }
    rest.join().unwrap();
}

/// Nobody reads, and the end comes all the same.
#[test]
fn the_end_does_not_wait_for_a_client() {
    let bench = Bench::willing();
    let mut deaf = bench.client();
    deaf.write.set_nonblocking(true).unwrap();
    let request = br#"{"v":1,"call":"dance"}
"#;
    while deaf.write.write(request).is_ok() {}
    bench.servers.finish(None);
    assert!(!bench.path().exists());
}
