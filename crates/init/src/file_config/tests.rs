use alloc::borrow::ToOwned;

use super::*;

fn strings(items: &[&str]) -> Vec<CString> {
    items.iter().map(|item| CString::new(*item).unwrap()).collect()
}

#[track_caller]
fn clean(text: &str) -> FileConfig {
    let (config, problems) = read(text.as_bytes()).unwrap();
    assert_eq!((&problems[..], &config.user_problem), (&[][..], &None), "{text}");
    config
}

fn problems(text: &str) -> Vec<(String, &'static str)> {
    let (config, problems) = read(text.as_bytes()).unwrap();
    problems.into_iter().chain(config.user_problem).map(|problem| (problem.key, problem.why)).collect()
}

#[test]
fn an_oci_runtime_configuration() {
    let config = clean(
        r#"{ "ociVersion": "1.0.0", "hooks": { "prestart": [ { "args": ["no"], "env": ["NO=1"] } ] },
             "process": { "args": ["/bin/sh", "-c", "exit 3"], "env": ["PATH=/bin", "A=b c"], "cwd": "/srv",
                          "user": { "uid": 1000, "gid": 100, "additionalGids": [5, 6] }, "rlimits": [] },
             "mounts": [ { "destination": "/proc", "type": "proc", "source": "proc" },
                         { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                         { "destination": "/dev/shm", "type": "tmpfs", "source": "shm" },
                         { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" } ] }"#,
    );
    assert_eq!(config.command, strings(&["/bin/sh", "-c", "exit 3"]));
    assert_eq!(config.env, strings(&["PATH=/bin", "A=b c"]));
    assert_eq!(config.workdir, Some(c"/srv".to_owned()));
    assert_eq!(config.user, User { uid: Some(1000), gid: Some(100), groups: Vec::from([5, 6]) });
    assert!(config.user.is_set());
    assert_eq!(config.tmpfs, strings(&["/dev", "/tmp"]));
}

#[test]
fn the_words_of_images_and_their_places() {
    let table = [
        (r#"{"Cmd":["a"],"Env":["E=1"],"WorkingDir":"/w","Entrypoint":["e"]}"#, &["e", "a"][..], "/w"),
        (r#"{"args":["a"],"env":["E=1"],"Cwd":"/w"}"#, &["a"], "/w"),
        (r#"{"cmd":["a"],"ENV":["E=1"],"workingdir":"/w"}"#, &["a"], "/w"),
        (
            r#"{"config":{"Cmd":["a"],"Env":["E=1"],"WorkingDir":"/w","Entrypoint":["e","f"]}}"#,
            &["e", "f", "a"],
            "/w",
        ),
        (r#"[1]"#, &[], ""),
        (
            r#"{"x":[{"y":{"args":["deep"],"env":["E=1"],"cwd":"/w"}}],"z":{"args":["later"]}}"#,
            &["deep"],
            "/w",
        ),
        (r#"{"Entrypoint":["alone"],"env":["E=1"],"cwd":"/w"}"#, &["alone"], "/w"),
        (r#"{"Entrypoint":["e"],"process":{"args":["a"],"env":["E=1"],"cwd":"/w"}}"#, &["e", "a"], "/w"),
        (r#"{"process":{"args":["a"],"env":["E=1"],"cwd":"/w"},"args":["no"]}"#, &["a"], "/w"),
    ];
    for (text, command, workdir) in table {
        let (config, _) = read(text.as_bytes()).unwrap();
        assert_eq!(config.command, strings(command), "{text}");
        assert_eq!(config.workdir.unwrap_or_default().to_str(), Ok(workdir), "{text}");
        assert_eq!(config.env, if workdir.is_empty() { Vec::new() } else { strings(&["E=1"]) }, "{text}");
    }
}

#[test]
fn with_a_process_nothing_is_taken_from_elsewhere() {
    let config = clean(r#"{"process":{}, "args":["a"], "cwd":"/x", "uid":5, "a":{"env":["A=1"],"gid":7}}"#);
    assert_eq!(config, FileConfig::default());
}

#[test]
fn what_is_empty_is_not_there() {
    for text in [
        "{}",
        r#"{"process":{"args":[],"env":[],"cwd":"","user":{}}}"#,
        r#"{"process":null}"#,
        r#"{"Cmd":null,"Entrypoint":null,"Env":null,"WorkingDir":"","uid":null,"mounts":null}"#,
    ] {
        assert_eq!(clean(text), FileConfig::default(), "{text}");
    }
}

#[test]
fn users() {
    let user = |text: &str| clean(text).user;
    let of = |uid, gid| User { uid, gid, groups: Vec::new() };
    assert_eq!(user(r#"{"uid":0}"#), of(Some(0), None));
    assert!(of(Some(0), None).is_set());
    assert!(!User::default().is_set());
    assert_eq!(user(r#"{"gid":4294967294}"#), of(None, Some(4_294_967_294)));
    assert_eq!(user(r#"{"user":{"uid":5,"gid":6}}"#), of(Some(5), Some(6)));
}

#[test]
fn wrong_types_are_named_and_the_rest_is_used() {
    let table = [
        (r#"[]"#, "the whole file", "not an object"),
        (r#"{"process":[]}"#, "process", "not an object"),
        (r#"{"process":{"args":"/bin/sh"}}"#, "process.args", "not a list"),
        (r#"{"process":{"args":["a",1]}}"#, "process.args", "not a string"),
        (r#"{"process":{"env":{}}}"#, "process.env", "not a list"),
        (r#"{"process":{"cwd":7}}"#, "process.cwd", "not a string"),
        (r#"{"Cmd":["a\u0000b"]}"#, "Cmd", "a string with a NUL"),
        (r#"{"Entrypoint":"/bin/sh -c"}"#, "Entrypoint", "not a list"),
        (r#"{"mounts":{}}"#, "mounts", "not a list of objects"),
        (r#"{"mounts":[1]}"#, "mounts", "not a list of objects"),
        (r#"{"mounts":[{"type":"tmpfs","source":"tmpfs"}]}"#, "mounts.destination", "not an absolute path"),
        (r#"{"env":["A=1"],"Env":["A=2"]}"#, "env", "given more than once, the first counts"),
        (r#"{"process":{"user":{"uid":-1}}}"#, "process.user.uid", "not an id from 0 to 4294967294"),
        (r#"{"process":{"user":{"gid":"staff"}}}"#, "process.user.gid", "not an id from 0 to 4294967294"),
        (r#"{"process":{"user":{"uid":4294967295}}}"#, "process.user.uid", "not an id from 0 to 4294967294"),
        (r#"{"process":{"user":"root"}}"#, "process.user", "not an id from 0 to 4294967294"),
        (
            r#"{"process":{"user":{"additionalGids":[1,"x"]}}}"#,
            "process.user.additionalGids",
            "not an id from 0 to 4294967294",
        ),
    ];
    for (text, key, why) in table {
        assert_eq!(problems(text), [(String::from(key), why)], "{text}");
    }
    let (config, _) = read(br#"{"process":{"args":7,"env":["A=1"]}}"#).unwrap();
    assert_eq!(config.env, strings(&["A=1"]));
    let groups = (0..=MAX_GROUPS).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(problems(&format!(r#"{{"process":{{"user":{{"additionalGids":[{groups}]}}}}}}"#)).len(), 1);
}

#[test]
fn what_is_no_json_says_where() {
    assert_eq!(read(b"{\"a\" 1}").unwrap_err(), JsonError { offset: 5, what: "no : after the key" });
}
