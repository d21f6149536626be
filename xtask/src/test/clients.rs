//! What the tests with client programs need: the library as it is installed, and a client through libkrun's published
//! bindings, which generate themselves from the installed header.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache::{Cache, fingerprint};
use crate::proc::{self, say};
use crate::{apt, cargo, dist};

const MANIFEST: &str = include_str!("../../krun-sys/Cargo.toml.in");
const LOCK: &str = include_str!("../../krun-sys/Cargo.lock.in");
const MAIN: &str = include_str!("../../krun-sys/main.rs.in");

const CLIENT: &str = "krun-sys-client";

/// Where it all is.
pub struct Clients {
    /// The prefix that the library is installed into.
    pub prefix: PathBuf,
    /// The client through krun-sys.
    pub krun_sys: PathBuf,
}

impl Clients {
    /// Variables by which tests find it.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("PURLIN_PREFIX", &self.prefix), ("PURLIN_KRUN_SYS_CLIENT", &self.krun_sys)]
    }
}

/// Builds and installs what is not there.
pub fn prepare(cache: &Cache, library: &Path, target_dir: &Path) -> Result<Clients> {
    let mut missing = Vec::new();
    missing.extend(proc::find("cc").is_none().then_some("gcc"));
    missing.extend(proc::find("pkg-config").is_none().then_some("pkg-config"));
    missing.extend((!has_libclang()).then_some("libclang-dev"));
    apt::install(cache, &missing)?;

    let prefix = target_dir.join("test-prefix");
    dist::install_into(library, &prefix)?;
    let header = fs::read(cargo::workspace().join("crates/ffi/include/libkrun.h"))?;
    let recipe = fingerprint([MANIFEST.as_bytes(), LOCK.as_bytes(), MAIN.as_bytes(), &header]);
    let part = cache.part(CLIENT, &recipe, |dir| build(dir, &prefix))?;
    Ok(Clients { prefix, krun_sys: part.join(CLIENT) })
}

fn build(dir: &Path, prefix: &Path) -> Result<()> {
    say(
        "building a client with krun-sys from crates.io, whose bindings come from the installed header (once per header)",
    );
    fs::write(dir.join("Cargo.toml"), MANIFEST)?;
    fs::write(dir.join("Cargo.lock"), LOCK)?;
    fs::write(dir.join("main.rs"), MAIN)?;
    let target = dir.join("target");
    let mut command = Command::new("cargo");
    command.args(["build", "--locked", "--target-dir"]).arg(&target).current_dir(dir);
    proc::run(command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))?;
    fs::copy(target.join("debug").join(CLIENT), dir.join(CLIENT))?;
    fs::remove_dir_all(&target)?;
    Ok(())
}

/// Whether the generator of bindings will find a libclang, where Debian puts it or where it is told to look.
fn has_libclang() -> bool {
    let in_versions = || {
        let versions = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let llvms = versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"));
        llvms.map(|llvm| llvm.path().join("lib/libclang.so")).any(|library| library.exists())
    };
    std::env::var_os("LIBCLANG_PATH").is_some() || in_versions()
}
