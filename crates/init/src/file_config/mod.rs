//! The configuration file: what to run, in the words of an OCI runtime or of an image.
//!
//! # Keys
//!
//! Names are matched without regard to case. In a file with an object `process` (OCI runtime specification, "Process")
//! `args`, `env`, `cwd` and `user` (`uid`, `gid`, `additionalGids`) are taken from there. In any other they are taken
//! from the top level, where `Cmd`, `WorkingDir`, `uid` and `gid` are known too, or else from the first place in the
//! text that has one, at whatever depth, so that an image's configuration (`config.Cmd`, OCI image specification) works.
//! `Entrypoint` goes before the arguments or is the command alone. Of `mounts` the tmpfs ones count, if their source is
//! `tmpfs` too.
//!
//! An empty list is as good as none. A key with a value of the wrong type is a [`Problem`] and otherwise ignored; user
//! and group are not: whoever asks for a user must not get root instead (see [`FileConfig::user_problem`]).
//!
//! ```
//! let text = br#"{"process":{"args":["/bin/ls","-l"],"cwd":7,"user":{"uid":1000}}}"#;
//! let (config, problems) = purlin_init::file_config::read(text)?;
//! assert_eq!(config.command, [c"/bin/ls".to_owned(), c"-l".to_owned()]);
//! assert_eq!(config.user.uid, Some(1000));
//! assert_eq!((problems[0].key.as_str(), problems[0].why), ("process.cwd", "not a string"));
//! # Ok::<(), purlin_init::json::JsonError>(())
//! ```

mod lookup;
#[cfg(test)]
mod tests;

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json::{self, JsonError, Value};
use lookup::Lookup;

/// Largest file, bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Most supplementary groups (`NGROUPS_MAX` is 65536; a configuration with more than this is an error).
const MAX_GROUPS: usize = 1024;

/// The id that means "unchanged" to the kernel is none.
const NO_ID: u64 = u32::MAX as u64;

/// A key that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `process.args`.
    pub key: String,
    /// What is wrong, such as `not a list of strings`.
    pub why: &'static str,
}

/// The user that the workload runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id; `None` leaves it.
    pub uid: Option<u32>,
    /// Group id; `None` leaves it.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl User {
    /// Whether anything was asked for. If so, the groups of PID 1 are given up.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileConfig {
    /// The command, `Entrypoint` first; empty if the file has none.
    pub command: Vec<CString>,
    /// `NAME=VALUE` entries; some may lack the `=`.
    pub env: Vec<CString>,
    /// The working directory.
    pub workdir: Option<CString>,
    /// Who the workload is.
    pub user: User,
    /// A key of the user that is not understood. It must not be ignored: whoever asks for a user must not get root.
    pub user_problem: Option<Problem>,
    /// Where tmpfs mounts are asked for, in order.
    pub tmpfs: Vec<CString>,
}

/// Reads a file. What is not understood in it is among the problems.
///
/// # Errors
///
/// [`JsonError`] if it is not JSON at all.
pub fn read(text: &[u8]) -> Result<(FileConfig, Vec<Problem>), JsonError> {
    let root = json::parse(text)?;
    let mut problems = Vec::new();
    let config = match &root {
        Value::Object(members) => interpret(members, &mut problems),
        _ => {
            problems.push(Problem { key: String::from("the whole file"), why: "not an object" });
            FileConfig::default()
        }
    };
    Ok((config, problems))
}

fn interpret(root: &[(Vec<u8>, Value)], problems: &mut Vec<Problem>) -> FileConfig {
    let mut lookup = Lookup::new(root, problems);
    let mut strings = |found| list(found, problems, string).unwrap_or_default();
    let mut command = strings(lookup.top(&["Entrypoint"]));
    command.extend(strings(lookup.find("args", &["args", "Cmd"])));
    let env = strings(lookup.find("env", &["env"]));
    let workdir = lookup.find("cwd", &["cwd", "WorkingDir"]).and_then(|found| one(found, problems, string));
    let workdir = workdir.filter(|path| !path.is_empty());

    let mut user_problems = Vec::new();
    let user = User {
        uid: lookup.user("uid").and_then(|found| one(found, &mut user_problems, id)),
        gid: lookup.user("gid").and_then(|found| one(found, &mut user_problems, id)),
        groups: list(lookup.user("additionalGids"), &mut user_problems, id).unwrap_or_default(),
    };
    if user.groups.len() > MAX_GROUPS {
        let key = String::from("additionalGids");
        user_problems.push(Problem { key, why: "more than 1024 groups" });
    }
    let tmpfs = lookup.mounts(problems);
    problems.extend(lookup.ambiguous());
    FileConfig { command, env, workdir, user, user_problem: user_problems.into_iter().next(), tmpfs }
}

/// A value and what to call it.
struct Found<'a> {
    key: String,
    value: &'a Value,
}

/// One value of a kind, or a problem. `null` is as good as none.
fn one<T>(
    found: Found<'_>,
    problems: &mut Vec<Problem>,
    read: impl Fn(&Value) -> Result<T, &'static str>,
) -> Option<T> {
    if *found.value == Value::Null {
        return None;
    }
    match read(found.value) {
        Ok(value) => Some(value),
        Err(why) => {
            problems.push(Problem { key: found.key, why });
            None
        }
    }
}

/// A list of values of a kind, or a problem.
fn list<T>(
    found: Option<Found<'_>>,
    problems: &mut Vec<Problem>,
    read: impl Fn(&Value) -> Result<T, &'static str>,
) -> Option<Vec<T>> {
    let all = |value: &Value| match value {
        Value::Array(items) => items.iter().map(&read).collect(),
        _ => Err("not a list"),
    };
    one(found?, problems, all)
}

fn string(value: &Value) -> Result<CString, &'static str> {
    match value {
        Value::String(text) => CString::new(text.clone()).map_err(|_| "a string with a NUL"),
        _ => Err("not a string"),
    }
}

fn id(value: &Value) -> Result<u32, &'static str> {
    match value {
        Value::Number(Some(number)) if *number < NO_ID => {
            u32::try_from(*number).map_err(|_| "not an id from 0 to 4294967294")
        }
        _ => Err("not an id from 0 to 4294967294"),
    }
}
