//! The SMBIOS table (DMTF DSP0134, version 3.0): who made the machine, and OEM strings of its owner. Pure bytes.
//!
//! The entry point is where a kernel without EFI searches for it (§5.2.2): on a 16-byte boundary between 0xf0000 and
//! 0xfffff. Linux shows the strings in `/sys/firmware/dmi/entries/11-0/raw`, `dmidecode` as "OEM Strings".

use thiserror::Error;

use super::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::{RESET_VECTOR, SMBIOS};

const ENTRY_LEN: usize = 24;
/// Most bytes of entry point and structures.
const LIMIT: usize = (RESET_VECTOR - SMBIOS) as usize;
/// One byte counts them.
const MAX_STRINGS: usize = 255;

const BIOS: u8 = 0;
const SYSTEM: u8 = 1;
const OEM_STRINGS: u8 = 11;
const END: u8 = 127;

/// Why strings cannot be in the table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SmbiosError {
    /// More strings than can be counted.
    #[error("{count} OEM strings are more than {MAX_STRINGS}")]
    TooMany {
        /// Number of strings.
        count: usize,
    },
    /// A string that would end the list of strings: an empty one, or with a NUL in it.
    #[error("OEM string {number} is empty or has a NUL in it, which would end it and those behind it")]
    Empty {
        /// Its number, from 1.
        number: usize,
    },
    /// More bytes than there are for the table.
    #[error("OEM strings make a table of {len} bytes, more than the {LIMIT} there are")]
    TooLong {
        /// Length of the table.
        len: usize,
    },
}

/// Entry point and structures, for [`SMBIOS`].
///
/// # Errors
///
/// [`SmbiosError`].
pub fn build<S: AsRef<str>>(oem_strings: &[S]) -> Result<Vec<u8>, SmbiosError> {
    if oem_strings.len() > MAX_STRINGS {
        return Err(SmbiosError::TooMany { count: oem_strings.len() });
    }
    let unusable = |string: &S| string.as_ref().is_empty() || string.as_ref().contains('\0');
    if let Some(at) = oem_strings.iter().position(unusable) {
        return Err(SmbiosError::Empty { number: at + 1 });
    }
    let strings: Vec<&str> = oem_strings.iter().map(AsRef::as_ref).collect();
    let structures = [
        bios(),
        system(),
        // At most 255.
        structure(OEM_STRINGS, 2, &[strings.len() as u8], &strings),
        structure(END, 3, &[], &[]),
    ];
    let table = structures.concat();
    let bytes = [entry_point(table.len()).as_slice(), &table].concat();
    if bytes.len() > LIMIT {
        return Err(SmbiosError::TooLong { len: bytes.len() });
    }
    Ok(bytes)
}

/// Writes a built table to [`SMBIOS`].
///
/// # Errors
///
/// [`BootError::Write`] if that is not RAM.
pub fn write_to(ram: &GuestRam, table: &[u8]) -> Result<(), BootError> {
    write(ram, "SMBIOS table", SMBIOS, table)
}

/// §5.2.2: the table follows.
fn entry_point(table_len: usize) -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    // Anchor, checksum, length, version 3.0.0, entry point revision, reserved.
    let head = *b"_SM3_\0\x18\x03\0\0\x01\0";
    let len = (table_len as u32).to_le_bytes();
    let at = (SMBIOS + ENTRY_LEN as u64).to_le_bytes();
    let bytes = head.iter().chain(&len).chain(&at);
    entry.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let sum = entry.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    if let Some(checksum) = entry.get_mut(5) {
        *checksum = sum.wrapping_neg();
    }
    entry
}

/// Header, formatted part, and strings (§6.1.3).
fn structure(kind: u8, handle: u16, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
    // Formatted parts are some 30 bytes.
    let mut bytes = vec![kind, formatted.len() as u8 + 4];
    bytes.extend(handle.to_le_bytes());
    bytes.extend(formatted);
    for string in strings {
        bytes.extend(string.as_bytes());
        bytes.push(0);
    }
    if strings.is_empty() {
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// §7.1, of version 2.4: a kernel reads vendor and version.
fn bios() -> Vec<u8> {
    let mut formatted = vec![1, 2, 0, 0, 3, 0];
    formatted.extend((1u64 << 3).to_le_bytes()); // characteristics are not given
    formatted.extend([0, 1 << 4]); // a virtual machine
    formatted.extend([0, 0, 0xff, 0xff]); // no release, no embedded controller
    structure(BIOS, 0, &formatted, &["Purlin", "1", "01/01/2026"])
}

/// §7.2, of version 2.4.
fn system() -> Vec<u8> {
    let mut formatted = vec![1, 2, 0, 0];
    formatted.extend([0; 16]); // no UUID
    formatted.extend([6, 0, 0]); // started by its power switch
    structure(SYSTEM, 1, &formatted, &["Purlin", "microVM"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn golden() {
        let built = build(&["one", "key=value two"]).unwrap();
        #[rustfmt::skip]
        let expected: &[&[u8]] = &[
            b"_SM3_\x36\x18\x03\0\0\x01\0\x76\0\0\0\x18\x80\x0f\0\0\0\0\0",
            b"\0\x18\0\0\x01\x02\0\0\x03\0\x08\0\0\0\0\0\0\0\0\x10\0\0\xff\xff",
            b"Purlin\x001\x0001/01/2026\0\0",
            b"\x01\x1b\x01\0\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x06\0\0Purlin\0microVM\0\0",
            b"\x0b\x05\x02\0\x02one\0key=value two\0\0",
            b"\x7f\x04\x03\0\0\0",
        ];
        assert_eq!(built, expected.concat(), "{built:02x?}");
    }

    /// Walks the structures as an operating system does.
    #[test]
    fn every_list_reads_back() {
        for count in [0, 1, 2, 255] {
            let strings: Vec<_> = (0..count).map(|n| format!("string {n}")).collect();
            let built = build(&strings).unwrap();
            let (entry, table) = built.split_at(24);
            assert_eq!(entry.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0);
            assert_eq!(entry[12..16], (table.len() as u32).to_le_bytes());
            let (mut rest, mut kinds, mut found) = (table, Vec::new(), Vec::new());
            while !rest.is_empty() {
                let strings = &rest[usize::from(rest[1])..];
                let end = strings.windows(2).position(|pair| pair == [0, 0]).unwrap();
                kinds.push(rest[0]);
                if rest[0] == 11 {
                    assert_eq!(usize::from(rest[4]), count);
                    found = strings[..end].split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
                    found.retain(|string| !string.is_empty());
                }
                rest = &strings[end + 2..];
            }
            assert_eq!(kinds, [0, 1, 11, 127]);
            assert_eq!(found, strings.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn lists_that_cannot_be() {
        assert_eq!(build(&["x"; 256]), Err(SmbiosError::TooMany { count: 256 }));
        assert_eq!(build(&["x", ""]), Err(SmbiosError::Empty { number: 2 }));
        assert_eq!(build(&["x\0y"]), Err(SmbiosError::Empty { number: 1 }));
        let long = "x".repeat(1000);
        assert!(matches!(build(&[long.as_str(); 33]), Err(SmbiosError::TooLong { .. })));
        assert!(build(&[long.as_str(); 32]).is_ok());
    }

    #[test]
    fn lands_at_its_address() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_to(&ram, &build(&["x"]).unwrap()).unwrap();
        assert_eq!(ram.read_obj::<[u8; 5]>(GuestAddress(0xf_8000)).unwrap(), *b"_SM3_");
    }
}
