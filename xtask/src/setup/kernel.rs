//! The L1 kernel: Debian's own, unpacked, with its image decompressed and the few modules that the rig loads.
//!
//! Both are done once here because the emulated machine would need seconds for them at every start: the
//! uncompressed image is entered directly (PVH), and modules without signature and type information load faster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::cache::Cache;
use crate::proc::{self, say};

use super::BUSYBOX;

/// The image inside the part: an ELF file with a PVH entry point.
pub const IMAGE: &str = "vmlinux";
/// The modules inside the part, one file per module, not compressed.
pub const MODULES_DIR: &str = "modules";

/// The package, tried in this order, with the prefix of the package that it depends on. A 6.12 kernel has nested SVM,
/// asynchronous userfaultfd write protection and PAGEMAP_SCAN.
const PACKAGES: [(&str, &str); 2] =
    [("linux-image-6.12-amd64", "linux-image-6.12"), ("linux-image-amd64", "linux-image-6.")];

/// Modules the rig loads at start, in load order; one that is built into the kernel has no file.
pub const EAGER: [&str; 12] = [
    "fs/netfs/netfs",
    "net/9p/9pnet",
    "net/9p/9pnet_virtio",
    "fs/9p/9p",
    "fs/overlayfs/overlay",
    "virt/lib/irqbypass",
    "drivers/crypto/ccp/ccp",
    "arch/x86/kvm/kvm",
    "arch/x86/kvm/kvm-amd",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// Modules the kernel asks for when something first needs them, each with the name it asks for.
pub const LAZY: [(&str, &str); 4] = [
    ("drivers/net/dummy", "rtnl-link-dummy"),
    ("drivers/net/veth", "rtnl-link-veth"),
    ("drivers/net/tun", "char-major-10-200"),
    ("drivers/block/loop", "char-major-10-237"),
];

/// The file name of a module, without its folder.
pub fn module_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn modules() -> impl Iterator<Item = &'static str> {
    EAGER.into_iter().chain(LAZY.into_iter().map(|(path, _)| path))
}

/// Makes sure the kernel is there.
pub fn part(cache: &Cache) -> Result<PathBuf> {
    let recipe = format!("2 {PACKAGES:?} {:?}", modules().collect::<Vec<_>>());
    cache.part("kernel", &recipe, |dir| build(cache, dir))
}

fn build(cache: &Cache, dir: &Path) -> Result<()> {
    let package = choose()?;
    say(format_args!("fetching the L1 kernel, Debian package {package} (about 100 MB)"));
    let tree = dir.join("tree");
    apt::unpack(cache, &package, &tree)?;
    extract_image(&only_match(&tree.join("boot"), "vmlinuz-")?, &dir.join(IMAGE))?;
    take_modules(&tree, modules(), &dir.join(MODULES_DIR))?;
    fs::write(dir.join("package"), package)?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

fn choose() -> Result<String> {
    apt::update()?;
    let mut reasons = Vec::new();
    for (package, prefix) in PACKAGES {
        match apt::dependency(package, prefix) {
            Ok(found) => return Ok(found),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    bail!("no kernel for the rig: {}", reasons.join("; "))
}

/// Copies modules, decompressed and without what only slows loading down.
pub fn take_modules(tree: &Path, modules: impl Iterator<Item = &'static str>, into: &Path) -> Result<()> {
    fs::create_dir(into)?;
    // A merged-/usr package has usr/lib/modules.
    let base =
        ["lib/modules", "usr/lib/modules"].map(|dir| tree.join(dir)).into_iter().find(|dir| dir.is_dir());
    let base = only_match(&base.context("the kernel package has no modules")?, "")?.join("kernel");
    for module in modules {
        let packed = base.join(format!("{module}.ko.xz"));
        let plain = base.join(format!("{module}.ko"));
        let file = into.join(format!("{}.ko", module_name(module)));
        if packed.is_file() {
            let content =
                proc::quiet("unpacking modules", Command::new(BUSYBOX).args(["unxz", "-c"]).arg(&packed))?;
            fs::write(&file, content)?;
        } else if plain.is_file() {
            fs::copy(&plain, &file)?;
        } else {
            continue;
        }
        slim(&file)?;
    }
    Ok(())
}

/// Drops debug and type information, and with it the signature, which the kernel would verify in emulation.
fn slim(module: &Path) -> Result<()> {
    let sections = ["--remove-section=.BTF", "--remove-section=.BTF.base"];
    proc::quiet("slimming modules", Command::new("strip").arg("--strip-debug").args(sections).arg(module))
        .map(drop)
}

/// Takes the compressed kernel out of a bzImage.
fn extract_image(bzimage: &Path, image: &Path) -> Result<()> {
    let bytes = fs::read(bzimage)?;
    let payload = payload(&bytes).with_context(|| format!("{} is no bzImage", bzimage.display()))?;
    let decompressor =
        decompressor(payload).with_context(|| format!("{}: unknown compression", bzimage.display()))?;
    let packed = image.with_extension("packed");
    fs::write(&packed, payload)?;
    let [program, arguments @ ..] = decompressor;
    let mut command = Command::new(program);
    command.args(arguments).stdin(File::open(&packed)?).stdout(File::create(image)?).stderr(Stdio::null());
    // A payload ends with its length, which decompressors rightly call garbage: judge by the result.
    proc::slow("unpacking the kernel image", || proc::status(&mut command))?;
    fs::remove_file(&packed)?;
    let unpacked = File::open(image)?.metadata()?.len();
    if !fs::read(image)?.starts_with(b"\x7fELF") {
        bail!("{program} made {unpacked} bytes of {} that are no ELF image", bzimage.display());
    }
    Ok(())
}

/// The compressed kernel inside a bzImage (kernel documentation, arch/x86/boot: setup_sects, payload_offset,
/// payload_length).
fn payload(bzimage: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = bzimage.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    if bzimage.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = match *bzimage.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    bzimage.get(start..start.checked_add(word(0x24c)?)?)
}

fn decompressor(payload: &[u8]) -> Option<[&'static str; 2]> {
    const MAGICS: [(&[u8], [&str; 2]); 3] = [
        (b"\x28\xb5\x2f\xfd", ["zstd", "-qdc"]),
        (b"\xfd7zXZ\0", ["xz", "-dc"]),
        (b"\x1f\x8b", ["gzip", "-dc"]),
    ];
    MAGICS.into_iter().find(|(magic, _)| payload.starts_with(magic)).map(|(_, command)| command)
}

/// The only entry of `dir` whose name begins with `prefix`.
pub fn only_match(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut matching = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.starts_with(prefix).then(|| entry.path())
    });
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(only),
        (first, _) => {
            bail!("{} {prefix}* in {}", if first.is_some() { "several" } else { "no" }, dir.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_of_a_bzimage() {
        let mut image = vec![0; 0x400 + 64];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&8u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&6u32.to_le_bytes());
        image[0x408..0x40e].copy_from_slice(b"\x28\xb5\x2f\xfdab");
        let found = payload(&image).unwrap();
        assert_eq!(found, b"\x28\xb5\x2f\xfdab");
        assert_eq!(decompressor(found), Some(["zstd", "-qdc"]));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(payload(b"short"), None);
        assert_eq!(payload(&[0; 4096]), None);
        let mut beyond_the_end = vec![0; 4096];
        beyond_the_end[0x202..0x206].copy_from_slice(b"HdrS");
        beyond_the_end[0x248..0x250].fill(0xff);
        assert_eq!(payload(&beyond_the_end), None);
        assert_eq!(decompressor(b"plain"), None);
    }

    #[test]
    fn module_names() {
        assert_eq!(module_name("arch/x86/kvm/kvm-amd"), "kvm-amd");
        assert_eq!(module_name("x"), "x");
    }
}
