//! Replays the committed corpora: whatever was once worth keeping still does no harm.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use purlin_fuzz_common::TARGETS;

fn fuzz_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn corpora_do_no_harm() {
    for (name, target) in TARGETS {
        for file in entries(&fuzz_dir().join("corpus").join(name)) {
            let input = fs::read(&file).unwrap();
            println!("{}", file.display()); // shown if it fails
            target(&input);
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let programs = entries(&fuzz_dir().join("fuzz_targets")).into_iter().map(stem).collect::<BTreeSet<_>>();
    assert_eq!(programs, names);
    for name in &names {
        assert!(!entries(&fuzz_dir().join("corpus").join(name)).is_empty(), "{name} has an empty corpus");
    }
}
