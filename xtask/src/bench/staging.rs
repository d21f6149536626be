//! A directory with everything that a bench runs, so that the rig can copy it to memory in one go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, remove_dir};
use crate::cargo;
use crate::dist;
use crate::proc;
use crate::setup::Guest;

use super::{Tool, peer};

const CLIENT: &str = include_str!("../../bench/client.c");
/// Where the benches' scripts copy the staging directory to, inside the rig.
const PLACE: &str = "/run/bench";
const INTERPRETER: &str = "ld-linux-x86-64.so.2";

/// The staging directory, filled.
pub struct Staging {
    /// Where it is.
    pub dir: PathBuf,
    /// The names of the libraries, as the scripts take them, in the order asked for.
    pub names: Vec<String>,
}

/// Builds what is asked for and fills the directory with it: `client`, `lib/NAME.so`, `lib/` with what they are linked
/// to and the guest kernel, `tools`, and the guest's `root`, with the `tools` too.
pub fn prepare(cache: &Cache, guest: &Guest, libraries: &[String], tools: &[Tool]) -> Result<Staging> {
    let mut files = BTreeMap::new();
    for library in libraries {
        if !files.contains_key(library) {
            files.insert(library.clone(), locate(cache, library)?);
        }
    }
    let dir = cargo::metadata()?.target_dir.join("xtask-bench");
    let lib = dir.join("lib");
    remove_dir(&dir)?;
    fs::create_dir_all(&lib)?;
    let names = names(libraries);
    for (name, library) in names.iter().zip(libraries) {
        copy(&files[library], &lib.join(format!("{name}.so")))?;
    }
    for file in files.values() {
        for needed in needed(file)? {
            let name = needed.file_name().context("ldd names no file")?;
            copy(&needed, &lib.join(name))?;
        }
    }
    copy(&guest.firmware, &lib.join("libkrunfw.so.5"))?;
    compile_client(&dir)?;
    proc::quiet(
        "copying the root directory",
        Command::new("cp").arg("-a").arg(&guest.root).arg(dir.join("root")),
    )?;
    compile_tools(&dir, tools)?;
    Ok(Staging { dir, names })
}

fn locate(cache: &Cache, library: &str) -> Result<PathBuf> {
    match library {
        "ours" => dist::build_library(),
        "libkrun" => peer::libkrun(cache),
        "qemu" => proc::find("qemu-system-x86_64").context("there is no qemu-system-x86_64"),
        path => {
            let file = Path::new(path);
            if !file.is_file() {
                bail!("{path} is neither a file nor `ours` nor `libkrun`");
            }
            Ok(file.to_owned())
        }
    }
}

/// A name for each library that is one word and unlike the others.
fn names(libraries: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for library in libraries {
        let stem = Path::new(library).file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split(".so").next().unwrap_or_default();
        let word = stem.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let same = names.iter().filter(|name| name.split('~').next() == Some(&word)).count();
        names.push(if same == 0 { word } else { format!("{word}~{}", same + 1) });
    }
    names
}

/// The shared libraries that `file` is linked to, and its interpreter.
fn needed(file: &Path) -> Result<Vec<PathBuf>> {
    let listing = proc::quiet("listing libraries", Command::new("ldd").arg(file))?;
    let listing = String::from_utf8_lossy(&listing);
    if listing.contains("not found") {
        bail!("{} is linked to libraries that are not here:\n{listing}", file.display());
    }
    Ok(paths(&listing))
}

/// The absolute paths in what `ldd` prints: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn paths(listing: &str) -> Vec<PathBuf> {
    let path =
        |line: &str| line.split_ascii_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    listing.lines().filter_map(path).collect()
}

fn compile_client(dir: &Path) -> Result<()> {
    let interpreter = format!("-Wl,--dynamic-linker={PLACE}/lib/{INTERPRETER}");
    compile(dir, "client", CLIENT, &["-ldl", &interpreter])
}

fn compile_tools(dir: &Path, tools: &[Tool]) -> Result<()> {
    let places = [dir.join("tools"), dir.join("root/tools")];
    for place in &places {
        fs::create_dir_all(place)?;
    }
    for tool in tools {
        compile(&places[0], tool.name, tool.source, &["-static", "-pthread"])?;
        copy(&places[0].join(tool.name), &places[1].join(tool.name))?;
    }
    Ok(())
}

/// Compiles a C program of one file in `dir`.
fn compile(dir: &Path, name: &str, source: &str, options: &[&str]) -> Result<()> {
    let file = dir.join(name).with_extension("c");
    fs::write(&file, source)?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall", "-Werror", "-o"]).arg(dir.join(name)).arg(&file).args(options);
    proc::quiet("compiling a C program", &mut cc)?;
    fs::remove_file(file)?;
    Ok(())
}

/// Copies a file.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_differ() {
        let libraries = ["ours", "libkrun", "ours", "/tmp/my lib.so.1"].map(str::to_owned);
        assert_eq!(names(&libraries), ["ours", "libkrun", "ours~2", "my-lib"]);
    }

    #[test]
    fn paths_from_ldd() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            paths(listing),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
    }
}
