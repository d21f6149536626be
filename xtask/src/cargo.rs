//! Driving cargo: where this workspace is, what it contains, and building parts of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::proc::{self, say};

/// The root of this workspace.
pub fn workspace() -> PathBuf {
    // Cargo sets the first for `cargo xtask`; the second is where this program was compiled.
    let manifest_dir =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest_dir).parent().unwrap_or(Path::new("/")).to_owned()
}

/// `cargo` with `args`, in the root of the workspace.
pub fn cargo(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(workspace());
    command
}

/// A target of a package in the workspace, by `cargo metadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The package's name.
    pub package: String,
    /// `lib`, `cdylib`, `bin`, `test`, `example`...
    pub kinds: Vec<String>,
    /// The target's name.
    pub name: String,
    /// The package's directory.
    pub dir: PathBuf,
}

impl Target {
    /// Whether `kind` is one of its kinds.
    pub fn is(&self, kind: &str) -> bool {
        self.kinds.iter().any(|own| own == kind)
    }
}

/// All targets of the workspace, and where cargo puts what it builds.
pub struct Metadata {
    /// All targets of all packages of the workspace.
    pub targets: Vec<Target>,
    /// The target directory.
    pub target_dir: PathBuf,
}

/// Asks cargo about the workspace.
pub fn metadata() -> Result<Metadata> {
    let json =
        proc::quiet("reading the workspace", &mut cargo(["metadata", "--no-deps", "--format-version=1"]))?;
    parse_metadata(&serde_json::from_slice(&json)?).context("`cargo metadata` is not as expected")
}

fn parse_metadata(json: &Value) -> Option<Metadata> {
    let mut targets = Vec::new();
    for package in json["packages"].as_array()? {
        let dir = Path::new(package["manifest_path"].as_str()?).parent()?;
        for target in package["targets"].as_array()? {
            targets.push(Target {
                package: text(&package["name"])?,
                kinds: target["kind"].as_array()?.iter().filter_map(text).collect(),
                name: text(&target["name"])?,
                dir: dir.to_owned(),
            });
        }
    }
    Some(Metadata { targets, target_dir: text(&json["target_directory"])?.into() })
}

/// An option for release builds of what is not installed: without optimisation at link time, which takes a minute for every
/// program.
pub const QUICK: &str = "--config=profile.release.lto=\"off\"";

/// Runs `cargo` with `args`, which make it build something, and returns the files it made or found up to date: libraries
/// and programs. Its progress is shown.
pub fn build(args: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = cargo(args);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot run `cargo`")?;
    if !output.status.success() {
        bail!("`cargo {}` failed", args.join(" "));
    }
    artifacts(&output.stdout)
}

/// The files in cargo's JSON messages: the executable where there is one, else the libraries.
fn artifacts(messages: &[u8]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in messages.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages are not as expected")?;
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        match text(&message["executable"]) {
            Some(executable) => files.push(executable.into()),
            None => {
                let names = message["filenames"].as_array().into_iter().flatten();
                files.extend(names.filter_map(text).map(PathBuf::from));
            }
        }
    }
    Ok(files)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The one of `files` with this name.
pub fn named(files: Vec<PathBuf>, name: &str) -> Result<PathBuf> {
    files
        .into_iter()
        .find(|file| file.file_name().is_some_and(|own| own == name))
        .with_context(|| format!("cargo built no {name}"))
}

/// Installs the cargo subcommand in crate `crate_name` if it is missing.
pub fn need_subcommand(crate_name: &str) -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let in_cargo_home = home.is_some_and(|home| home.join("bin").join(crate_name).is_file());
    if in_cargo_home || proc::find(crate_name).is_some() {
        return Ok(());
    }
    say(format_args!("{crate_name} is missing: installing it with `cargo install --locked {crate_name}`"));
    proc::run(&mut cargo(["install", "--locked", crate_name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_from_metadata() {
        let json = serde_json::json!({
            "target_directory": "/t",
            "packages": [{ "name": "purlin", "manifest_path": "/w/ffi/Cargo.toml", "targets": [
                { "name": "purlin", "kind": ["cdylib", "lib"] }, { "name": "rig_boot", "kind": ["test"] } ] }]
        });
        let metadata = parse_metadata(&json).unwrap();
        assert_eq!(metadata.target_dir, Path::new("/t"));
        assert_eq!(metadata.targets.len(), 2);
        assert_eq!(metadata.targets[0].dir, Path::new("/w/ffi"));
        assert!(metadata.targets[0].is("cdylib") && !metadata.targets[0].is("test"));
        assert!(parse_metadata(&serde_json::json!({ "packages": [{}] })).is_none());
    }

    #[test]
    fn files_from_messages() {
        let messages = br#"{"reason":"compiler-artifact","executable":"/t/test-1","filenames":["/t/test-1"]}
{"reason":"compiler-artifact","executable":null,"filenames":["/t/libx.so","/t/libx.rlib"]}
{"reason":"build-finished","success":true}
"#;
        let files = artifacts(messages).unwrap();
        assert_eq!(files, ["/t/test-1", "/t/libx.so", "/t/libx.rlib"].map(PathBuf::from));
        assert_eq!(named(files.clone(), "libx.so").unwrap(), Path::new("/t/libx.so"));
        assert!(named(files, "liby.so").is_err());
    }
}
