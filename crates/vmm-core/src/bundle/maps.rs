//! Reading `/proc/self/maps` (proc(5)): which file a range of this process's memory comes from. Pure.

use std::path::PathBuf;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePart {
    pub path: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
}

/// What the memory map says about a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// One file mapping covers all of it.
    File(FilePart),
    /// Readable, but not from one file.
    Memory,
    /// Some of it is not mapped, or not readable.
    Unmapped,
}

struct Line<'a> {
    start: u64,
    end: u64,
    readable: bool,
    offset: u64,
    device: (u32, u32),
    inode: u64,
    path: &'a str,
}

fn parse(line: &str) -> Option<Line<'_>> {
    let hex = |s: &str| u64::from_str_radix(s, 16).ok();
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let perms = words.next()?;
    let offset = hex(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let inode = words.next()?.parse().ok()?;
    Some(Line {
        start: hex(start)?,
        end: hex(end)?,
        readable: perms.starts_with('r'),
        offset,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: words.next().unwrap_or("").trim_start(),
    })
}

/// Looks `[start, start + size)` up in the text of a maps file, whose lines are sorted by address.
pub(super) fn lookup(text: &str, start: u64, size: u64) -> Lookup {
    let Some(end) = start.checked_add(size) else { return Lookup::Unmapped };
    let mut reached = start;
    for line in text.lines().filter_map(parse) {
        if line.end <= reached {
            continue;
        }
        if line.start > reached || !line.readable {
            break;
        }
        if reached == start && line.end >= end && line.inode != 0 && line.path.starts_with('/') {
            return Lookup::File(FilePart {
                path: PathBuf::from(line.path),
                offset: line.offset.saturating_add(start.saturating_sub(line.start)),
                major: line.device.0,
                minor: line.device.1,
                inode: line.inode,
            });
        }
        reached = line.end;
        if reached >= end {
            return Lookup::Memory;
        }
    }
    Lookup::Unmapped
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000010000 r-xp 00000000 fe:01 1234                       /usr/lib64/libkrunfw.so.5.4.0
7f0000010000-7f0001000000 rw-p 00010000 fe:01 1234                       /usr/lib64/libkrunfw.so.5.4.0
7f0001000000-7f0001100000 rw-p 00000000 00:00 0 
7f0001100000-7f0001200000 ---p 00000000 00:00 0 
7f0002000000-7f0002001000 rw-p 00003000 fe:1f 99                         /tmp/a b (deleted)
not a line
";

    #[test]
    fn table() {
        let part = |path: &str, offset, minor, inode| {
            Lookup::File(FilePart { path: path.into(), offset, major: 0xfe, minor, inode })
        };
        let library = "/usr/lib64/libkrunfw.so.5.4.0";
        let table: &[(u64, u64, Lookup)] = &[
            (0x7f00_0001_0000, 0xff_0000, part(library, 0x1_0000, 1, 1234)),
            (0x7f00_0001_1000, 0x1000, part(library, 0x1_1000, 1, 1234)),
            (0x7f00_0000_f000, 0x2000, Lookup::Memory),
            (0x7f00_00ff_f000, 0x2000, Lookup::Memory),
            (0x7f00_010f_f000, 0x2000, Lookup::Unmapped),
            (0x7f00_0110_0000, 0x1000, Lookup::Unmapped),
            (0x7f00_0200_0000, 0x1000, part("/tmp/a b (deleted)", 0x3000, 0x1f, 99)),
            (0x7f00_0200_0000, 0x2000, Lookup::Unmapped),
            (0x1000, 0x1000, Lookup::Unmapped),
            (u64::MAX, 2, Lookup::Unmapped),
        ];
        for (start, size, expected) in table {
            assert_eq!(&lookup(MAPS, *start, *size), expected, "{start:#x}+{size:#x}");
        }
        assert_eq!(lookup("", 0x1000, 1), Lookup::Unmapped);
    }
}
