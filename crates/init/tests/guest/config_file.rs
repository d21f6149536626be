//! The configuration file.

use purlin_init::control::{Event, Stage};

use crate::machine::Machine;

const PATH: &str = ".krun_config.json";

#[test]
fn a_command_from_the_file() {
    let Some(machine) = Machine::new() else { return };
    let file = r#"{"process":{"args":["/bin/sh","-c","id; pwd; env; grep ' /scratch ' /proc/mounts"],
        "env":["HOME=/file","TERM=vt100","A=file","B=b \u00e9"],"cwd":"/bin",
        "user":{"uid":1234,"gid":567,"additionalGids":[8]}},
        "mounts":[{"destination":"/proc","type":"tmpfs","source":"tmpfs"},
                  {"destination":"/scratch","type":"tmpfs","source":"tmpfs"},
                  {"destination":"/other","type":"tmpfs","source":"tmpfs"}]}"#;
    machine.put(PATH, file.as_bytes(), 0o600);
    let outcome = machine.env("A", "words").env("HOME", "/").run();
    let expected = "uid=1234 gid=567 groups=8\n/bin\nA=words\nHOME=/file\nTERM=vt100\nB=b \u{e9}\nPWD=/bin\n\
        tmpfs /scratch tmpfs rw,nosuid,nodev,noexec,relatime 0 0\n";
    assert_eq!(sorted(outcome.output()), sorted(expected));
    assert!(!machine_has(&outcome, "/other"));
}

fn sorted(text: &str) -> Vec<&str> {
    // The shell adds these.
    let added = |line: &&str| line.starts_with("PATH=") || line.starts_with("SHLVL=");
    let mut lines: Vec<&str> = text.lines().filter(|line| !added(line)).collect();
    lines.sort_unstable();
    lines
}

fn machine_has(outcome: &crate::machine::Outcome, mount: &str) -> bool {
    outcome.stdout.contains(&format!("tmpfs {mount} "))
}

#[test]
fn the_host_names_the_file_and_the_program() {
    let Some(machine) = Machine::shell("echo $FROM") else { return };
    machine.put("etc/c.json", br#"{"Cmd":["/no"],"Env":["FROM=file"]}"#, 0o600);
    assert_eq!(machine.env("KRUN_CONFIG", "/etc/c.json").run().output(), "file\n");

    let Some(machine) = Machine::shell("echo on") else { return };
    let outcome = machine.env("KRUN_CONFIG", "/etc/missing.json").run();
    assert_eq!(
        (outcome.output(), outcome.stderr.as_str()),
        ("on\n", "purlin-init: read /etc/missing.json: ENOENT\n")
    );
}

#[test]
fn what_is_not_understood_is_named_and_the_boot_goes_on() {
    for (file, line) in [
        ("{\"process\":{\"args\":\"sh\"}}", "the configuration file: process.args: not a list"),
        ("{\"env\":[\"nothing\"]}", "not an environment entry, skipped: nothing"),
        ("{\"env\" []}", "the configuration file is skipped: no : after the key at byte 7"),
    ] {
        let Some(machine) = Machine::shell("echo on") else { return };
        machine.put(PATH, file.as_bytes(), 0o600);
        let outcome = machine.run();
        assert_eq!(outcome.output(), "on\n");
        assert_eq!(outcome.stderr, format!("purlin-init: {line}\n"));
    }
}

#[test]
fn a_user_that_is_not_understood_ends_the_boot() {
    let Some(machine) = Machine::shell("echo no") else { return };
    machine.put(PATH, br#"{"process":{"user":{"uid":"www"}}}"#, 0o600);
    let outcome = machine.run();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (125, ""));
    let message = "the configuration file: process.user.uid: not an id from 0 to 4294967294";
    let failed = Event::SetupFailed { stage: Stage::ConfigFile, errno: None, message: message.into() };
    assert!(outcome.events.contains(&failed), "{:?}", outcome.events);
}

/// More values than the memory at hand from the start holds.
#[test]
fn a_large_file() {
    let Some(machine) = Machine::shell("echo $V2999") else { return };
    let entries: Vec<String> = (0..3000).map(|index| format!("\"V{index}=value {index}\"")).collect();
    machine.put(PATH, format!("{{\"Env\":[{}]}}", entries.join(",")).as_bytes(), 0o600);
    assert_eq!(machine.run().output(), "value 2999\n");
}

#[test]
fn the_standard_descriptors_are_the_users() {
    let Some(machine) = Machine::new() else { return };
    let file =
        r#"{"args":["/bin/sh","-c","stat -L -c %u /proc/self/fd/1; echo again > /proc/self/fd/1"],"uid":77}"#;
    machine.put(PATH, file.as_bytes(), 0o600);
    assert_eq!(machine.run().output(), "77\nagain\n");
}
