//! The workload file: what to run, for values the kernel command line cannot carry.
//!
//! A kernel command line holds at most some 2,000 printable bytes and has no escape for a double quote. A host whose
//! values do not fit puts them into a file on the guest's root and names it with
//! [`ENV_EXEC_FILE`](crate::abi::ENV_EXEC_FILE). PID 1 opens the file once, before anything is mounted, so its name may
//! vanish after the first lookup.
//!
//! All integers are 32-bit little endian:
//!
//! ```text
//! magic "PRLNEXEC" · version 1 · 5 lists, in the order program, arguments, environment, working directory, limits
//! list:  number of items · items         item: number of bytes · bytes (no NUL)
//! ```
//!
//! Program and working directory are lists of no or one item, limits are items for
//! [`Rlimit::parse`](crate::rlimit::Rlimit::parse). Nothing follows the last list.

use alloc::vec::Vec;
use core::fmt;

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"PRLNEXEC";

/// The version this crate writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Largest file, bytes.
pub const MAX_FILE: usize = 4 << 20;

/// Most items in one list.
pub const MAX_ITEMS: usize = 4096;

/// What to run. Strings are bytes without NUL; they need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The program: a path, or a name to be searched in `PATH`. `None` lets the arguments be the command, and
    /// `/bin/sh` if there are none.
    pub program: Option<Vec<u8>>,
    /// The arguments, without the program itself.
    pub args: Vec<Vec<u8>>,
    /// `NAME=VALUE` entries, added to the environment of the boot command line; a later entry replaces an earlier one.
    pub env: Vec<Vec<u8>>,
    /// The working directory; `None` leaves it at `/`.
    pub workdir: Option<Vec<u8>>,
    /// Resource limits, each `id=soft:hard`.
    pub rlimits: Vec<Vec<u8>>,
}

/// Why a workload cannot be written as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// An item holds a NUL byte.
    Nul,
    /// A list has this many items, more than [`MAX_ITEMS`].
    TooManyItems(usize),
    /// The file would have this many bytes, more than [`MAX_FILE`].
    TooLong(usize),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul => f.write_str("an item of the workload holds a NUL byte"),
            Self::TooManyItems(count) => {
                write!(f, "a list of the workload has {count} items, at most {MAX_ITEMS} fit")
            }
            Self::TooLong(length) => write!(f, "the workload takes {length} bytes, at most {MAX_FILE} fit"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why a file is not a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// It does not start with [`MAGIC`].
    NotAWorkload,
    /// It has a version other than [`VERSION`].
    Version(u32),
    /// It ends within a list.
    Truncated,
    /// An item holds a NUL byte.
    Nul,
    /// A list announces this many items, more than it may have.
    TooManyItems(u32),
    /// This many bytes follow the last list.
    TrailingBytes(usize),
}

impl DecodeError {
    /// The error as a text without numbers.
    pub fn text(&self) -> &'static str {
        match self {
            Self::NotAWorkload => "not a workload file",
            Self::Version(_) => "unknown version of the workload file",
            Self::Truncated => "the workload file is cut short",
            Self::Nul => "an item of the workload file holds a NUL byte",
            Self::TooManyItems(_) => "a list of the workload file is too long",
            Self::TrailingBytes(_) => "the workload file has bytes after its end",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            Self::Version(number) | Self::TooManyItems(number) => write!(f, ": {number}"),
            Self::TrailingBytes(count) => write!(f, ": {count}"),
            Self::NotAWorkload | Self::Truncated | Self::Nul => Ok(()),
        }
    }
}

impl core::error::Error for DecodeError {}

impl Workload {
    /// The file's bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for what [`decode`](Self::decode) would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_list(&mut out, self.program.as_slice())?;
        put_list(&mut out, &self.args)?;
        put_list(&mut out, &self.env)?;
        put_list(&mut out, self.workdir.as_slice())?;
        put_list(&mut out, &self.rlimits)?;
        if out.len() > MAX_FILE {
            return Err(EncodeError::TooLong(out.len()));
        }
        Ok(out)
    }

    /// Reads a file's bytes. Never takes more memory than a small multiple of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not exactly what [`encode`](Self::encode) writes for some workload.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor(bytes);
        if cursor.take(MAGIC.len()) != Ok(&MAGIC) {
            return Err(DecodeError::NotAWorkload);
        }
        match cursor.number()? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let workload = Self {
            program: cursor.list(1)?.pop(),
            args: cursor.list(MAX_ITEMS)?,
            env: cursor.list(MAX_ITEMS)?,
            workdir: cursor.list(1)?.pop(),
            rlimits: cursor.list(MAX_ITEMS)?,
        };
        if cursor.0.is_empty() { Ok(workload) } else { Err(DecodeError::TrailingBytes(cursor.0.len())) }
    }
}

fn put_list(out: &mut Vec<u8>, items: &[Vec<u8>]) -> Result<(), EncodeError> {
    if items.len() > MAX_ITEMS {
        return Err(EncodeError::TooManyItems(items.len()));
    }
    put_number(out, items.len())?;
    for item in items {
        if item.contains(&0) {
            return Err(EncodeError::Nul);
        }
        put_number(out, item.len())?;
        out.extend_from_slice(item);
    }
    Ok(())
}

fn put_number(out: &mut Vec<u8>, number: usize) -> Result<(), EncodeError> {
    let number = u32::try_from(number).map_err(|_| EncodeError::TooLong(number))?;
    out.extend_from_slice(&number.to_le_bytes());
    Ok(())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?.try_into().map_err(|_| DecodeError::Truncated)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn item(&mut self) -> Result<Vec<u8>, DecodeError> {
        let length = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        let item = self.take(length)?;
        if item.contains(&0) { Err(DecodeError::Nul) } else { Ok(item.to_vec()) }
    }

    fn list(&mut self, most: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
        let count = self.number()?;
        if usize::try_from(count).map_or(true, |count| count > most) {
            return Err(DecodeError::TooManyItems(count));
        }
        (0..count).map(|_| self.item()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Workload {
        Workload {
            program: Some(b"/bin/echo".to_vec()),
            args: Vec::from([Vec::new(), b"a \"b\"\n".to_vec()]),
            env: Vec::from(["K=\u{e9}".as_bytes().to_vec()]),
            workdir: Some(b"/tmp".to_vec()),
            rlimits: Vec::from([b"7=1:2".to_vec()]),
        }
    }

    #[test]
    fn golden() {
        let expected = b"PRLNEXEC\x01\0\0\0\
            \x01\0\0\0\x09\0\0\0/bin/echo\
            \x02\0\0\0\0\0\0\0\x06\0\0\0a \"b\"\n\
            \x01\0\0\0\x04\0\0\0K=\xc3\xa9\
            \x01\0\0\0\x04\0\0\0/tmp\
            \x01\0\0\0\x05\0\0\x007=1:2";
        assert_eq!(example().encode().unwrap(), expected);
        assert_eq!(Workload::decode(expected), Ok(example()));
    }

    #[test]
    fn every_prefix_is_refused() {
        let file = example().encode().unwrap();
        for length in 0..file.len() {
            let error = Workload::decode(&file[..length]).unwrap_err();
            let expected = if length < 8 { DecodeError::NotAWorkload } else { DecodeError::Truncated };
            assert_eq!(error, expected, "{length}");
        }
    }

    #[test]
    fn broken_files() {
        let file = example().encode().unwrap();
        let with = |at: usize, value: u8| {
            let mut file = file.clone();
            file[at] = value;
            Workload::decode(&file)
        };
        assert_eq!(with(0, b'p'), Err(DecodeError::NotAWorkload));
        assert_eq!(with(8, 2), Err(DecodeError::Version(2)));
        assert_eq!(with(12, 2), Err(DecodeError::TooManyItems(2)));
        assert_eq!(with(20, 0), Err(DecodeError::Nul));
        assert_eq!(with(19, 0xff), Err(DecodeError::Truncated));
        assert_eq!(Workload::decode(&[file, Vec::from([1, 2])].concat()), Err(DecodeError::TrailingBytes(2)));
    }

    #[test]
    fn what_cannot_be_written() {
        let nul = Workload { workdir: Some(b"a\0".to_vec()), ..Workload::default() };
        assert_eq!(nul.encode(), Err(EncodeError::Nul));
        let many = Workload { args: alloc::vec![Vec::new(); MAX_ITEMS + 1], ..Workload::default() };
        assert_eq!(many.encode(), Err(EncodeError::TooManyItems(MAX_ITEMS + 1)));
        let long = Workload { program: Some(alloc::vec![1; MAX_FILE]), ..Workload::default() };
        assert!(matches!(long.encode(), Err(EncodeError::TooLong(length)) if length > MAX_FILE));
    }

    fn item() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1..=255_u8, 0..20)
    }

    fn items() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(item(), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            program in proptest::option::of(item()), args in items(), env in items(),
            workdir in proptest::option::of(item()), rlimits in items(),
        ) {
            let workload = Workload { program, args, env, workdir, rlimits };
            let file = workload.encode().unwrap();
            prop_assert_eq!(Workload::decode(&file), Ok(workload));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(
            mut file in items().prop_map(|args| Workload { args, ..Workload::default() }.encode().unwrap()),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        ) {
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            if let Ok(workload) = Workload::decode(&file) {
                prop_assert_eq!(workload.encode().unwrap(), file);
            }
        }
    }
}
