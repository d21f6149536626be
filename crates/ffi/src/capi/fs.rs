//! The root directory and shares.

use std::borrow::Cow;

use purlin_devices::virtio::fs::{OverlayEntry, OverlayKind, Semantics, TAG_MAX};

use super::guard::{Failure, done};
use super::overlay;
use super::pointers::{CBool, CBytes, CText, CTextList};
use super::table;
use crate::config::{ROOT_TAG, Share};

/// Adds the root: a share of this tag is what the kernel mounts.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_root(ctx_id: u32, root_path: CText) -> i32 {
    done(|| {
        let path = root_path.required("root_path")?;
        table::update(ctx_id, |context| context.add_share(Share::new(ROOT_TAG, path)))
    })
}

/// A share that can be written, without a window.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs(ctx_id: u32, c_tag: CText, c_path: CText) -> i32 {
    krun_add_virtiofs4(ctx_id, c_tag, c_path, 0, 0, 0)
}

/// With the size of the DAX window.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs2(ctx_id: u32, c_tag: CText, c_path: CText, shm_size: u64) -> i32 {
    krun_add_virtiofs4(ctx_id, c_tag, c_path, shm_size, 0, 0)
}

/// With a choice of read-only.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs3(
    ctx_id: u32,
    c_tag: CText,
    c_path: CText,
    shm_size: u64,
    read_only: CBool,
) -> i32 {
    krun_add_virtiofs4(ctx_id, c_tag, c_path, shm_size, read_only, 0)
}

/// With a choice of semantics.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_virtiofs4(
    ctx_id: u32,
    c_tag: CText,
    c_path: CText,
    shm_size: u64,
    read_only: CBool,
    semantics: u32,
) -> i32 {
    done(|| {
        let semantics = match semantics {
            0 => Semantics::Complete,
            1 => Semantics::Simplified,
            _ => return Err(Failure::invalid(format!("semantics: {semantics} is not known"))),
        };
        let tag = c_tag.required("c_tag")?;
        check_tag(&tag)?;
        let share = match c_path.optional("c_path")? {
            Some(path) => Share::new(tag, path),
            None => Share::empty(tag),
        };
        let share = share.semantics(semantics).dax_window(shm_size);
        let share = if read_only == 0 { share } else { share.read_only() };
        table::update(ctx_id, |context| context.add_share(share))
    })
}

/// What fits the device's configuration space (virtio 1.2 §5.11.4).
fn check_tag(tag: &str) -> Result<(), Failure> {
    match tag.len() {
        1..=TAG_MAX => Ok(()),
        len => Err(Failure::invalid(format!("c_tag: {len} bytes, 1 to {TAG_MAX} are possible"))),
    }
}

/// A file that exists only in memory. The bytes are copied, so the caller need not keep them.
#[unsafe(no_mangle)]
pub extern "C" fn krun_fs_add_overlay_file(
    ctx_id: u32,
    fs_tag: CText,
    path: CText,
    data: CBytes,
    data_len: usize,
    mode: u32,
    one_shot: CBool,
) -> i32 {
    done(|| {
        let (tag, path) = (fs_tag.required("fs_tag")?, path.required("path")?);
        let data = Cow::Owned(data.copy("data", data_len)?);
        let kind = OverlayKind::File { data, one_shot: one_shot != 0 };
        add_overlay(ctx_id, &tag, OverlayEntry { path, mode, kind })
    })
}

/// An empty directory that exists only in memory.
#[unsafe(no_mangle)]
pub extern "C" fn krun_fs_add_overlay_dir(ctx_id: u32, fs_tag: CText, path: CText, mode: u32) -> i32 {
    done(|| {
        let (tag, path) = (fs_tag.required("fs_tag")?, path.required("path")?);
        add_overlay(ctx_id, &tag, OverlayEntry { path, mode, kind: OverlayKind::Dir })
    })
}

fn add_overlay(ctx_id: u32, tag: &str, entry: OverlayEntry) -> Result<(), Failure> {
    table::with(ctx_id, |context| {
        let share = context.shares.iter_mut().find(|share| share.tag == tag);
        let share = share.ok_or_else(|| Failure::new(libc::ENOENT, format!("fs_tag: no share {tag:?}")))?;
        overlay::check(&share.overlay, &entry.path)?;
        share.overlay.push(entry);
        Ok(())
    })
}

/// Never did anything.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_mapped_volumes(_ctx_id: u32, _mapped_volumes: CTextList) -> i32 {
    done(|| Err(Failure::invalid("mapped volumes are not supported; use krun_add_virtiofs")))
}
