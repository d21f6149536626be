//! The "newc" form of cpio archives (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`). Pure.

use std::io::{self, Write};

use super::tree::{Node, TRAILER, Tree};

/// Bytes of an entry's header.
const HEADER: u64 = 110;
/// An archive is padded to a multiple of this.
pub const BLOCK: u64 = 512;

/// What an unpacker cuts at: entries and their data start at a multiple of this.
const ALIGN: u64 = 4;

/// Writes the entries of `tree`, without an end: what follows may be more entries. Gives the number of bytes, a
/// multiple of 4.
///
/// Everything belongs to root, has no time and no inode number: equal trees make equal bytes, and no entry is taken
/// for another name of an earlier one.
///
/// # Errors
///
/// Those of `out`.
pub fn write_entries(tree: &Tree, out: &mut (impl Write + ?Sized)) -> io::Result<u64> {
    let mut written = 0u64;
    for (path, node) in tree.iter() {
        written = written.saturating_add(entry(path.as_bytes(), Some(node), out)?);
    }
    Ok(written)
}

/// Writes the entry that ends an archive and fills it up to a multiple of [`BLOCK`], of which `written` bytes exist.
/// Gives the number of bytes.
///
/// # Errors
///
/// Those of `out`.
pub fn write_end(written: u64, out: &mut (impl Write + ?Sized)) -> io::Result<u64> {
    let trailer = entry(TRAILER, None, out)?;
    let end = written.saturating_add(trailer);
    let padding = end.next_multiple_of(BLOCK).saturating_sub(end);
    write_zeros(padding, out)?;
    Ok(trailer.saturating_add(padding))
}

/// How long the entries of `tree` are.
pub fn entries_len(tree: &Tree) -> u64 {
    tree.iter().fold(0u64, |sum, (path, node)| {
        let data = (node.kind.data().len() as u64).next_multiple_of(ALIGN);
        sum.saturating_add(head_len(path.len() as u64)).saturating_add(data)
    })
}

/// How long the end behind `written` bytes is.
pub fn end_len(written: u64) -> u64 {
    let end = written.saturating_add(head_len(TRAILER.len() as u64));
    end.next_multiple_of(BLOCK).saturating_sub(written)
}

/// Header, name and padding.
fn head_len(name: u64) -> u64 {
    HEADER.saturating_add(name).saturating_add(1).next_multiple_of(ALIGN)
}

fn entry(name: &[u8], node: Option<&Node>, out: &mut (impl Write + ?Sized)) -> io::Result<u64> {
    let data = node.map_or(&[][..], |node| node.kind.data());
    let too_large = || io::Error::other("a file of more than 4 GiB does not fit a cpio archive");
    let size = u32::try_from(data.len()).map_err(|_| too_large())?;
    let name_size =
        u32::try_from(name.len()).ok().and_then(|len| len.checked_add(1)).ok_or_else(too_large)?;
    let mode = node.map_or(0, |node| node.kind.type_bits() | node.mode);
    let (major, minor) = match node.map(|node| &node.kind) {
        Some(&super::tree::Kind::CharDevice { major, minor }) => (major, minor),
        _ => (0, 0),
    };
    // Inode, mode, owner, group, links, time, size, device, device of a device file, name size, checksum.
    let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    out.write_all(name)?;
    let head = head_len(name.len() as u64);
    write_zeros(head.saturating_sub(HEADER).saturating_sub(name.len() as u64), out)?;
    out.write_all(data)?;
    let padded = u64::from(size).next_multiple_of(ALIGN);
    write_zeros(padded.saturating_sub(u64::from(size)), out)?;
    Ok(head.saturating_add(padded))
}

fn write_zeros(count: u64, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::tree::Kind;
    use super::*;

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        let len = write_entries(tree, &mut bytes).unwrap();
        assert_eq!((len, len), (bytes.len() as u64, entries_len(tree)));
        assert_eq!(len % ALIGN, 0);
        let end = write_end(len, &mut bytes).unwrap();
        assert_eq!(end, end_len(len));
        assert_eq!(bytes.len() as u64, len + end);
        bytes
    }

    #[test]
    fn golden() {
        let mut tree = Tree::default();
        tree.add("/dev/console", 0o600, Kind::CharDevice { major: 5, minor: 1 }).unwrap();
        tree.add("/init", 0o755, Kind::File((&b"hello"[..]).into())).unwrap();
        tree.add("/sh", 0o777, Kind::Symlink("init".to_owned())).unwrap();
        let bytes = archive(&tree);
        assert_eq!(bytes.len(), 1024);
        let zeros = "00000000";
        let text = [
            // dev
            "070701",
            zeros,
            "000041ED",
            zeros,
            zeros,
            "00000001",
            zeros,
            zeros,
            zeros,
            zeros,
            zeros,
            zeros,
            "00000004",
            zeros,
            "dev\0\0\0",
            "070701",
            zeros,
            "00002180",
            zeros,
            zeros,
            "00000001",
            zeros,
            zeros,
            zeros,
            zeros,
            "00000005",
            "00000001",
            "0000000C",
            zeros,
            "dev/console\0\0\0",
            "070701",
            zeros,
            "000081ED",
            zeros,
            zeros,
            "00000001",
            zeros,
            "00000005",
            zeros,
            zeros,
            zeros,
            zeros,
            "00000005",
            zeros,
            "init\0\0hello\0\0\0",
            "070701",
            zeros,
            "0000A1FF",
            zeros,
            zeros,
            "00000001",
            zeros,
            "00000004",
            zeros,
            zeros,
            zeros,
            zeros,
            "00000003",
            zeros,
            "sh\0\0\0\0init",
            "070701",
            zeros,
            zeros,
            zeros,
            zeros,
            "00000001",
            zeros,
            zeros,
            zeros,
            zeros,
            zeros,
            zeros,
            "0000000B",
            zeros,
            "TRAILER!!!\0\0\0\0",
        ]
        .concat();
        assert_eq!(text.len() % 4, 0);
        let (entries, padding) = bytes.split_at(text.len());
        assert_eq!(std::str::from_utf8(entries).unwrap(), text);
        assert!(padding.iter().all(|&b| b == 0));
    }

    /// Another implementation reads it back.
    #[test]
    fn busybox_reads_it_back() {
        use std::process::{Command, Stdio};
        if !std::path::Path::new("/bin/busybox").exists() {
            eprintln!("skipped: no /bin/busybox");
            return;
        }
        let mut tree = Tree::default();
        tree.add("/a/b", 0o640, Kind::File(vec![7; 4097].into())).unwrap();
        tree.add("/a/c", 0o777, Kind::Symlink("b".to_owned())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/busybox")
            .args(["cpio", "-i", "-d"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&archive(&tree)).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read(dir.path().join("a/c")).unwrap(), vec![7; 4097]);
    }
}
