//! The name a connection is for, from the first bytes the guest sends.

mod http;
mod tls;

use crate::flow::{NameCheck, NameCheckFailure};
use crate::host::HostName;

/// Most bytes looked at for a name. A ClientHello or request head that is longer has none.
pub const MAX_INSPECTED: usize = 16 << 10;

/// What one look at the bytes so far gave.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// The name.
    Name(HostName),
    /// Not before there are this many bytes; more than were there.
    Need(usize),
}

/// What an [`Inspector`] knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// The name cannot be known before the guest sends more.
    Incomplete,
    /// The connection is for this name.
    Name(HostName),
}

/// Why a connection shows no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It is of the right protocol, without a name.
    #[error("no host name")]
    NoName,
    /// There is a name that is not one host name: an address, several names, or bad characters.
    #[error("not one host name")]
    BadName,
    /// It is not the protocol that the port is for.
    #[error("not the protocol of the port")]
    Protocol,
    /// There is no name in the first [`MAX_INSPECTED`] bytes.
    #[error("no host name in the first {MAX_INSPECTED} bytes")]
    TooLong,
}

impl InspectError {
    pub(crate) fn failure(self) -> NameCheckFailure {
        match self {
            Self::NoName => NameCheckFailure::Missing,
            Self::BadName => NameCheckFailure::Mismatch,
            Self::Protocol | Self::TooLong => NameCheckFailure::Unreadable,
        }
    }
}

/// Collects the first bytes of a connection until they show its name.
///
/// The caller holds the same bytes back and forwards them when
/// [`Egress::check_name`](crate::Egress::check_name) agrees. Bytes in the other direction may flow.
#[derive(Clone, Debug)]
pub struct Inspector {
    check: NameCheck,
    bytes: Vec<u8>,
    /// The least number of bytes worth another look.
    need: usize,
    /// The end of it.
    outcome: Option<Result<HostName, InspectError>>,
}

impl Inspector {
    /// An inspector for a connection whose decision asks for `check`.
    pub const fn new(check: NameCheck) -> Self {
        Self { check, bytes: Vec::new(), need: 0, outcome: None }
    }

    /// Takes the next bytes the guest sent, however they were cut. Time is linear in their number. Once the
    /// result is not [`Incomplete`](Inspection::Incomplete) it stays as it is, and further bytes are not
    /// looked at: neither a second ClientHello nor a second request of the same connection is checked.
    ///
    /// A name does not depend on how the stream was cut; an error may be noticed some bytes later when it
    /// comes in small pieces.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Inspection, InspectError> {
        if self.outcome.is_none() {
            self.outcome = self.look(bytes);
            if self.outcome.is_some() {
                self.bytes = Vec::new();
            }
        }
        match self.outcome.clone() {
            None => Ok(Inspection::Incomplete),
            Some(outcome) => outcome.map(Inspection::Name),
        }
    }

    fn look(&mut self, bytes: &[u8]) -> Option<Result<HostName, InspectError>> {
        let seen = self.bytes.len();
        let room = MAX_INSPECTED.saturating_sub(seen);
        self.bytes.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        let full = self.bytes.len() >= MAX_INSPECTED;
        if self.bytes.len() < self.need && !full {
            return None;
        }
        let look = match self.check {
            NameCheck::Tls => tls::look(&self.bytes),
            NameCheck::Http => http::look(&self.bytes, seen),
        };
        match look {
            Ok(Look::Name(name)) => Some(Ok(name)),
            Ok(Look::Need(need)) if need > MAX_INSPECTED || full => Some(Err(InspectError::TooLong)),
            Ok(Look::Need(need)) => {
                self.need = need;
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests;
