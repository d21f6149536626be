//! Debian packages: installs what is missing, and fetches packages to unpack without installing them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::proc::{self, say};

/// Installs `packages` (none is fine), after saying which.
pub fn install(cache: &Cache, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if proc::find("apt-get").is_none() {
        bail!(
            "missing here: the equivalent of Debian's {names}; there is no apt-get, so please install them"
        );
    }
    let _lock = cache.lock("apt")?;
    say(format_args!("installing Debian packages: {names}"));
    update()?;
    proc::quiet(
        "installing packages",
        apt().args(["install", "-y", "--no-install-recommends"]).args(packages),
    )
    .with_context(|| format!("as root, this is: apt-get install {names}"))?;
    Ok(())
}

/// Downloads the newest of `package` and unpacks it below `into`, without installing it.
pub fn unpack(cache: &Cache, package: &str, into: &Path) -> Result<()> {
    let _lock = cache.lock("apt")?;
    update()?;
    let deb_dir = into.join("deb");
    std::fs::create_dir_all(&deb_dir)?;
    proc::quiet(&format!("downloading {package}"), apt().current_dir(&deb_dir).args(["download", package]))?;
    let deb = only_file(&deb_dir)?;
    proc::quiet(&format!("unpacking {package}"), Command::new("dpkg").arg("-x").args([&deb, into]))?;
    std::fs::remove_dir_all(&deb_dir)?;
    Ok(())
}

/// The package that the metapackage `package` stands for: its first dependency whose name begins with `prefix`.
pub fn dependency(package: &str, prefix: &str) -> Result<String> {
    let listing = proc::quiet("asking apt", Command::new("apt-cache").args(["depends", package]))?;
    first_dependency(&String::from_utf8_lossy(&listing), prefix)
        .with_context(|| format!("apt knows no {package} that depends on a {prefix}..."))
}

fn first_dependency(listing: &str, prefix: &str) -> Option<String> {
    listing
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

/// Brings the package lists up to date; old lists name versions that the archive no longer has.
pub fn update() -> Result<()> {
    proc::quiet("updating the package lists", apt().arg("update")).map(drop)
}

fn apt() -> Command {
    let root = rustix::process::geteuid().is_root();
    let mut command = if root || proc::find("sudo").is_none() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "apt-get"]);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=600"]);
    command
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    let mut files = std::fs::read_dir(dir)?;
    let file = files.next().with_context(|| format!("{} is empty", dir.display()))??;
    Ok(file.path())
}

#[cfg(test)]
mod tests {
    use super::first_dependency;

    #[test]
    fn the_kernel_behind_a_metapackage() {
        let listing =
            "linux-image-6.12-amd64\n  Depends: firmware\n  Depends: linux-image-6.12.9+deb12-amd64\n";
        let found = first_dependency(listing, "linux-image-6.12");
        assert_eq!(found.as_deref(), Some("linux-image-6.12.9+deb12-amd64"));
        assert_eq!(first_dependency("x\n  Suggests: linux-image-6.12.9", "linux-image-6.12"), None);
    }
}
