//! libkrunfw, the guest kernel with TSI in a shared library, as a Python wheel carries it. It is GPL-2.0 and is only
//! ever fetched and loaded, never distributed with this project.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::cache::Cache;
use crate::proc::{self, say};

/// The library inside the part, under its SONAME.
pub const FILE: &str = "libkrunfw.so.5";

const WHEEL: &str = "microsandbox==0.7.11";
const WHEEL_SHA256: &str = "65f1e4bbf8d721c9f7f557329fb6c8cf41f554c1c6942eac8b941198fa283fe0";
const PLATFORM: &str = "manylinux_2_28_x86_64";
const MEMBER_DIR: &str = "microsandbox/_bundled/lib";

/// Makes sure libkrunfw is there.
pub fn part(cache: &Cache) -> Result<PathBuf> {
    cache.part("firmware", &format!("1 {WHEEL} {WHEEL_SHA256}"), |dir| build(cache, dir))
}

fn build(cache: &Cache, dir: &Path) -> Result<()> {
    if !has_pip() {
        apt::install(cache, &["python3-pip"])?;
    }
    say(format_args!("fetching libkrunfw from the Python wheel {WHEEL} (48 MB)"));
    let work = dir.join("wheel");
    fs::create_dir(&work)?;
    let wanted = work.join("requirements.txt");
    fs::write(&wanted, format!("{WHEEL} --hash=sha256:{WHEEL_SHA256}\n"))?;
    let mut pip = python(&["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--platform", PLATFORM, "--require-hashes", "--dest"]).arg(&work);
    proc::quiet("downloading the wheel", pip.arg("--requirement").arg(&wanted))?;
    let wheel = find(&work, |name| name.ends_with(".whl"))?;
    proc::quiet("unpacking the wheel", python(&["-m", "zipfile", "-e"]).arg(&wheel).arg(&work))?;
    let library = find(&work.join(MEMBER_DIR), |name| name.starts_with(FILE))?;
    fs::rename(library, dir.join(FILE))?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

fn has_pip() -> bool {
    python(&["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn python(args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(args);
    command
}

fn find(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_wanted) {
            return Ok(entry.path());
        }
    }
    bail!("{WHEEL} is not as expected: nothing suitable in {}", dir.display())
}
