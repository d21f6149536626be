//! `bench stock`: a stock kernel until its init runs, beside QEMU's microvm machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::setup::Guest;

use super::Bench;
use super::staging::copy;

/// The bench.
pub const BENCH: Bench = Bench {
    name: "stock",
    script: include_str!("../../bench/stock.sh"),
    tools: &[],
    seconds_per_round: 120,
    targets: &[("boot-to-init", 0.8)],
    collect: None,
};

/// What the microvm machine is made of, and where Debian has it.
const FIRMWARE: [&str; 4] = [
    "/usr/share/qemu/bios-microvm.bin",
    "/usr/share/qemu/qboot.rom",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
];

/// Adds the stock kernel and QEMU's firmware to the staging directory.
pub fn stage(dir: &Path, guest: &Guest) -> Result<()> {
    let (stock, firmware) = (dir.join("stock"), dir.join("firmware"));
    fs::create_dir_all(&stock)?;
    for name in ["vmlinuz", "initramfs.cpio"] {
        copy(&guest.stock.join(name), &stock.join(name))?;
    }
    fs::create_dir_all(&firmware)?;
    for file in FIRMWARE.map(Path::new) {
        let name = file.file_name().context("a firmware file has no name")?;
        copy(file, &firmware.join(name))?;
    }
    Ok(())
}
