//! The root directory and shares.

use purlin_devices::virtio::fs::TAG_MAX;

use super::guard::{Failure, done};
use super::pointers::{CBool, CText};
use super::table;
use crate::config::{ROOT_TAG, Share};

/// Adds the root: a share of this tag is what the kernel mounts.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_root(ctx_id: u32, root_path: CText) -> i32 {
    done(|| {
        let path = root_path.required("root_path")?;
        table::update(ctx_id, |context| context.shares.push(Share::new(ROOT_TAG, path)))
    })
}

/// A share that can be written, without a window.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs(ctx_id: u32, c_tag: CText, c_path: CText) -> i32 {
    done(|| add_share(ctx_id, c_tag, c_path, false))
}

/// With the size of the DAX window; there is none yet, and the guest reads through requests instead.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs2(ctx_id: u32, c_tag: CText, c_path: CText, _shm_size: u64) -> i32 {
    done(|| add_share(ctx_id, c_tag, c_path, false))
}

/// With a choice of read-only.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs3(
    ctx_id: u32,
    c_tag: CText,
    c_path: CText,
    _shm_size: u64,
    read_only: CBool,
) -> i32 {
    done(|| add_share(ctx_id, c_tag, c_path, read_only != 0))
}

fn add_share(ctx_id: u32, tag: CText, path: CText, read_only: bool) -> Result<(), Failure> {
    let tag = tag.required("c_tag")?;
    check_tag(&tag)?;
    let mut share = match path.optional("c_path")? {
        Some(path) => Share::new(tag, path),
        None => Share::empty(tag),
    };
    if read_only {
        share = share.read_only();
    }
    table::update(ctx_id, |context| context.shares.push(share))
}

/// What fits the device's configuration space (virtio 1.2 §5.11.4).
fn check_tag(tag: &str) -> Result<(), Failure> {
    match tag.len() {
        1..=TAG_MAX => Ok(()),
        len => Err(Failure::invalid(format!("c_tag: {len} bytes, 1 to {TAG_MAX} are possible"))),
    }
}
