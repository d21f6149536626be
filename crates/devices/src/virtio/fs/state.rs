//! A session's saved form.
//!
//! Nodes are saved as places and identities, handles as nodes and flags; nothing is opened on restore but what the
//! guest has mapped in the window.
//! What cannot be found again, or is another object then, answers ESTALE when the guest uses it. Directory
//! positions travel in every READDIR request, so a directory handle is its node. Locks are the guest
//! kernel's own.

use std::ffi::CString;
use std::sync::Arc;

use purlin_snapshot::{DecodeError, MAX_SECTION_LEN, Reader, Writer};
use purlin_vmm_core::memory::Window;
use rustix::fs::OFlags;

use super::maps::{MAX_MAPS, Mapped};
use super::names::{NAME_MAX, component};
use super::nodes::{Identity, Node, Place, ROOT};
use super::server::{Dax, FileServer, Handle, OVERLAY, Share, again, host_flags};
use crate::virtio::{DeviceType, RestoreError, SaveError};

/// More nodes than this do not fit into a section.
const MAX_NODES: u32 = 1 << 20;
const MAX_HANDLES: u32 = 1 << 20;
const MAX_OVERLAY: u32 = 1 << 20;
/// Most handles that are saved.
const SAVED_HANDLES: usize = 1 << 16;
/// What a section has room for besides nodes.
const BESIDES_NODES: usize = 2 << 20;
/// Bytes of a handle, and of a mapping.
const HANDLE_LEN: usize = 21;
const MAP_LEN: usize = 33;
const _: () = assert!(SAVED_HANDLES * HANDLE_LEN + MAX_MAPS * MAP_LEN + (64 << 10) < BESIDES_NODES);

const PLACE_AT: u8 = 0;
const PLACE_GONE: u8 = 1;
const HANDLE_FILE: u8 = 0;
const HANDLE_DIR: u8 = 1;

fn unsavable(reason: String) -> SaveError {
    SaveError::Unsavable { device: DeviceType::Fs, reason }
}

/// The payload of a section.
///
/// # Errors
///
/// [`SaveError::Unsavable`] if it is too long for one, which no restore would accept.
pub(super) fn payload(w: Writer) -> Result<Vec<u8>, SaveError> {
    let bytes = w.into_bytes();
    match bytes.len() {
        ..=MAX_SECTION_LEN => Ok(bytes),
        len => Err(unsavable(format!("the guest's session takes {len} bytes, too many for a snapshot"))),
    }
}

/// Appends a session. `shown`: whether its guest still uses what is in the window.
///
/// # Errors
///
/// [`SaveError::Unsavable`] if an open file has no name any more, or there are too many files.
pub(super) fn save_session(w: &mut Writer, server: &FileServer, shown: bool) -> Result<(), SaveError> {
    w.u64(server.flags);
    w.bytes(&server.consumed.iter().map(|c| u8::from(*c)).collect::<Vec<_>>());
    save_nodes(w, server)?;
    save_handles(w, server)?;
    save_maps(w, server, shown);
    Ok(())
}

fn save_nodes(w: &mut Writer, server: &FileServer) -> Result<(), SaveError> {
    let mut nodes: Vec<_> = server.nodes.iter().filter(|(id, _)| *id != ROOT).collect();
    nodes.sort_unstable_by_key(|(id, _)| *id);
    let size: usize = nodes.iter().map(|(_, n)| 64 + name_of(n).len()).sum();
    // Leaves room for handles, mappings and queues.
    if nodes.len() > MAX_NODES as usize || size > MAX_SECTION_LEN - BESIDES_NODES {
        return Err(unsavable(format!("the guest knows {} files, too many for a snapshot", nodes.len())));
    }
    save_identity(w, &server.nodes.get(ROOT).map_or(ROOT_UNKNOWN, |n| n.identity));
    w.u64(server.nodes.next_id());
    w.u32(nodes.len() as u32);
    for (id, node) in nodes {
        if node.place == Place::Gone && node.open > 0 {
            return Err(unsavable(format!("inode {} is open but has no name any more", node.identity.ino)));
        }
        w.u64(id);
        save_identity(w, &node.identity);
        w.u64(node.lookups);
        match &node.place {
            Place::At { parent, name } => {
                w.u8(PLACE_AT);
                w.u64(*parent);
                w.bytes(name.to_bytes());
            }
            Place::Gone | Place::Root => w.u8(PLACE_GONE),
        }
    }
    Ok(())
}

const ROOT_UNKNOWN: Identity = Identity { dev: 0, ino: 0, born: 0, format: 0 };

fn name_of(node: &Node) -> &[u8] {
    match &node.place {
        Place::At { name, .. } => name.to_bytes(),
        Place::Gone | Place::Root => &[],
    }
}

fn save_identity(w: &mut Writer, identity: &Identity) {
    w.u64(identity.dev);
    w.u64(identity.ino);
    w.u64(identity.born as u64);
    w.u32(identity.format);
}

fn save_handles(w: &mut Writer, server: &FileServer) -> Result<(), SaveError> {
    // A handle of a node the guest has forgotten is of no use to it.
    let known = |handle: &Handle| server.nodes.get(handle.node()).is_some();
    let mut handles: Vec<_> = server.handles.iter().filter(|(_, h)| known(h)).collect();
    handles.sort_unstable_by_key(|(fh, _)| *fh);
    if handles.len() > SAVED_HANDLES {
        return Err(unsavable(format!(
            "the guest has {} open files, too many for a snapshot",
            handles.len()
        )));
    }
    w.u64(server.handles.next_id());
    w.u32(handles.len() as u32);
    for (fh, handle) in handles {
        w.u64(fh);
        w.u64(handle.node());
        match handle {
            Handle::File { flags, .. } => {
                w.u8(HANDLE_FILE);
                w.u32(flags.bits());
            }
            Handle::Dir { .. } => w.u8(HANDLE_DIR),
        }
    }
    Ok(())
}

/// What the guest has mapped in the window.
fn save_maps(w: &mut Writer, server: &FileServer, shown: bool) {
    let known = |node| node & OVERLAY != 0 || server.nodes.get(node).is_some();
    let maps = server.dax.iter().filter(|_| shown).flat_map(|dax| dax.maps.iter());
    let maps: Vec<_> = maps.filter(|(_, mapped)| known(mapped.node)).collect();
    w.u32(maps.len() as u32);
    for (at, Mapped { len, node, offset, writable }) in maps {
        for number in [at, len, node, offset] {
            w.u64(number);
        }
        w.bool(writable);
    }
}

/// Shows everything again where it was, if anything of the session is shown.
fn load_maps(r: &mut Reader<'_>, server: &mut FileServer, shown: bool) -> Result<(), RestoreError> {
    for _ in 0..r.count("fs.maps", MAX_MAPS as u32)? {
        let at = r.u64("map.at")?;
        let (len, node, offset) = (r.u64("map.len")?, r.u64("map.node")?, r.u64("map.offset")?);
        let mapped = Mapped { len, node, offset, writable: r.bool("map.writable")? };
        if !shown {
            continue;
        }
        // The guest would find nothing there, and has no way to be told.
        server.map(at, mapped).map_err(|e| RestoreError::Mismatch {
            field: "file in the window",
            saved: format!("node {node}"),
            configured: e.to_string(),
        })?;
    }
    Ok(())
}

/// Reads what [`save_session`] wrote. Unless it is `shown` nothing is put into the window: the guest has to reset the
/// device first.
///
/// # Errors
///
/// [`RestoreError`] if it does not decode, contradicts itself or belongs to another share.
pub(super) fn load_session(
    r: &mut Reader<'_>,
    share: &Arc<Share>,
    window: Option<Window>,
    shown: bool,
) -> Result<FileServer, RestoreError> {
    let mut server = FileServer::new(Arc::clone(share));
    server.dax = window.map(Dax::new);
    server.flags = r.u64("fs.flags")?;
    let consumed = r.bytes("fs.overlay", MAX_OVERLAY)?;
    if consumed.len() != server.consumed.len() {
        return Err(RestoreError::Mismatch {
            field: "overlay entries",
            saved: consumed.len().to_string(),
            configured: server.consumed.len().to_string(),
        });
    }
    for (to, from) in server.consumed.iter_mut().zip(consumed) {
        *to = *from != 0;
    }
    load_nodes(r, &mut server)?;
    load_handles(r, &mut server)?;
    load_maps(r, &mut server, shown)?;
    Ok(server)
}

fn bad(field: &'static str, value: u64) -> RestoreError {
    RestoreError::Decode(DecodeError::Value { field, value })
}

fn load_nodes(r: &mut Reader<'_>, server: &mut FileServer) -> Result<(), RestoreError> {
    // Not compared: the directory may be a copy on another file system. Whatever is not the same file
    // there is stale.
    load_identity(r)?;
    let next = r.u64("fs.next_node")?;
    for _ in 0..r.count("fs.nodes", MAX_NODES)? {
        let id = r.u64("node.id")?;
        let identity = load_identity(r)?;
        let lookups = r.u64("node.lookups")?;
        let place = match r.u8("node.place")? {
            PLACE_AT => {
                let parent = r.u64("node.parent")?;
                let name = r.bytes("node.name", NAME_MAX as u32)?;
                let name = CString::new(name).ok().filter(|n| component(n).is_ok());
                Place::At { parent, name: name.ok_or_else(|| bad("node.name", id))?.into_boxed_c_str() }
            }
            PLACE_GONE => Place::Gone,
            other => return Err(bad("node.place", other.into())),
        };
        let node = Node { identity, place, lookups, children: 0, open: 0, handle: 0, told: None };
        if !server.nodes.insert_saved(id, node) {
            return Err(bad("node.id", id));
        }
    }
    if server.nodes.check(next) { Ok(()) } else { Err(bad("node.parent", 0)) }
}

fn load_identity(r: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    Ok(Identity {
        dev: r.u64("node.dev")?,
        ino: r.u64("node.ino")?,
        born: r.u64("node.born")? as i64,
        format: r.u32("node.format")?,
    })
}

/// What a file was opened with, as if the guest opened it now.
fn saved_flags(flags: u32, server: &FileServer) -> Result<OFlags, RestoreError> {
    let flags = again(host_flags(flags));
    if server.share.read_only && flags & OFlags::ACCMODE != OFlags::RDONLY {
        return Err(RestoreError::Mismatch {
            field: "open file",
            saved: "for writing".into(),
            configured: "a share that is read-only".into(),
        });
    }
    Ok(flags)
}

fn load_handles(r: &mut Reader<'_>, server: &mut FileServer) -> Result<(), RestoreError> {
    let next = r.u64("fs.next_handle")?;
    for _ in 0..r.count("fs.handles", MAX_HANDLES)? {
        let fh = r.u64("handle.fh")?;
        let node = r.u64("handle.node")?;
        let handle = match r.u8("handle.kind")? {
            HANDLE_FILE => Handle::unopened(node, saved_flags(r.u32("handle.flags")?, server)?),
            HANDLE_DIR => Handle::Dir { node, stream: None },
            other => return Err(bad("handle.kind", other.into())),
        };
        let Some(of) = server.nodes.get_mut(node) else { return Err(bad("handle.node", node)) };
        of.open = of.open.saturating_add(1);
        if !server.handles.insert_saved(fh, handle) {
            return Err(bad("handle.fh", fh));
        }
    }
    server.handles.skip_to(next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_restore_accepts_is_not_saved() {
        let of = |len: usize| {
            let mut w = Writer::new();
            // The length takes four bytes.
            w.bytes(&vec![0; len - 4]);
            payload(w)
        };
        assert_eq!(of(MAX_SECTION_LEN).map(|bytes| bytes.len()).unwrap(), MAX_SECTION_LEN);
        let refused = of(MAX_SECTION_LEN + 1).unwrap_err().to_string();
        assert!(refused.contains("16777217 bytes"), "{refused}");
    }
}
