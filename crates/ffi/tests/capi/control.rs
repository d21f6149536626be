//! The control socket of a machine that `krun_start_enter` runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::c::Bench;

/// The socket, once it is there.
fn connect(path: &Path) -> UnixStream {
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

struct Client {
    write: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Client {
    fn new(path: &Path) -> Self {
        let write = connect(path);
        let mut client = Client { lines: BufReader::new(write.try_clone().unwrap()).lines(), write };
        assert!(client.line().contains("\"hello\""));
        client
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn ask(&mut self, call: &str) -> String {
        writeln!(self.write, r#"{{"v":1,"call":"{call}"}}"#).unwrap();
        self.line()
    }
}

#[test]
fn a_machine_is_asked_and_ended() {
    let bench = Bench::new();
    bench.endless_bundle();
    bench.program("run");
    std::fs::create_dir(bench.path("root")).unwrap();
    let mut child = bench.command("run").args(["control", "root"]).spawn().unwrap();
    let path = bench.path("control");
    let (mut one, mut two) = (Client::new(&path), Client::new(&path));
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket() && file.mode() & 0o077 == 0);

    let state = |client: &mut Client, name: &str| {
        let answer = client.ask("status");
        assert!(answer.contains(&format!("\"state\":\"{name}\"")), "{answer}");
        assert!(answer.contains(&format!("\"pid\":{}", child.id())), "{answer}");
    };
    // The socket is there a little before the guest runs.
    while one.ask("status").contains("\"created\"") {}
    state(&mut one, "running");
    assert!(two.ask("pause").contains("\"ok\":{}"));
    state(&mut one, "paused");
    let stats = one.ask("stats");
    assert!(stats.contains("\"vcpu_us\":"), "{stats}");
    assert!(one.ask("resume").contains("\"ok\":{}"));
    state(&mut two, "running");
    assert!(two.ask("kill").contains("\"ok\":{}"));
    for client in [&mut one, &mut two] {
        let last = client.line();
        assert!(last.contains("\"ended\"") && last.contains("\"code\":137"), "{last}");
        assert!(client.lines.next().is_none());
    }
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert!(!path.exists());
}
