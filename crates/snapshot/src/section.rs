//! A section: who wrote it, in which version, and the payload.

use crate::codec::{DecodeError, Reader};

/// Largest payload a section may hold, in bytes (16 MiB).
///
/// Device state is small; RAM never travels in a section.
pub const MAX_SECTION_LEN: usize = 16 << 20;

/// Names a section inside a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SectionId {
    /// What kind of component wrote it. Each component documents its number.
    pub kind: u32,
    /// Version of the payload layout, starting at 1.
    pub version: u16,
    /// Tells several components of one kind apart (for example the MMIO slot of a device).
    pub instance: u32,
}

/// A component's saved state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Kind, version and instance.
    pub id: SectionId,
    /// Encoded fields; see [`crate::Writer`].
    pub payload: Vec<u8>,
}

impl Section {
    /// Wraps an encoded payload.
    pub fn new(id: SectionId, payload: Vec<u8>) -> Self {
        Section { id, payload }
    }

    /// Starts decoding after checking kind, version and size.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Kind`] if the section is of another kind, [`DecodeError::Version`] if its version
    /// is 0 or newer than `newest`, [`DecodeError::TooLong`] above [`MAX_SECTION_LEN`].
    pub fn expect_kind(&self, kind: u32, newest: u16) -> Result<Reader<'_>, DecodeError> {
        if self.id.kind != kind {
            return Err(DecodeError::Kind { expected: kind, found: self.id.kind });
        }
        if self.id.version == 0 || self.id.version > newest {
            return Err(DecodeError::Version { kind, newest, found: self.id.version });
        }
        if self.payload.len() > MAX_SECTION_LEN {
            return Err(DecodeError::TooLong {
                field: "section",
                len: self.payload.len() as u64,
                limit: MAX_SECTION_LEN as u64,
            });
        }
        Ok(Reader::new(&self.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u32, version: u16) -> Section {
        Section::new(SectionId { kind, version, instance: 0 }, vec![1])
    }

    #[test]
    fn kind_and_version_are_checked() {
        let table = [
            (7, 1, 1, Ok(())),
            (7, 2, 2, Ok(())),
            (7, 1, 2, Ok(())),
            (8, 1, 1, Err(DecodeError::Kind { expected: 7, found: 8 })),
            (7, 0, 1, Err(DecodeError::Version { kind: 7, newest: 1, found: 0 })),
            (7, 2, 1, Err(DecodeError::Version { kind: 7, newest: 1, found: 2 })),
        ];
        for (kind, version, newest, want) in table {
            let got = section(kind, version).expect_kind(7, newest).map(|_| ());
            assert_eq!(got, want, "kind {kind} version {version} newest {newest}");
        }
    }

    #[test]
    fn an_oversized_payload_is_refused() {
        let big = Section::new(SectionId { kind: 7, version: 1, instance: 0 }, vec![0; MAX_SECTION_LEN + 1]);
        assert!(matches!(big.expect_kind(7, 1), Err(DecodeError::TooLong { .. })));
    }
}
