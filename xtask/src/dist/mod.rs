//! `cargo xtask dist`: the shared library laid out as a distribution installs it.

mod pkg_config;
mod soname;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::args::{Arg, Args};
use crate::cargo;
use crate::proc::say;

/// Shown by `cargo xtask dist --help`.
pub const HELP: &str = "\
cargo xtask dist DIR

Builds the release shared library and lays it out below DIR for programs that use libkrun:

  DIR/lib/libkrun.so.1.19.7        the library; its SONAME, libkrun.so.1, is checked
  DIR/lib/libkrun.so.1, libkrun.so links to it
  DIR/lib/pkgconfig/libkrun.pc     for pkg-config --cflags --libs libkrun
  DIR/include/libkrun.h            the C header, with libkrun_display.h and libkrun_input.h

The number is the libkrun version whose C API the library has.
";

/// The package with the C API.
const PACKAGE: &str = "purlin";
/// What cargo calls its shared library.
pub const BUILT: &str = "libpurlin.so";
/// The libkrun version whose C API it has.
const VERSION: &str = "1.19.7";
const SONAME: &str = "libkrun.so.1";
/// Where the C headers are in the workspace.
const INCLUDE: &str = "crates/ffi/include";
/// The C headers; clients find all of them whatever the library has.
const HEADERS: [&str; 3] = ["libkrun.h", "libkrun_display.h", "libkrun_input.h"];

/// Runs the command.
pub fn main(mut args: Args) -> Result<ExitCode> {
    let Some(Arg::Positional(dir)) = args.next()? else { bail!("no directory; usage: cargo xtask dist DIR") };
    args.finish()?;
    install_into(&build_library()?, &std::path::absolute(dir)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Lays the library out below `dir`, with this workspace's headers.
pub fn install_into(library: &Path, dir: &Path) -> Result<()> {
    lay_out(library, &cargo::workspace().join(INCLUDE), dir)
}

/// Builds the release shared library and returns where it is.
pub fn build_library() -> Result<PathBuf> {
    // Nothing else beside it: a library that is also an rlib is not optimised at link time.
    let args = ["rustc", "--release", "--lib", "--crate-type", "cdylib", "--package", PACKAGE];
    let library = cargo::named(cargo::build(&args)?, BUILT)?;
    let found = soname::read(&fs::read(&library)?).with_context(|| library.display().to_string())?;
    if found != SONAME {
        bail!("{} has the SONAME {found}, not {SONAME}", library.display());
    }
    Ok(library)
}

/// Installs the library, and the headers in `include`, below `dir`.
fn lay_out(library: &Path, include: &Path, dir: &Path) -> Result<()> {
    let lib = dir.join("lib");
    let file = lib.join(format!("libkrun.so.{VERSION}"));
    install(library, &file, 0o755)?;
    for (link, target) in [(SONAME, format!("libkrun.so.{VERSION}")), ("libkrun.so", SONAME.to_owned())] {
        let link = lib.join(link);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
        }
        symlink(&target, &link).with_context(|| format!("cannot create {}", link.display()))?;
        say(format_args!("{} -> {target}", link.display()));
    }
    for header in HEADERS {
        install(&include.join(header), &dir.join("include").join(header), 0o644)?;
    }
    let pkg_config = lib.join("pkgconfig/libkrun.pc");
    create_parent(&pkg_config)?;
    let prefix = dir.to_str().context("the directory's name is not UTF-8")?;
    fs::write(&pkg_config, pkg_config::text(prefix, VERSION))?;
    say(pkg_config.display());
    Ok(())
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    create_parent(to)?;
    // Beside it first: a running program may have the old one mapped.
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, to)?;
    say(to.display());
    Ok(())
}

fn create_parent(file: &Path) -> Result<()> {
    let parent = file.parent().unwrap_or(file);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_complete_and_can_be_repeated() {
        let home = tempfile::tempdir().unwrap();
        let (library, include, dir) = (home.path().join("l"), home.path(), home.path().join("dist"));
        fs::write(&library, "library").unwrap();
        for header in HEADERS {
            fs::write(include.join(header), header).unwrap();
        }
        for _ in 0..2 {
            lay_out(&library, include, &dir).unwrap();
        }
        assert_eq!(fs::read_to_string(dir.join("lib/libkrun.so")).unwrap(), "library");
        assert_eq!(fs::read_link(dir.join("lib/libkrun.so")).unwrap(), Path::new("libkrun.so.1"));
        assert_eq!(fs::read_link(dir.join("lib/libkrun.so.1")).unwrap(), Path::new("libkrun.so.1.19.7"));
        assert_eq!(
            fs::metadata(dir.join("lib/libkrun.so.1.19.7")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        for header in HEADERS {
            assert_eq!(fs::read_to_string(dir.join("include").join(header)).unwrap(), header);
        }
        assert!(
            fs::read_to_string(dir.join("lib/pkgconfig/libkrun.pc")).unwrap().contains("Version: 1.19.7")
        );
    }
}
