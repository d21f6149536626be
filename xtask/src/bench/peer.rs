//! The library that ours is measured beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, fingerprint};
use crate::proc::{self, say};

const MANIFEST: &str = include_str!("../../peer/Cargo.toml.in");
const LOCK: &str = include_str!("../../peer/Cargo.lock.in");

const FILE: &str = "libkrun.so";

/// libkrun 1.19.7 as its crate builds it, from the cache.
pub fn libkrun(cache: &Cache) -> Result<PathBuf> {
    let recipe = fingerprint([MANIFEST, LOCK].map(str::as_bytes));
    Ok(cache.part("libkrun-1.19.7", &recipe, build)?.join(FILE))
}

fn build(dir: &Path) -> Result<()> {
    say("building libkrun 1.19.7 from crates.io, to measure beside ours (minutes, once)");
    fs::write(dir.join("Cargo.toml"), MANIFEST)?;
    fs::write(dir.join("Cargo.lock"), LOCK)?;
    fs::write(dir.join("lib.rs"), "")?;
    let target = dir.join("target");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--package", "libkrun", "--target-dir"]).arg(&target);
    proc::run(cargo.current_dir(dir))
        .context("libkrun's init is a static C program: that needs gcc and libc6-dev")?;
    fs::copy(target.join("release").join(FILE), dir.join(FILE))?;
    fs::remove_dir_all(&target)?;
    Ok(())
}
