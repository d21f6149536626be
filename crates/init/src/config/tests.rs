use alloc::borrow::ToOwned;

use super::*;
use crate::abi::ENV_CONTROL_FD;
use crate::ports::Role;
use crate::workload::Workload;

fn strings(items: &[&str]) -> Vec<CString> {
    items.iter().map(|item| CString::new(*item).unwrap()).collect()
}

fn environment(entries: &[&str]) -> Environment {
    let mut env = Environment::new();
    for entry in strings(entries) {
        env.set(entry).unwrap();
    }
    env
}

/// Without a configuration file.
fn interpret(args: Vec<CString>, env: Environment, file: Option<Workload>) -> (Config, Vec<Warning>) {
    let (order, mut warnings) = Order::new(args, env, file);
    let (config, more) = Config::new(order, FileConfig::default());
    warnings.extend(more);
    (config, warnings)
}

fn config(args: &[&str], env: &[&str]) -> Config {
    let (config, warnings) = interpret(strings(args), environment(env), None);
    assert_eq!(warnings, []);
    config
}

#[test]
fn the_command() {
    let table: [(&[&str], &[&str], &[&str]); 5] = [
        (&["KRUN_INIT=/bin/ls"], &["-l", ""], &["/bin/ls", "-l", ""]),
        (&["KRUN_INIT=ls"], &[], &["ls"]),
        (&[], &["ls", "-l"], &["ls", "-l"]),
        (&[], &[], &["/bin/sh"]),
        (&["KRUN_INIT="], &[], &["/bin/sh"]),
    ];
    for (env, args, expected) in table {
        assert_eq!(config(args, env).command, strings(expected), "{env:?} {args:?}");
    }
}

#[test]
fn the_environment_is_handed_on_with_home_and_term() {
    let config = config(&[], &["HOME=/", "TERM=linux", "KRUN_HOME=/root", "KRUN_TERM=xterm", "A=b c"]);
    let expected = ["HOME=/root", "TERM=xterm", "KRUN_HOME=/root", "KRUN_TERM=xterm", "A=b c"];
    assert_eq!(config.env.entries(), strings(&expected));
}

#[test]
fn the_rest() {
    let plain = config(&[], &[]);
    assert_eq!((plain.hostname.as_c_str(), plain.workdir, plain.pid1), (c"localhost", None, false));
    let full = config(&[], &["HOSTNAME=vm", "KRUN_WORKDIR=/tmp", "KRUN_INIT_PID1=1x"]);
    assert_eq!((full.hostname, full.workdir, full.pid1), (c"vm".to_owned(), Some(c"/tmp".to_owned()), true));
    assert!(!config(&[], &["KRUN_INIT_PID1=01"]).pid1);
    assert_eq!(config(&[], &["KRUN_WORKDIR="]).workdir, None);
}

#[test]
fn limits_that_are_not_understood_are_named() {
    let env = environment(&["KRUN_RLIMITS=7=1:2,nofile=3,6=4:4"]);
    let (config, warnings) = interpret(Vec::new(), env, None);
    assert_eq!(
        config.rlimits,
        [Rlimit { resource: 7, soft: 1, hard: 2 }, Rlimit { resource: 6, soft: 4, hard: 4 }]
    );
    assert_eq!(warnings, [Warning::Rlimit(b"nofile=3".to_vec())]);
}

#[test]
fn bootstrap_words_leave_the_environment() {
    let mut env = environment(&[
        "PURLIN_EXEC_FILE=/f",
        "A=1",
        "PURLIN_CONTROL_FD=5",
        "PURLIN_PORTS=krun-stdout,x",
        "PURLIN_TRACE=1",
    ]);
    let bootstrap = Bootstrap::take(&mut env);
    assert_eq!(
        bootstrap,
        Bootstrap {
            exec_file: Some(c"/f".to_owned()),
            control_fd: Some(5),
            ports: Vec::from([Role::Stdio(1)]),
            trace: true,
        }
    );
    assert_eq!(env, environment(&["A=1"]));
    for text in ["2", "-1", "x", "", "4294967299"] {
        let mut env = Environment::new();
        env.set_value(ENV_CONTROL_FD, &CString::new(text).unwrap());
        assert_eq!(Bootstrap::take(&mut env), Bootstrap::default(), "{text}");
        assert!(env.entries().is_empty());
    }
}

#[test]
fn the_workload_file_replaces_the_command_line() {
    let boot = environment(&["HOME=/", "KRUN_INIT=/no", "KRUN_WORKDIR=/no", "KRUN_RLIMITS=7=9:9", "A=1"]);
    let file = Workload {
        program: Some(b"/bin/e".to_vec()),
        args: Vec::from([Vec::new(), b"\xff\n".to_vec()]),
        env: Vec::from([b"A=2".to_vec(), b"KRUN_HOME=/h".to_vec(), b"nothing".to_vec()]),
        workdir: None,
        rlimits: Vec::from([b"6=1:1".to_vec()]),
    };
    let (config, warnings) = interpret(strings(&["ignored"]), boot, Some(file));
    assert_eq!(
        config.command,
        [c"/bin/e".to_owned(), c"".to_owned(), CString::new(b"\xff\n".to_vec()).unwrap()]
    );
    assert_eq!(config.env.get("A"), Some(c"2"));
    assert_eq!(config.env.get("HOME"), Some(c"/h"));
    assert_eq!(config.workdir, None);
    assert_eq!(config.rlimits, [Rlimit { resource: 6, soft: 1, hard: 1 }]);
    assert_eq!(warnings, [Warning::EnvironmentEntry(b"nothing".to_vec())]);
}

#[test]
fn an_empty_workload_file_means_a_shell() {
    let boot = environment(&["KRUN_INIT=/no"]);
    let (config, _) = interpret(strings(&["ignored"]), boot, Some(Workload::default()));
    assert_eq!(config.command, strings(&["/bin/sh"]));
}

fn with_file(args: &[&str], env: &[&str], file: &str) -> (Config, Vec<Warning>) {
    let (file, problems) = crate::file_config::read(file.as_bytes()).unwrap();
    assert_eq!(problems, []);
    let (order, _) = Order::new(strings(args), environment(env), None);
    Config::new(order, file)
}

#[test]
fn the_files_command_comes_between_the_words_program_and_arguments() {
    let file = r#"{"process":{"args":["from","file"]}}"#;
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a str, &'a [&'a str]);
    let table: [Row<'_>; 5] = [
        (&["KRUN_INIT=prog"], &["arg"], file, &["prog", "arg"]),
        (&[], &["arg"], file, &["from", "file"]),
        (&[], &["arg"], "{}", &["arg"]),
        (&[], &[], "{}", &["/bin/sh"]),
        (&[], &["arg"], r#"{"Entrypoint":["alone"]}"#, &["alone"]),
    ];
    for (env, args, file, expected) in table {
        assert_eq!(with_file(args, env, file).0.command, strings(expected), "{env:?} {args:?} {file}");
    }
}

#[test]
fn the_files_environment_gives_way_but_for_home_and_term() {
    let file = r#"{"Env":["HOME=/file","TERM=file","A=file","B=file","nothing","=x"],"cwd":"/file"}"#;
    let (config, warnings) = with_file(&[], &["HOME=/", "TERM=linux", "A=words", "KRUN_WORKDIR="], file);
    let expected = ["HOME=/file", "TERM=file", "A=words", "KRUN_WORKDIR=", "B=file"];
    assert_eq!(config.env.entries(), strings(&expected));
    let nameless = |text: &[u8]| Warning::EnvironmentEntry(text.to_vec());
    assert_eq!(warnings, [nameless(b"nothing"), nameless(b"=x")]);
    assert_eq!(config.workdir, Some(c"/file".to_owned()));

    let (config, _) = with_file(&[], &["KRUN_HOME=/words", "KRUN_TERM=words", "KRUN_WORKDIR=/words"], file);
    assert_eq!((config.env.get("HOME"), config.env.get("TERM")), (Some(c"/words"), Some(c"words")));
    assert_eq!(config.workdir, Some(c"/words".to_owned()));
}

#[test]
fn user_and_tmpfs_are_the_files() {
    let file = r#"{"process":{"user":{"uid":7,"gid":8}},"mounts":[{"type":"tmpfs","source":"tmpfs","destination":"/t"}]}"#;
    let (config, _) = with_file(&[], &[], file);
    assert_eq!((config.user.uid, config.user.gid), (Some(7), Some(8)));
    assert_eq!(config.tmpfs, strings(&["/t"]));
}
