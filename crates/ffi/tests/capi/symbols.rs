//! The symbols of the library.

use std::collections::BTreeSet;
use std::process::Command;

use crate::c::{library, succeeds};

const LIST: &str = include_str!("../c/symbols.txt");

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
