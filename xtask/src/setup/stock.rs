//! A stock kernel for guests: Debian's cloud kernel as its package has it, and an initial RAM disk of busybox and the
//! package's own virtio modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt;
use crate::cache::{Cache, fingerprint};
use crate::proc::say;

use super::cpio::Archive;
use super::kernel::{only_match, take_modules};
use super::{BUSYBOX, applets};

/// The kernel inside the part, a bzImage.
pub const KERNEL: &str = "vmlinuz";
/// The initial RAM disk inside the part. Not compressed: there is nothing to gain from memory to memory.
pub const INITRAMFS: &str = "initramfs.cpio";

const PACKAGE: &str = "linux-image-cloud-amd64";
const DEPENDENCY: &str = "linux-image-6.";

/// What the guest loads, in load order.
const MODULES: [&str; 9] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_mmio",
    "drivers/char/virtio_console",
    "fs/fuse/fuse",
    "fs/fuse/virtiofs",
    "drivers/input/evdev",
    "drivers/acpi/button",
    "drivers/block/virtio_blk",
];

const INIT: &str = include_str!("../../guest/stock-init.sh");

/// Makes sure both are there.
pub fn part(cache: &Cache) -> Result<PathBuf> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let modules = MODULES.join(" ");
    let recipe = fingerprint([PACKAGE.as_bytes(), modules.as_bytes(), INIT.as_bytes(), &busybox]);
    cache.part("stock", &recipe, |dir| build(cache, dir, &busybox))
}

fn build(cache: &Cache, dir: &Path, busybox: &[u8]) -> Result<()> {
    apt::update()?;
    let package = apt::dependency(PACKAGE, DEPENDENCY)?;
    say(format_args!("fetching a stock kernel for guests, Debian package {package} (about 30 MB)"));
    let tree = dir.join("tree");
    apt::unpack(cache, &package, &tree)?;
    fs::copy(only_match(&tree.join("boot"), "vmlinuz-")?, dir.join(KERNEL))?;
    let modules = dir.join("modules");
    take_modules(&tree, MODULES.into_iter(), &modules)?;
    fs::write(dir.join(INITRAMFS), initramfs(&modules, busybox)?)?;
    fs::write(dir.join("package"), package)?;
    fs::remove_dir_all(&modules)?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

fn initramfs(modules: &Path, busybox: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "mnt", "modules"] {
        archive.directory(directory)?;
    }
    archive.file("bin/busybox", busybox)?;
    for applet in applets(Path::new(BUSYBOX)).iter().filter(|applet| *applet != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    // Numbered, so that a shell's file name order is the load order.
    for (number, path) in MODULES.into_iter().enumerate() {
        let file = modules.join(format!("{}.ko", super::kernel::module_name(path)));
        let content = fs::read(&file).with_context(|| format!("{PACKAGE} has no module {path}"))?;
        archive.file(&format!("modules/{number}"), &content)?;
    }
    archive.file("init", INIT.as_bytes())?;
    archive.finish()
}
