//! What a guest may use as a name. Pure.

use std::ffi::CStr;

use rustix::io::Errno;

/// Longest file name in bytes (Linux `NAME_MAX`).
pub(super) const NAME_MAX: usize = 255;
/// Longest symbolic link target in bytes (Linux `PATH_MAX` without the NUL).
pub(super) const TARGET_MAX: usize = 4095;
/// Longest extended attribute name in bytes (Linux `XATTR_NAME_MAX`).
pub(super) const XATTR_NAME_MAX: usize = 255;

/// Checks that `name` names an entry of one directory and nothing else: not the directory itself, not its
/// parent, not a path.
pub(super) fn component(name: &CStr) -> Result<&CStr, Errno> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        bytes if bytes.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
        _ => Ok(name),
    }
}

/// Takes the NUL-terminated string at the start of `bytes`; returns it and what follows.
pub(super) fn take_str(bytes: &[u8]) -> Result<(&CStr, &[u8]), Errno> {
    let name = CStr::from_bytes_until_nul(bytes).map_err(|_| Errno::INVAL)?;
    let rest = bytes.get(name.count_bytes().saturating_add(1)..).ok_or(Errno::INVAL)?;
    Ok((name, rest))
}

/// `bytes` as exactly one NUL-terminated string.
pub(super) fn only_str(bytes: &[u8]) -> Result<&CStr, Errno> {
    match take_str(bytes)? {
        (name, []) => Ok(name),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_components_pass() {
        let long_ok = [b'x'; NAME_MAX];
        let too_long = [b'x'; NAME_MAX + 1];
        let table: [(&[u8], Result<(), Errno>); 14] = [
            (b"a", Ok(())),
            (b"...", Ok(())),
            (b".hidden", Ok(())),
            (b"\xff\xfe", Ok(())),
            (b" ", Ok(())),
            (&long_ok, Ok(())),
            (&too_long, Err(Errno::NAMETOOLONG)),
            (b"", Err(Errno::INVAL)),
            (b".", Err(Errno::INVAL)),
            (b"..", Err(Errno::INVAL)),
            (b"/", Err(Errno::INVAL)),
            (b"a/b", Err(Errno::INVAL)),
            (b"../etc", Err(Errno::INVAL)),
            (b"a/", Err(Errno::INVAL)),
        ];
        for (name, want) in table {
            let name = std::ffi::CString::new(name).unwrap();
            assert_eq!(component(&name).map(|_| ()), want, "{name:?}");
        }
    }

    #[test]
    fn strings_end_at_their_nul() {
        assert_eq!(only_str(b"ab\0"), Ok(c"ab"));
        assert_eq!(only_str(b"ab"), Err(Errno::INVAL));
        assert_eq!(only_str(b""), Err(Errno::INVAL));
        assert_eq!(only_str(b"ab\0\0"), Err(Errno::INVAL));
        assert_eq!(take_str(b"a\0bc\0"), Ok((c"a", &b"bc\0"[..])));
    }
}
