//! What a command line cannot hold.

use thiserror::Error;

/// Why something cannot be passed on the kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CmdlineError {
    /// The kernel would cut the line, or panic on it.
    #[error("the kernel command line has {len} bytes, the guest kernel takes {limit}; pass less, or by file")]
    TooLong {
        /// Length in bytes.
        len: usize,
        /// Longest accepted length.
        limit: usize,
    },
    /// A byte that cannot be on a command line: control characters, line ends, anything but ASCII.
    #[error(
        "{field} {value:?} has the byte {byte:#04x} at offset {position}; only 0x20 to 0x7e can be passed"
    )]
    NotPrintable {
        /// Which value.
        field: String,
        /// The value.
        value: String,
        /// Offset of the byte.
        position: usize,
        /// The byte.
        byte: u8,
    },
    /// A double quote, which cannot be escaped, or one that does not end.
    #[error("{field} {value:?} has a double quote, which a kernel command line cannot carry")]
    Quote {
        /// Which value.
        field: String,
        /// The value.
        value: String,
    },
    /// A word that is empty, or would be split in two.
    #[error("{field} {value:?} is not one word")]
    NotOneWord {
        /// Which value.
        field: String,
        /// The value.
        value: String,
    },
    /// A `--` of its own, which would end what it is part of.
    #[error("{field} {value:?} has a word `--`, behind which the kernel would not read on")]
    Separator {
        /// Which value.
        field: String,
        /// The value.
        value: String,
    },
    /// A name with a dot: the kernel takes it for a module parameter and drops it.
    #[error("environment name {name:?} has a dot; the kernel would drop it as a module parameter")]
    DottedName {
        /// The name.
        name: String,
    },
    /// A name the kernel takes for itself.
    #[error("environment name {name:?} is a kernel parameter; the kernel would act on it and not pass it on")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// More environment than the kernel has slots for: it would panic.
    #[error("{name:?} is environment entry {count} with HOME and TERM, the guest kernel takes {limit}")]
    TooManyEnv {
        /// The name that is too many.
        name: String,
        /// Entries with it.
        count: usize,
        /// Most entries.
        limit: usize,
    },
    /// More arguments than the kernel has slots for: it would panic.
    #[error("argument {count} is too many, the guest kernel takes {limit}")]
    TooManyArgs {
        /// Arguments with it.
        count: usize,
        /// Most arguments.
        limit: usize,
    },
}
