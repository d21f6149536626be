//! The symbols of the library.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::c::{Bench, library, succeeds};

const LIST: &str = include_str!("../c/symbols.txt");
const TABLE: &str = include_str!("../../SYMBOLS.md");

/// What the library exports, without mangled names, which are no interface.
pub fn exported() -> BTreeSet<String> {
    let text = succeeds(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library()));
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn exactly_those_of_the_list_are_exported() {
    let listed: BTreeSet<String> =
        LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let exported = exported();
    let missing: Vec<_> = listed.difference(&exported).collect();
    let more: Vec<_> = exported.difference(&listed).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing: {missing:?}; not in the list: {more:?}");
}

#[test]
fn the_library_has_its_name() {
    let text = succeeds(Command::new("readelf").arg("-d").arg(library()));
    assert!(text.contains("Library soname: [libkrun.so.1]"), "{text}");
}

/// Name and state of every row of the table.
fn table() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for row in TABLE.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = row.split_once("` | ").unwrap();
        let (state, _) = rest.split_once(" |").unwrap();
        assert_eq!(rows.insert(name.to_owned(), state.to_owned()), None, "{name} has two rows");
    }
    rows
}

#[test]
fn the_table_has_every_symbol() {
    assert_eq!(table().into_keys().collect::<BTreeSet<_>>(), exported());
    let libkruns = TABLE.split("\nDeclared").next().unwrap().matches("\n| `krun_").count();
    assert_eq!(libkruns, 67);
}

#[test]
fn the_table_says_what_calls_answer() {
    let bench = Bench::new();
    bench.bundle();
    bench.program("states");
    std::fs::create_dir(bench.path("root")).unwrap();
    let answers = succeeds(bench.command("states").arg("root"));
    let mut table = table();
    for line in answers.lines() {
        let (name, answer) = line.split_once(' ').unwrap();
        let answer: i32 = answer.parse().unwrap();
        let state =
            table.remove(name).unwrap_or_else(|| panic!("{name} is called twice, or not in the table"));
        let good = match state.as_str() {
            "works" | "accepted" => answer >= 0,
            "refused" => answer == -libc::EINVAL,
            "never" | "not yet" => answer == -libc::ENOTSUP,
            _ => false,
        };
        assert!(good, "{name}: {state:?}, but it gives {answer}");
    }
    assert!(table.is_empty(), "not called: {table:?}");
}
