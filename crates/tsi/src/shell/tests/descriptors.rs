//! A process that may not open any more files.

use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use purlin_devices::virtio::{ActivateError, ResetProgress, RestoreError, VirtioDevice};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::guest::{GP, Guest, LIMIT, config, rings, sockaddr};
use crate::config::{Dial, UnixPort};
use crate::shell::{Vsock, VsockConfig};
use crate::wire::{UnixAddr, control, op};

const CHILD: &str = "PURLIN_TEST_WITHOUT_DESCRIPTORS";
const MODULE: &str = "shell::tests::descriptors";

/// In a process of its own, as the limit is the whole process's.
fn alone(name: &str, test: fn()) {
    if std::env::var_os(CHILD).is_some() {
        return test();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = format!("{MODULE}::{name}");
    let done = child.args(["--exact", &name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn without_descriptors_calls_fail_and_work_again_later() {
    alone("without_descriptors_calls_fail_and_work_again_later", at_the_limit);
}

#[test]
fn a_device_that_found_no_descriptor_is_activated_and_restored_later() {
    alone("a_device_that_found_no_descriptor_is_activated_and_restored_later", found_none);
}

fn found_none() {
    let mut guest = Guest::new(config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    guest.open(&listener);
    guest.device.quiesce(Instant::now() + LIMIT).unwrap();
    let section = guest.device.save().unwrap();
    assert_eq!(guest.device.reset(), ResetProgress::Done);
    let limit = getrlimit(Resource::Nofile);
    let [first, second, third] = [guest.context(), guest.context(), guest.context()];
    let mut fresh = Vsock::new(VsockConfig::new(config())).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: limit.maximum }).unwrap();
    let refused = guest.device.activate(first);
    assert!(matches!(&refused, Err(ActivateError::Host { .. })), "{refused:?}");
    let refused = fresh.restore(&section, Some(second));
    assert!(matches!(&refused, Err(RestoreError::Activate(_))), "{refused:?}");
    setrlimit(Resource::Nofile, limit).unwrap();
    fresh.restore(&section, Some(third)).unwrap();
    drop(fresh);
    [guest.rx, guest.tx, guest.events] = rings(&guest.ram);
    guest.device.activate(guest.context()).unwrap();
    guest.offer(16);
    guest.open(&listener);
}

fn at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    let _theirs = UnixListener::bind(&path).unwrap();
    let name = UnixAddr::new(path.as_os_str().as_bytes()).unwrap();
    let mut config = config();
    config.unix_ports = vec![UnixPort { port: 7, path: name, dial: Dial::Guest }];
    let mut guest = Guest::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let inside = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    guest.ask(control::CREATE, &[&6000u32.to_le_bytes()[..], &[2, 0, 1, 0]].concat());
    let fields = [6000u32, 6000, 5].map(u32::to_le_bytes).concat();
    guest.ask(control::LISTEN, &[&fields[..], &sockaddr(inside)].concat());
    assert_eq!(guest.result(), 0);
    let _client = TcpStream::connect(inside).unwrap();
    guest.expect(op::REQUEST);

    let limit = getrlimit(Resource::Nofile);
    let second = TcpStream::connect(inside);
    // Whatever is open stays; nothing more.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: limit.maximum }).unwrap();
    let mut accepted = 0;
    guest.ask(control::CREATE, &[&GP.to_le_bytes()[..], &[2, 0, 1, 0]].concat());
    guest.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &sockaddr(to)].concat());
    assert_eq!(next_but_offers(&mut guest, &mut accepted).1[..4], (-24i32).to_le_bytes());
    guest.stream(7, op::REQUEST, 0, &[]);
    assert_eq!(next_but_offers(&mut guest, &mut accepted).0, op::RST);
    let before = guest.turns();
    std::thread::sleep(Duration::from_millis(300));
    let idle = guest.turns() - before;
    assert!(idle < 30, "{idle} turns of waiting");
    setrlimit(Resource::Nofile, limit).unwrap();
    guest.stream(7, op::REQUEST, 0, &[]);
    assert_eq!(next_but_offers(&mut guest, &mut accepted).0, op::RESPONSE);
    while accepted == 0 {
        assert_eq!(guest.expect(op::REQUEST).0.dst_port, 6000);
        accepted += 1;
    }
    guest.ask(control::CONNECT, &[&GP.to_le_bytes()[..], &sockaddr(to)].concat());
    assert_eq!(guest.result(), 0);
    drop(second);
}

/// The next packet, whenever the second client comes.
fn next_but_offers(guest: &mut Guest, offers: &mut u32) -> (u16, Vec<u8>) {
    loop {
        match guest.next() {
            (header, _) if header.op == op::REQUEST => *offers += 1,
            (header, payload) => return (header.op, payload),
        }
    }
}
