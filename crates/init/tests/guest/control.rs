//! The control channel, from the host's end.

use std::time::{Duration, Instant};

use purlin_init::control::{Event, Request};

use crate::machine::{Machine, Running, restarted};

/// A machine whose script has printed a line to the file `ready`, so that its traps are set.
fn started(machine: &Machine) -> Running {
    let mut running = machine.start();
    running.until_started();
    while !machine.path("ready").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    running
}

#[test]
fn a_stop_ends_a_workload_that_obeys() {
    let Some(machine) = Machine::shell("trap 'exit 9' TERM; echo > /ready; while :; do sleep 0.05; done")
    else {
        return;
    };
    let mut running = started(&machine);
    running.send(Request::Stop { grace_ms: 20_000 });
    let outcome = running.wait();
    assert_eq!(outcome.code(), 9);
    assert_eq!(outcome.events, [Event::Stopping, Event::Exited { code: 9 }]);
}

#[test]
fn a_stop_ends_a_workload_that_ignores_it() {
    let script = "trap '' TERM; setsid sleep 1000 & echo > /ready; while :; do sleep 0.05; done";
    let Some(machine) = Machine::shell(script) else { return };
    let mut running = started(&machine);
    let start = Instant::now();
    running.send(Request::Stop { grace_ms: 300 });
    let outcome = running.wait();
    assert_eq!(outcome.code(), 137);
    assert_eq!(outcome.events.first(), Some(&Event::Stopping));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_second_stop_shortens_the_grace() {
    let Some(machine) = Machine::shell("trap '' TERM; echo > /ready; while :; do sleep 0.05; done") else {
        return;
    };
    let mut running = started(&machine);
    let start = Instant::now();
    running.send(Request::Stop { grace_ms: 100_000 });
    assert_eq!(running.event(), Some(Event::Stopping));
    running.send(Request::Stop { grace_ms: 0 });
    assert_eq!(running.wait().code(), 137);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn pings_are_answered_between_bytes_that_mean_nothing() {
    let Some(machine) = Machine::shell("echo > /ready; while :; do sleep 0.05; done") else { return };
    let mut running = started(&machine);
    running.send(Request::Ping { token: 1 });
    assert_eq!(running.event(), Some(Event::Pong { token: 1 }));
    running.send_bytes(b"\x00\x00\x03\x00abc\x81\x01\x01\x00z\xff\x01\xff\xff");
    running.send_bytes(&[0x81; 0xffff]);
    for byte in (Request::Ping { token: 2 }).encode() {
        running.send_bytes(&[byte]);
    }
    assert_eq!(running.event(), Some(Event::Pong { token: 2 }));
    running.send(Request::Stop { grace_ms: 0 });
    assert_eq!(running.wait().code(), 143);
}

#[test]
fn a_host_that_never_reads_changes_nothing() {
    let Some(machine) = Machine::shell("echo > /ready; sleep 1; echo > /done; exit 6") else { return };
    let mut running = started(&machine);
    let flood: Vec<u8> = (0..1000).flat_map(|token| Request::Ping { token }.encode()).collect();
    let mut sent = 0;
    // Until the guest is gone: it reads on, although nobody reads its answers.
    while running.try_send_bytes(&flood).is_ok() {
        sent += 1;
    }
    assert!(sent > 20, "{sent}");
    let outcome = running.wait();
    assert!(restarted(outcome.status));
    assert!(machine.path("done").exists());
}

#[test]
fn a_host_that_goes_away_changes_nothing() {
    let script = "echo > /ready; (sleep 0.1 &); sleep 1; cat /proc/1/stat > /stat; exit 0";
    let Some(machine) = Machine::shell(script) else { return };
    let running = started(&machine);
    assert!(restarted(running.hang_up()));
    let stat = crate::machine::read(machine.path("stat"));
    let fields: Vec<&str> = stat.split(' ').collect();
    // PID 1 did not spin: user and system time stay below a tenth of the second it waited, in hundredths.
    let ticks: u32 = fields[13].parse::<u32>().unwrap() + fields[14].parse::<u32>().unwrap();
    assert!(ticks < 10, "{stat}");
}

#[test]
fn talk_does_not_use_up_memory() {
    let script = "echo > /ready; until test -e /stop; do sleep 0.05; done; grep VmData /proc/1/status";
    let Some(machine) = Machine::shell(script) else { return };
    let mut running = started(&machine);
    for round in 0..200 {
        let talk: Vec<u8> = (0..200).flat_map(|token| Request::Ping { token }.encode()).collect();
        running.send_bytes(&talk);
        running.send(Request::Ping { token: 1000 + round });
        while running.event() != Some(Event::Pong { token: 1000 + round }) {}
    }
    machine.put("stop", b"", 0o600);
    let outcome = running.wait();
    let kib: u32 = outcome.output().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 600, "{}", outcome.stdout);
}
