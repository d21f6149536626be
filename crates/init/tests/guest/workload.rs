//! What is run, with what, and what its end is reported as.

use purlin_init::control::{Event, Stage};
use purlin_init::errno::Errno;
use purlin_init::workload::Workload;

use crate::machine::{Machine, Outcome};

#[test]
fn exit_codes() {
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255)]
    {
        let Some(machine) = Machine::shell(script) else { return };
        let outcome = machine.run();
        assert_eq!(outcome.code(), code, "{script}");
        let [Event::Hello { version: 1 }, Event::Started { pid }, Event::Exited { .. }] = outcome.events[..]
        else {
            panic!("{:?}", outcome.events);
        };
        assert!(pid > 1);
    }
}

#[track_caller]
fn assert_not_executed(outcome: &Outcome, code: i32, errno: Errno) {
    assert_eq!(outcome.code(), code);
    let [Event::Hello { .. }, Event::SetupFailed { stage: Stage::Execute, errno: found, .. }, _] =
        outcome.events[..]
    else {
        panic!("{:?}", outcome.events);
    };
    assert_eq!(found, Some(errno));
    assert!(outcome.stderr.contains("purlin-init: execute "), "{}", outcome.stderr);
}

#[test]
fn programs_that_cannot_be_executed() {
    let Some(mut machine) = Machine::new() else { return };
    machine.put("bin/data", b"not a program", 0o755);
    machine.put("bin/secret", b"#!/bin/sh\n", 0o644);
    for (program, code, errno) in [
        ("/bin/missing", 127, Errno::NOENT),
        ("missing", 127, Errno::NOENT),
        ("/bin/secret", 126, Errno::ACCES),
        ("secret", 126, Errno::ACCES),
        ("/bin", 126, Errno::ACCES),
        ("/bin/data", 126, Errno(8)),
    ] {
        let outcome = machine.run_with("KRUN_INIT", program);
        assert_not_executed(&outcome, code, errno);
    }
}

#[test]
fn the_command_comes_from_the_arguments_or_is_a_shell() {
    let Some(machine) = Machine::new() else { return };
    let outcome = machine.args(["echo", "a b", ""]).run();
    assert_eq!(outcome.output(), "a b \n");
    let Some(machine) = Machine::new() else { return };
    assert_eq!(machine.input("exit 5\n").run().code(), 5);
}

#[test]
fn the_environment_is_handed_on() {
    let Some(machine) = Machine::new() else { return };
    let outcome =
        machine.env("KRUN_INIT", "env").env("HOME", "/").env("KRUN_HOME", "/root").env("A", "b c").run();
    let mut lines: Vec<_> = outcome.output().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=b c", "HOME=/root", "KRUN_HOME=/root", "KRUN_INIT=env"]);
}

#[test]
fn the_working_directory() {
    let Some(machine) = Machine::shell("pwd") else { return };
    assert_eq!(machine.env("KRUN_WORKDIR", "/bin").run().output(), "/bin\n");

    let Some(machine) = Machine::shell("pwd") else { return };
    let outcome = machine.env("KRUN_WORKDIR", "/missing").run();
    assert_eq!(outcome.code(), 125);
    let failed = Event::SetupFailed {
        stage: Stage::WorkingDirectory,
        errno: Some(Errno::NOENT),
        message: "change to the working directory /missing".into(),
    };
    assert!(outcome.events.contains(&failed), "{:?}", outcome.events);
}

#[test]
fn resource_limits() {
    let Some(machine) = Machine::shell("ulimit -S -n; ulimit -H -n; ulimit -c") else { return };
    let outcome = machine.env("KRUN_RLIMITS", "\"7=64:128,nofile=1:1,4=0:0\"").run();
    assert_eq!(outcome.output(), "64\n128\n0\n");
    assert!(outcome.stderr.contains("not a resource limit, skipped: nofile=1:1\n"), "{}", outcome.stderr);
}

#[test]
fn the_workload_file_carries_any_bytes() {
    let Some(machine) = Machine::new() else { return };
    let script = "printf '<%s>' \"$@\"; printf '{%s}' \"$V\"; pwd; ulimit -n; echo ${PURLIN_EXEC_FILE-unset}${PURLIN_TRACE-}";
    let workload = Workload {
        program: Some(b"sh".to_vec()),
        args: [&b"-c"[..], script.as_bytes(), b"", b"", b"a \"b\" -- \n", "\u{e9}\u{1f980}".as_bytes()]
            .map(<[u8]>::to_vec)
            .to_vec(),
        env: vec![b"V= \"x\"\ny".to_vec(), b"PATH=/bin".to_vec(), b"PURLIN_TRACE=0".to_vec()],
        workdir: Some(b"/a b".to_vec()),
        rlimits: vec![b"7=50:50".to_vec()],
    };
    std::fs::create_dir(machine.path("a b")).unwrap();
    let outcome = machine.workload(&workload).env("KRUN_INIT", "/no").args(["no"]).run();
    let expected = "<><a \"b\" -- \n><\u{e9}\u{1f980}>{ \"x\"\ny}/a b\n50\nunset\n";
    assert_eq!(outcome.output(), expected);
}

#[test]
fn a_workload_file_of_many_bytes_is_read() {
    let Some(machine) = Machine::new() else { return };
    let workload = Workload {
        program: Some(b"/bin/sh".to_vec()),
        args: vec![
            b"-c".to_vec(),
            b"echo $# ${#2}".to_vec(),
            b"sh".to_vec(),
            b"1".to_vec(),
            vec![b'x'; 100_000],
        ],
        env: (0..2000).map(|index| format!("V{index}=value").into_bytes()).collect(),
        ..Workload::default()
    };
    assert_eq!(machine.workload(&workload).run().output(), "2 100000\n");
}

#[test]
fn a_workload_file_that_is_broken_or_missing_ends_the_boot() {
    let cases = [(Some(&b"PRLNEXEC\x01\0\0\0"[..]), None), (Some(b""), None), (None, Some(Errno::NOENT))];
    for (content, expected) in cases {
        let Some(machine) = Machine::shell("echo no") else { return };
        if let Some(content) = content {
            machine.put("file", content, 0o600);
        }
        let outcome = machine.env("PURLIN_EXEC_FILE", "/file").run();
        assert_eq!(outcome.code(), 125);
        assert_eq!(outcome.stdout, "");
        let [Event::Hello { .. }, Event::SetupFailed { stage: Stage::WorkloadFile, errno, .. }, _] =
            outcome.events[..]
        else {
            panic!("{:?}", outcome.events);
        };
        assert_eq!(errno, expected);
    }
}

#[test]
fn the_workload_can_be_process_1() {
    let Some(machine) = Machine::shell("echo $$; exit 3") else { return };
    let outcome = machine.env("KRUN_INIT_PID1", "1").run();
    assert_eq!((outcome.stdout.as_str(), outcome.status.code()), ("1\n", Some(3)));
    assert_eq!(outcome.events, [Event::Hello { version: 1 }]);

    let Some(machine) = Machine::new() else { return };
    let outcome = machine.env("KRUN_INIT_PID1", "1").env("KRUN_INIT", "/missing").run();
    assert_not_executed(&outcome, 127, Errno::NOENT);
}

#[test]
fn orphans_are_reaped() {
    let script = "for i in 1 2 3 4 5; do (sleep 0.05 &); done; sleep 1; cat /proc/[0-9]*/stat | grep -c ') Z '; exit 0";
    let Some(machine) = Machine::shell(script) else { return };
    assert_eq!(machine.run().output(), "0\n");
}
