//! Where an overlay entry can go. Pure.

use purlin_devices::virtio::fs::{OverlayEntry, OverlayKind};

use super::guard::Failure;

/// Bytes of a file name (Linux NAME_MAX).
const NAME_MAX: usize = 255;

/// Checks that `path` can be added behind `entries`: it ends in a name, and its parents are directories
/// among them. Of several entries of one path the last counts.
pub(super) fn check(entries: &[OverlayEntry], path: &str) -> Result<(), Failure> {
    let (parents, name) = split(path);
    if matches!(name, "" | "." | "..") || name.len() > NAME_MAX {
        return Err(Failure::invalid(format!("path: {path:?} does not end in a file name")));
    }
    let Some(parents) = parents else { return Ok(()) };
    let ends = parents.match_indices('/').map(|(end, _)| end).chain([parents.len()]);
    // What was put into a directory that was then replaced is gone with it.
    let mut entries = entries;
    for parent in ends.filter_map(|end| parents.get(..end)) {
        let missing = || Failure::new(libc::ENOENT, format!("path: there is no directory {parent:?}"));
        let found = entries.iter().rposition(|entry| plain(&entry.path) == parent).ok_or_else(missing)?;
        let (entry, later) = entries.get(found..).and_then(<[_]>::split_first).ok_or_else(missing)?;
        if let OverlayKind::File { .. } = entry.kind {
            return Err(Failure::new(libc::ENOTDIR, format!("path: {parent:?} is a file")));
        }
        entries = later;
    }
    Ok(())
}

fn plain(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

/// Parents, if there are any, and name.
fn split(path: &str) -> (Option<&str>, &str) {
    let path = plain(path);
    path.rsplit_once('/').map_or((None, path), |(parents, name)| (Some(parents), name))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn table() {
        let dir = |path: &str| OverlayEntry { path: path.into(), mode: 0o755, kind: OverlayKind::Dir };
        let kind = OverlayKind::File { data: Cow::Borrowed(b""), one_shot: false };
        let file = |path: &str| OverlayEntry { path: path.into(), mode: 0o644, kind: kind.clone() };
        let entries = [
            dir("x"),
            dir("x/y"),
            dir("a"),
            dir("/a/b"),
            file("/f"),
            file("a/f"),
            dir("d"),
            file("d"),
            dir("x"),
        ];
        let name = |len| "n".repeat(len);
        let table = [
            ("x", 0),
            ("/x", 0),
            ("a", 0),
            ("a/x", 0),
            ("/a/b/x", 0),
            (&name(255), 0),
            (&name(256), libc::EINVAL),
            ("", libc::EINVAL),
            ("/", libc::EINVAL),
            ("a/", libc::EINVAL),
            ("a/..", libc::EINVAL),
            (".", libc::EINVAL),
            ("no/x", libc::ENOENT),
            ("a/no/x", libc::ENOENT),
            ("a//x", libc::ENOENT),
            ("//x", libc::ENOENT),
            ("../x", libc::ENOENT),
            ("f/x", libc::ENOTDIR),
            ("a/f/x", libc::ENOTDIR),
            ("d/x", libc::ENOTDIR),
            ("x/y", 0),
            ("x/y/z", libc::ENOENT),
        ];
        for (path, errno) in table {
            let found = check(&entries, path).err().map_or(0, |failure| failure.errno);
            assert_eq!(found, errno, "{path:?}");
        }
    }
}
