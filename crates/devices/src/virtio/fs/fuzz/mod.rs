//! The body of a fuzz target: a guest that sends anything, and one that sends sense and compares.

mod model;
mod tree;

use std::path::PathBuf;

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode};
use purlin_vmm_core::memory::ByteValued;

use super::config::{FsConfig, Source};
use super::direct::Direct;
use super::overlay::{OverlayEntry, OverlayKind};
use crate::testing::Buf;

/// Most requests per input, so that an input takes bounded time.
const MAX_REQUESTS: usize = 64;
/// Names that requests use; more would only make hits rarer.
const NAMES: [&[u8]; 8] = [b"a\0", b"b\0", b"c\0", b"init.krun\0", b"dir\0", b"..\0", b"a/b\0", b"none"];

/// A directory of this process, emptied for every input.
struct Scene(PathBuf);

impl Scene {
    fn new() -> std::io::Result<Self> {
        let thread = std::thread::current().id();
        let path = std::env::temp_dir().join(format!("purlin-fs-fuzz-{}-{thread:?}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path)?;
        std::fs::create_dir(path.join("dir"))?;
        std::fs::write(path.join("a"), b"contents")?;
        Ok(Scene(path))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// With the highest bit of the first byte: runs operations and compares the share with a model of it, see
/// `model.rs`. Otherwise serves the requests `data` describes against a fresh directory (or, for an odd first byte, a share of
/// overlay entries only), each through a ring; now and then the session is saved and loaded again.
///
/// A request is six bytes (opcode, node, handle, name, room for the reply, length of the rest) and the rest,
/// which is put where the arguments go. An opcode byte of 255 takes the header from the input as well.
///
/// # Panics
///
/// If the device does something wrong: panics itself, saves something it does not load, or says it wrote
/// more than it had room for.
pub fn fs_request(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(scene) = Scene::new() else { return };
    if first & 0x80 != 0 {
        let empty = scene.0.join("dir");
        return model::compare(&empty, rest);
    }
    let source = if first & 1 == 0 { Source::Path(scene.0.clone()) } else { Source::Virtual };
    let mut config = FsConfig::new("fuzz", source);
    config.read_only = first & 2 != 0;
    config.limits.nodes = 8;
    config.limits.handles = 4;
    config.limits.cached_descriptors = 2;
    let kind = OverlayKind::File { data: b"init".into(), one_shot: true };
    config.overlay.push(OverlayEntry { path: "init.krun".into(), mode: 0o755, kind });
    let Ok(guest) = Direct::new(config) else { return };
    run(guest, rest);
}

fn run(mut guest: Direct, mut rest: &[u8]) {
    for _ in 0..MAX_REQUESTS {
        let Some((&[opcode, node, handle, name, room, len], tail)) = rest.split_first_chunk() else { return };
        let (args, tail) = tail.split_at(usize::from(len).min(tail.len()));
        rest = tail;
        if opcode == 254 {
            guest.reload();
            continue;
        }
        let message = message(opcode, node, handle, name, args);
        let room = u32::from(room) * 16;
        let (written, _) = guest.send(&[Buf::Read(&message), Buf::Write(room)]);
        assert!(written <= room, "{written} bytes written, {room} given");
    }
}

fn with_header(opcode: u32, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(size_of::<InHeader>().saturating_add(body.len())).unwrap_or(u32::MAX);
    let header = InHeader { len, opcode, unique: 1, nodeid, ..InHeader::default() };
    [header.as_slice(), body].concat()
}

/// Builds a request. Node and handle numbers are small, so the input's often exist.
fn message(opcode: u8, node: u8, handle: u8, name: u8, args: &[u8]) -> Vec<u8> {
    if opcode == 255 {
        return args.to_vec();
    }
    let fixed = match u32::from(opcode) {
        op if op == Opcode::Fallocate as u32 => return with_header(op, 1, &[]),
        // Sizes of the fixed arguments in front of a name.
        8 => 16,
        9 | 13 | 21 | 22 | 23 => 8,
        12 => 8,
        35 | 45 => 16,
        1 | 6 | 10 | 11 | 24 => 0,
        _ => {
            let mut body = u64::from(handle).to_le_bytes().to_vec();
            body.extend_from_slice(args);
            return with_header(opcode.into(), number(node), &body);
        }
    };
    let mut body = args.get(..fixed).map_or_else(|| vec![0; fixed], <[u8]>::to_vec);
    if matches!(opcode, 12 | 13 | 45)
        && let Some(target) = body.get_mut(..8)
    {
        target.copy_from_slice(&number(handle).to_le_bytes());
    }
    let names = [name, name >> 3].map(|n| NAMES.get(usize::from(n % 8)).copied().unwrap_or(b""));
    body.extend_from_slice(names.first().copied().unwrap_or(b""));
    if matches!(opcode, 6 | 12 | 45) {
        body.extend_from_slice(names.last().copied().unwrap_or(b""));
    }
    with_header(opcode.into(), number(node), &body)
}

/// Host nodes for small numbers, overlay nodes for others.
fn number(small: u8) -> u64 {
    if small < 200 { u64::from(small % 16) } else { 1 << 63 | u64::from(small % 4) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn seeds() {
        // CREATE, WRITE, OPEN, UNLINK of an open file, save; READDIRPLUS and save on every kind of share.
        let session = [
            &[35, 1, 0, 1, 10, 16, 2, 0, 0, 0, 0xa4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[254, 0, 0, 0, 0, 0],
            &[14, 2, 0, 0, 10, 0],
            &[27, 1, 0, 0, 10, 0],
            &[44, 1, 2, 0, 255, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 3, 0, 0],
            &[10, 1, 0, 1, 10, 0],
            &[254, 0, 0, 0, 0, 0],
            &[1, 1, 0, 3, 10, 0],
            &[12, 1, 1, 8, 10, 0],
            &[254, 0, 0, 0, 0, 0],
        ]
        .concat();
        for kind in 0..4 {
            fs_request(&[&[kind][..], &session].concat());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
        #[test]
        fn sense(ops in proptest::collection::vec(any::<[u8; 8]>(), 0..120)) {
            fs_request(&[&[0x80][..], &ops.concat()].concat());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        #[test]
        fn any_input(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fs_request(&data);
        }

        #[test]
        fn likely_requests(
            kind in 0u8..4,
            ops in proptest::collection::vec((0u8..50, 0u8..8, 0u8..6, any::<u8>(), 0u8..40), 0..60),
        ) {
            let mut data = vec![kind];
            for (opcode, node, handle, name, room) in ops {
                let opcode = if opcode == 0 { 254 } else { opcode };
                data.extend([opcode, node, handle, name, room, 0]);
            }
            fs_request(&data);
        }
    }
}
