//! The initial file system of the emulated machine: busybox, kernel modules and the init script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, fingerprint};
use crate::proc;

use super::cpio::Archive;
use super::{BUSYBOX, kernel};

/// The archive inside the part. Not compressed: the machine would only have to decompress it.
pub const FILE: &str = "initramfs.cpio";

const INIT: &str = include_str!("../../rig/init.sh");
const JOB: &str = include_str!("../../rig/job.sh");
const HOLD_KVM: &str = include_str!("../../rig/hold-kvm.c");

/// Makes sure the archive is there and newer than anything that goes into it.
pub fn part(cache: &Cache, kernel: &Path) -> Result<PathBuf> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let package = fs::read(kernel.join("package"))?;
    let lists = format!("{:?} {:?}", kernel::EAGER, kernel::LAZY);
    let recipe = fingerprint([
        INIT.as_bytes(),
        JOB.as_bytes(),
        HOLD_KVM.as_bytes(),
        lists.as_bytes(),
        &package,
        &busybox,
    ]);
    cache.part("initramfs", &recipe, |dir| {
        let archive = build(kernel, &busybox, &compile_hold_kvm(dir)?)?;
        Ok(fs::write(dir.join(FILE), archive)?)
    })
}

fn compile_hold_kvm(dir: &Path) -> Result<Vec<u8>> {
    let (source, program) = (dir.join("hold-kvm.c"), dir.join("hold-kvm"));
    fs::write(&source, HOLD_KVM)?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-s", "-Wall", "-Werror", "-o"]).args([&program, &source]);
    proc::quiet("compiling hold-kvm", &mut cc)?;
    Ok(fs::read(&program)?)
}

fn build(kernel: &Path, busybox: &[u8], hold_kvm: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "eager", "lazy", "proc", "sys", "dev", "lower", "upper", "root"] {
        archive.directory(directory)?;
    }
    archive.file("bin/busybox", busybox)?;
    archive.file("bin/hold-kvm", hold_kvm)?;
    archive.file("init", INIT.as_bytes())?;
    archive.file("job.sh", JOB.as_bytes())?;
    let modules = kernel.join(kernel::MODULES_DIR);
    // Numbered, so that a shell's file name order is the load order.
    for (number, path) in kernel::EAGER.into_iter().enumerate() {
        add(&mut archive, &modules, path, &format!("eager/{number:02}"))?;
    }
    for (path, alias) in kernel::LAZY {
        add(&mut archive, &modules, path, &format!("lazy/{alias}"))?;
    }
    archive.finish()
}

fn add(archive: &mut Archive, modules: &Path, path: &str, entry: &str) -> Result<()> {
    let file = modules.join(format!("{}.ko", kernel::module_name(path)));
    match fs::read(&file) {
        Ok(content) => archive.file(entry, &content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}
