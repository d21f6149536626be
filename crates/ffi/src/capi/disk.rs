//! Disks. Arguments are checked as libkrun does; there is no block device yet.

use super::guard::{Failure, done};
use super::pointers::{CBool, CText};
use super::table;
use crate::config::Share;

const LAST_FORMAT: u32 = 2;
const LAST_SYNC_MODE: u32 = 2;
const FORMAT_RAW: u32 = 0;
const SYNC_FULL: u32 = 2;

/// A raw image.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_disk(ctx_id: u32, block_id: CText, disk_path: CText, read_only: CBool) -> i32 {
    krun_add_disk3(ctx_id, block_id, disk_path, FORMAT_RAW, read_only, 0, SYNC_FULL)
}

/// An image of some format.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_disk2(
    ctx_id: u32,
    block_id: CText,
    disk_path: CText,
    disk_format: u32,
    read_only: CBool,
) -> i32 {
    krun_add_disk3(ctx_id, block_id, disk_path, disk_format, read_only, 0, SYNC_FULL)
}

/// With a choice of host caching.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_disk3(
    ctx_id: u32,
    block_id: CText,
    disk_path: CText,
    disk_format: u32,
    _read_only: CBool,
    _direct_io: CBool,
    sync_mode: u32,
) -> i32 {
    done(|| {
        disk_path.required("disk_path")?;
        block_id.required("block_id")?;
        at_most("disk_format", disk_format, LAST_FORMAT)?;
        at_most("sync_mode", sync_mode, LAST_SYNC_MODE)?;
        table::with(ctx_id, |_| Err(no_disks()))
    })
}

/// The first disk, as before `krun_add_disk`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_root_disk(ctx_id: u32, disk_path: CText) -> i32 {
    done(|| set_disk(ctx_id, disk_path))
}

/// The second disk, as before `krun_add_disk`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_data_disk(ctx_id: u32, disk_path: CText) -> i32 {
    done(|| set_disk(ctx_id, disk_path))
}

/// A file system on a disk as root. It needs one, and no other root.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_root_disk_remount(
    ctx_id: u32,
    device: CText,
    fstype: CText,
    options: CText,
) -> i32 {
    done(|| {
        device.required("device")?;
        fstype.optional("fstype")?;
        options.optional("options")?;
        table::with(ctx_id, |context| {
            if context.shares.iter().any(Share::is_root) {
                return Err(Failure::invalid("the machine has a root directory already"));
            }
            Err(Failure::invalid("the machine has no disk"))
        })
    })
}

fn set_disk(ctx_id: u32, path: CText) -> Result<(), Failure> {
    path.required("disk_path")?;
    table::with(ctx_id, |_| Err(no_disks()))
}

fn at_most(name: &str, value: u32, last: u32) -> Result<(), Failure> {
    if value > last { Err(Failure::invalid(format!("{name}: {value} is not known"))) } else { Ok(()) }
}

fn no_disks() -> Failure {
    Failure::not_built("block devices")
}
