//! Mounts that the host asks for: how they are written, and the kernel's lists that they depend on.

use alloc::ffi::CString;
use alloc::vec::Vec;

/// Mount flags (`mount(2)`).
pub mod flags {
    /// Read-only.
    pub const RDONLY: usize = 1;
    /// No set-user-id programs.
    pub const NOSUID: usize = 2;
    /// No device files.
    pub const NODEV: usize = 4;
    /// No programs.
    pub const NOEXEC: usize = 8;
    /// Writes are synchronous.
    pub const SYNCHRONOUS: usize = 1 << 4;
    /// Changes of directories are synchronous.
    pub const DIRSYNC: usize = 1 << 7;
    /// No access times.
    pub const NOATIME: usize = 1 << 10;
    /// No access times of directories.
    pub const NODIRATIME: usize = 1 << 11;
    /// A mount of a part of a tree.
    pub const BIND: usize = 1 << 12;
    /// Moves a mount.
    pub const MOVE: usize = 1 << 13;
    /// Access times only when they are older than changes.
    pub const RELATIME: usize = 1 << 21;
    /// All access times.
    pub const STRICTATIME: usize = 1 << 24;
    /// Times are written late.
    pub const LAZYTIME: usize = 1 << 25;
}

/// The type of a file system to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsType {
    /// This one.
    Named(CString),
    /// Whichever of those the kernel has for devices takes it.
    Probe,
}

/// A mount. The place is made, with its parents, if it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    /// Device, tag or name.
    pub source: CString,
    /// Where; an absolute path.
    pub target: CString,
    /// Which file system.
    pub kind: FsType,
    /// Flags of `mount(2)`.
    pub flags: usize,
    /// The file system's own options.
    pub data: Option<CString>,
}

/// One virtiofs mount, `tag:path` or `tag:path:ro`.
///
/// # Errors
///
/// What is wrong with it.
pub fn share(item: &[u8]) -> Result<MountRequest, &'static str> {
    const FORM: &str = "not tag:path[:ro]";
    let mut parts = item.split(|&byte| byte == b':');
    let (Some(tag), Some(path)) = (parts.next(), parts.next()) else { return Err(FORM) };
    let flags = read_only(&mut parts).ok_or(FORM)?;
    if tag.is_empty() {
        return Err("no tag");
    }
    let kind = FsType::Named(c"virtiofs".into());
    Ok(MountRequest { source: c_string(tag)?, target: absolute(path)?, kind, flags, data: None })
}

/// One mount of a disk, `device:type:path` or `device:type:path:ro`. An empty type or `auto` tries what the kernel has.
///
/// # Errors
///
/// What is wrong with it.
pub fn disk(item: &[u8]) -> Result<MountRequest, &'static str> {
    const FORM: &str = "not device:type:path[:ro]";
    let mut parts = item.split(|&byte| byte == b':');
    let (Some(device), Some(kind), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(FORM);
    };
    let flags = read_only(&mut parts).ok_or(FORM)?;
    if device.is_empty() {
        return Err("no device");
    }
    let (source, target) = (c_string(device)?, absolute(path)?);
    Ok(MountRequest { source, target, kind: fs_type(kind)?, flags, data: None })
}

/// A type by its name.
///
/// # Errors
///
/// What is wrong with it.
pub fn fs_type(name: &[u8]) -> Result<FsType, &'static str> {
    match name {
        b"" | b"auto" => Ok(FsType::Probe),
        name => c_string(name).map(FsType::Named),
    }
}

/// `ro`, `rw` or nothing, and then nothing.
fn read_only<'a>(parts: &mut impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let flags = match parts.next() {
        None | Some(b"rw") => 0,
        Some(b"ro") => flags::RDONLY,
        Some(_) => return None,
    };
    parts.next().is_none().then_some(flags)
}

fn absolute(path: &[u8]) -> Result<CString, &'static str> {
    if path.starts_with(b"/") { c_string(path) } else { Err("the path is not absolute") }
}

fn c_string(text: &[u8]) -> Result<CString, &'static str> {
    CString::new(text).map_err(|_| "a NUL")
}

/// Options as `mount -o` takes them: words that are flags of the kernel, and the rest for the file system. Libkrun's
/// own init hands all of them to the file system, which refuses the flags.
pub fn options(text: &[u8]) -> (usize, Option<CString>) {
    use flags::*;
    const WORDS: [(&[u8], usize, usize); 17] = [
        (b"defaults", 0, 0),
        (b"ro", RDONLY, 0),
        (b"rw", 0, RDONLY),
        (b"nosuid", NOSUID, 0),
        (b"suid", 0, NOSUID),
        (b"nodev", NODEV, 0),
        (b"dev", 0, NODEV),
        (b"noexec", NOEXEC, 0),
        (b"exec", 0, NOEXEC),
        (b"sync", SYNCHRONOUS, 0),
        (b"async", 0, SYNCHRONOUS),
        (b"dirsync", DIRSYNC, 0),
        (b"noatime", NOATIME, 0),
        (b"nodiratime", NODIRATIME, 0),
        (b"relatime", RELATIME, 0),
        (b"strictatime", STRICTATIME, 0),
        (b"lazytime", LAZYTIME, 0),
    ];
    let (mut all, mut data) = (0, Vec::new());
    for word in text.split(|&byte| byte == b',').filter(|word| !word.is_empty()) {
        match WORDS.iter().find(|(known, _, _)| *known == word) {
            Some((_, set, cleared)) => all = (all & !cleared) | set,
            None => {
                if !data.is_empty() {
                    data.push(b',');
                }
                data.extend_from_slice(word);
            }
        }
    }
    (all, CString::new(data).ok().filter(|data| !data.is_empty()))
}

/// The file systems for devices that `/proc/filesystems` lists, in its order.
pub fn device_file_systems(list: &[u8]) -> impl Iterator<Item = CString> {
    list.split(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"\t"))
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
}

/// Whether something is mounted at `path`, by what `/proc/mounts` says (blanks in paths are `\040` there).
pub fn is_mounted(mounts: &[u8], path: &[u8]) -> bool {
    let target = |line: &[u8]| line.split(|&byte| byte == b' ').nth(1).map(unescape);
    mounts.split(|&byte| byte == b'\n').any(|line| target(line).is_some_and(|target| target == path))
}

fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&byte, rest)) = text.split_first() {
        let octal = rest.get(..3).filter(|_| byte == b'\\').and_then(|digits| {
            digits.iter().try_fold(0_u8, |sum, digit| {
                let digit = digit.checked_sub(b'0').filter(|&digit| digit < 8)?;
                sum.checked_mul(8)?.checked_add(digit)
            })
        });
        out.push(octal.unwrap_or(byte));
        text = if octal.is_some() { rest.get(3..).unwrap_or_default() } else { rest };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn request(source: &str, kind: Option<&str>, target: &str, flags: usize) -> MountRequest {
        let text = |text| CString::new(text).unwrap();
        let kind = kind.map_or(FsType::Probe, |kind| FsType::Named(text(kind)));
        MountRequest { source: text(source), target: text(target), kind, flags, data: None }
    }

    #[test]
    fn shares() {
        let table = [
            ("work:/srv/work", Ok(request("work", Some("virtiofs"), "/srv/work", 0))),
            ("work:/srv:ro", Ok(request("work", Some("virtiofs"), "/srv", 1))),
            ("work:/srv:rw", Ok(request("work", Some("virtiofs"), "/srv", 0))),
            ("work", Err("not tag:path[:ro]")),
            ("", Err("not tag:path[:ro]")),
            ("work:/srv:x", Err("not tag:path[:ro]")),
            ("work:/srv:ro:", Err("not tag:path[:ro]")),
            (":/srv", Err("no tag")),
            ("work:srv", Err("the path is not absolute")),
            ("work:", Err("the path is not absolute")),
        ];
        for (text, expected) in table {
            assert_eq!(share(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(share(b"a\0:/b"), Err("a NUL"));
    }

    #[test]
    fn disks() {
        let table = [
            ("/dev/vdb:ext4:/data", Ok(request("/dev/vdb", Some("ext4"), "/data", 0))),
            ("/dev/vdb::/data:ro", Ok(request("/dev/vdb", None, "/data", 1))),
            ("/dev/vdb:auto:/data", Ok(request("/dev/vdb", None, "/data", 0))),
            ("/dev/vdb:/data", Err("not device:type:path[:ro]")),
            ("/dev/vdb:ext4:/data:x", Err("not device:type:path[:ro]")),
            (":ext4:/data", Err("no device")),
            ("/dev/vdb:ext4:data", Err("the path is not absolute")),
        ];
        for (text, expected) in table {
            assert_eq!(disk(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn option_words() {
        let table = [
            ("", 0, None),
            ("ro,nosuid,nodev,noexec", 15, None),
            ("ro,rw", 0, None),
            ("noatime,data=journal,errors=remount-ro", 1024, Some("data=journal,errors=remount-ro")),
            ("defaults,,lowerdir=/a:/b", 0, Some("lowerdir=/a:/b")),
        ];
        for (text, flags, data) in table {
            let data = data.map(|data| CString::new(data).unwrap());
            assert_eq!(options(text.as_bytes()), (flags, data), "{text}");
        }
    }

    #[test]
    fn lists_of_the_kernel() {
        let list = b"nodev\tsysfs\n\text3\nnodev\ttmpfs\n\text4\n";
        assert_eq!(device_file_systems(list).collect::<Vec<_>>(), [c"ext3".to_owned(), c"ext4".to_owned()]);
        let mounts = b"proc /proc proc rw 0 0\ntmpfs /a\\040b\\134 tmpfs rw 0 0\nnothing\n";
        for (path, mounted) in
            [("/proc", true), ("/a b\\", true), ("/a", false), ("tmpfs", false), ("", false)]
        {
            assert_eq!(is_mounted(mounts, path.as_bytes()), mounted, "{path}");
        }
        assert_eq!(unescape(b"\\04\\777\\0"), b"\\04\\777\\0");
    }
}
