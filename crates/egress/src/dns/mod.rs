//! What the guest learned from DNS: answers, and the pins they make.

mod message;
mod pins;
mod stream;
mod wire;

pub use message::{Answer, MAX_ADDRESSES, MAX_ALIASES};
pub use pins::{MAX_NAMES_PER_ADDRESS, MAX_PINNED_ADDRESSES, NAME_CHECK_GRACE};
pub use stream::DnsStream;

pub(crate) use pins::Pins;

/// Why a DNS message pins nothing. The message still belongs to the guest: forward it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// It does not come from a trusted resolver.
    #[error("not from a trusted resolver")]
    Untrusted,
    /// It ends inside a header, name or record that it announced.
    #[error("ends inside {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// It is not a successful answer to one question of class IN.
    #[error("not a successful answer to one question")]
    NotAnAnswer,
    /// A name with a bad label, over 255 octets, or with a pointer that does not point backwards.
    #[error("malformed name at offset {at}")]
    Name {
        /// The offset of the label at fault.
        at: usize,
    },
    /// An address or alias record of the wrong length.
    #[error("record with {len} octets of data")]
    RecordLength {
        /// The length given.
        len: usize,
    },
    /// The aliases form a loop, or a chain of more than [`MAX_ALIASES`].
    #[error("more than {MAX_ALIASES} aliases in a row")]
    AliasChain,
}
