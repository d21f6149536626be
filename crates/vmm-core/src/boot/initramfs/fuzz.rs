//! The body of the fuzz target `initramfs_build`: what must hold for any bytes. It panics if it does not.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::tree::{Content, Kind, Tree};
use super::{closure, cpio, lz4, program};

/// The first byte says what the rest is: an ELF file with its libraries, a compressed stream, or a list of entries.
pub fn initramfs_build(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => libraries(rest),
        1 => stream(rest),
        _ => archive(rest),
    }
}

/// One file stands for the program and for every library: what is asked for is always there, and asks for the same.
struct Everywhere(Content);

impl closure::Files for Everywhere {
    fn read(&self, path: &str) -> io::Result<Option<Content>> {
        Ok((!path.contains("none")).then(|| self.0.clone()))
    }

    fn real_directory(&self, path: &str) -> Option<String> {
        path.starts_with("/lib").then(|| path.to_owned())
    }
}

fn libraries(file: &[u8]) {
    let needs = program::needs(file);
    if let Ok(Some(needs)) = &needs {
        assert!(needs.libraries.len() <= program::MAX_NEEDED && needs.search.len() <= program::MAX_SEARCH);
        assert!(needs.interpreter.as_ref().is_none_or(|path| path.starts_with('/')));
    }
    let content = Content::from(file.to_vec());
    let found = closure::libraries(&Everywhere(content.clone()), &[], "/host/bin/p", "/init", &content);
    assert!(needs.is_ok() || found.is_err());
    if let Ok(libraries) = found {
        assert!(libraries.len() <= closure::MAX_LIBRARIES);
        // Every place is either a path the tree takes or refuses, and never leaves the guest's root.
        let mut tree = Tree::default();
        for library in libraries {
            assert!(library.guest.starts_with('/') && !library.guest.contains("/../"), "{}", library.guest);
            let _ = tree.add(&library.guest, 0o755, Kind::File(library.content));
        }
        check(&tree);
    }
}

fn stream(bytes: &[u8]) {
    const LIMIT: u64 = 16 << 20;
    let mut seen = 0u64;
    if let Ok(unpacked) = lz4::decode(bytes, LIMIT, |block| seen += block.len() as u64) {
        assert!(unpacked == seen && unpacked <= LIMIT);
    }
}

/// Lines of `type path [content or target]`.
fn archive(text: &[u8]) {
    let mut tree = Tree::default();
    for line in text.split(|&b| b == b'\n') {
        let mut words = line.splitn(3, |&b| b == b' ').map(String::from_utf8_lossy);
        let (Some(kind), Some(path)) = (words.next(), words.next()) else { continue };
        let rest = words.next().unwrap_or_default().into_owned();
        let kind = match kind.as_ref() {
            "d" => Kind::Directory,
            "l" => Kind::Symlink(rest),
            "c" => Kind::CharDevice { major: rest.len() as u32, minor: 1 },
            _ => Kind::File(rest.into()),
        };
        let _ = tree.add(&path, 0o644, kind);
    }
    check(&tree);
}

/// Packs a tree and unpacks it again: everything is there, after the directory it is in.
fn check(tree: &Tree) {
    let mut plain = Vec::new();
    let len = cpio::write_entries(tree, &mut plain).expect("a vector takes everything");
    assert_eq!(len, cpio::entries_len(tree));
    cpio::write_end(len, &mut plain).expect("a vector takes everything");
    assert!((plain.len() as u64).is_multiple_of(cpio::BLOCK));

    let mut encoder = lz4::Encoder::new(Vec::new()).expect("a vector takes everything");
    encoder.write_all(&plain).expect("a vector takes everything");
    let packed = encoder.finish().expect("a vector takes everything");
    let mut again = Vec::new();
    lz4::decode(&packed, plain.len() as u64, |block| again.extend_from_slice(block)).expect("our own stream");
    assert!(again == plain);

    let read = read_back(&plain);
    assert_eq!(read.len(), tree.len());
    let mut seen = BTreeMap::new();
    for ((path, mode, data), (want, node)) in read.iter().zip(tree.iter()) {
        assert_eq!(path, want);
        assert_eq!(*mode & 0o7777, node.mode);
        assert!(*data == node.kind.data());
        if let Some((parent, _)) = path.rsplit_once('/') {
            assert_eq!(seen.get(parent), Some(&0o040_000), "{path} comes before its directory");
        }
        seen.insert(path.clone(), *mode & 0o170_000);
    }
}

/// Path, mode and content of every entry, as an unpacker sees them.
pub(super) fn read_back(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    loop {
        let (header, after) = rest.split_at_checked(110).expect("a header");
        assert!(header.starts_with(b"070701"));
        let field = |n: usize| {
            let hex = header.get(6 + 8 * n..14 + 8 * n).and_then(|hex| std::str::from_utf8(hex).ok());
            hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).expect("eight hexadecimal digits")
        };
        let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
        let head = (110 + name_size).next_multiple_of(4) - 110;
        let (name, after) = after.split_at_checked(head).expect("a name");
        let name = name.get(..name_size - 1).and_then(|name| std::str::from_utf8(name).ok()).expect("a text");
        if name == "TRAILER!!!" {
            assert!(after.iter().all(|&b| b == 0));
            return entries;
        }
        let (data, after) = after.split_at_checked(size.next_multiple_of(4)).expect("the content");
        entries.push((name.to_owned(), mode, data.get(..size).unwrap_or_default().to_vec()));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::Made;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_of_input() {
        initramfs_build(
            b"\x02d /a\nf /a/b hello\nl /c a\nf /a/b other\nc /dev/console 12345\nf /TRAILER!!! x",
        );
        initramfs_build(&[&[1][..], &lz4::MAGIC, &[1, 0, 0, 0, 0]].concat());
        let needed = vec![(elf::abi::DT_NEEDED, "liba.so"), (elf::abi::DT_RUNPATH, "$ORIGIN/../..:/none")];
        let made = Made { interpreter: Some("/lib/ld.so"), dynamic: needed, flags_1: 0 };
        initramfs_build(&[&[0][..], &made.bytes()].concat());
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            initramfs_build(&bytes);
        }

        #[test]
        fn any_entries(lines in proptest::collection::vec("[dflc] (/[ab.]{0,2}){1,4} [x]{0,9}", 0..20)) {
            initramfs_build(format!("\x02{}", lines.join("\n")).as_bytes());
        }
    }
}
