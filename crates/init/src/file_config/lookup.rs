//! Where keys are looked for.

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Found, Problem, string};
use crate::json::Value;

type Members = [(Vec<u8>, Value)];

/// A file's objects.
pub(super) struct Lookup<'a> {
    root: &'a Members,
    process: Option<&'a Members>,
    /// Keys that were there more than once, in any spelling.
    ambiguous: Vec<Problem>,
}

impl<'a> Lookup<'a> {
    pub fn new(root: &'a Members, problems: &mut Vec<Problem>) -> Self {
        let mut lookup = Lookup { root, process: None, ambiguous: Vec::new() };
        match lookup.member(root, "", &["process"]).map(|found| found.value) {
            Some(Value::Object(members)) => lookup.process = Some(members),
            Some(Value::Null) | None => {}
            Some(_) => problems.push(Problem { key: String::from("process"), why: "not an object" }),
        }
        lookup
    }

    /// A key of `process`, or, without that object, one of these names.
    pub fn find(&mut self, in_process: &str, names: &[&str]) -> Option<Found<'a>> {
        match self.process {
            Some(process) => self.member(process, "process.", &[in_process]),
            None => self.anywhere(names),
        }
    }

    /// A key of the top level, also beside `process`.
    pub fn top(&mut self, names: &[&str]) -> Option<Found<'a>> {
        if self.process.is_some() { self.member(self.root, "", names) } else { self.anywhere(names) }
    }

    /// A key of `process.user`, or, without `process`, of this name.
    pub fn user(&mut self, name: &str) -> Option<Found<'a>> {
        let Some(process) = self.process else { return self.anywhere(&[name]) };
        let user = self.member(process, "process.", &["user"])?;
        match user.value {
            Value::Object(members) => self.member(members, "process.user.", &[name]),
            Value::Null => None,
            // Its type is wrong, and asking for any of its parts says so.
            _ => Some(user),
        }
    }

    /// Places of tmpfs mounts.
    pub fn mounts(&mut self, problems: &mut Vec<Problem>) -> Vec<CString> {
        let Some(Found { value, .. }) = self.member(self.root, "", &["mounts"]) else { return Vec::new() };
        let mut places = Vec::new();
        let mut wrong = !matches!(value, Value::Array(_) | Value::Null);
        if let Value::Array(items) = value {
            for item in items {
                let Value::Object(members) = item else {
                    wrong = true;
                    continue;
                };
                let mut text = |name| self.member(members, "mounts.", &[name]).map(|found| found.value);
                let mut is_tmpfs = |name| text(name) == Some(&Value::String(b"tmpfs".to_vec()));
                if !(is_tmpfs("type") && is_tmpfs("source")) {
                    continue;
                }
                match text("destination").map(string) {
                    Some(Ok(place)) if place.as_bytes().starts_with(b"/") => places.push(place),
                    _ => problems.push(Problem {
                        key: String::from("mounts.destination"),
                        why: "not an absolute path",
                    }),
                }
            }
        }
        if wrong {
            problems.push(Problem { key: String::from("mounts"), why: "not a list of objects" });
        }
        places
    }

    /// What was found to be ambiguous.
    pub fn ambiguous(self) -> Vec<Problem> {
        self.ambiguous
    }

    /// At the top level, else wherever the text has it first.
    fn anywhere(&mut self, names: &[&str]) -> Option<Found<'a>> {
        self.member(self.root, "", names).or_else(|| first(self.root, names))
    }

    /// A member of an object by any of its names.
    fn member(&mut self, object: &'a Members, place: &str, names: &[&str]) -> Option<Found<'a>> {
        let mut all = object.iter().filter(|(key, _)| matches(key, names));
        let (key, value) = all.next()?;
        let mut label = String::from(place);
        label.push_str(&String::from_utf8_lossy(key));
        if all.next().is_some() {
            let why = "given more than once, the first counts";
            let problem = Problem { key: label.clone(), why };
            if !self.ambiguous.contains(&problem) {
                self.ambiguous.push(problem);
            }
        }
        Some(Found { key: label, value })
    }
}

fn matches(key: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()))
}

/// Depth first, in the order of the text. The reader has bounded the depth.
fn first<'a>(members: &'a Members, names: &[&str]) -> Option<Found<'a>> {
    members.iter().find_map(|(key, value)| {
        if matches(key, names) {
            return Some(Found { key: String::from_utf8_lossy(key).into_owned(), value });
        }
        within(value, names)
    })
}

fn within<'a>(value: &'a Value, names: &[&str]) -> Option<Found<'a>> {
    match value {
        Value::Object(members) => first(members, names),
        Value::Array(items) => items.iter().find_map(|item| within(item, names)),
        _ => None,
    }
}
