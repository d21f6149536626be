//! One table: a header and what follows it (ACPI 6.5 §5.2.6).

use acpi_tables::Aml;
use acpi_tables::sdt::Sdt;

use super::{AcpiError, OEM_ID, OEM_REVISION, OEM_TABLE_ID};

/// Length of a table's header in bytes.
const HEADER: usize = 36;

/// A complete system description table, its checksum right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Vec<u8>);

impl Table {
    /// A table of this signature and revision with `body` behind the header.
    pub fn new(signature: [u8; 4], revision: u8, body: &[u8]) -> Self {
        let mut table = Sdt::new(signature, HEADER as u32, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        table.append_slice(body);
        Table(table.as_slice().to_vec())
    }

    /// A finished table, as the `acpi_tables` crate builds them.
    ///
    /// # Errors
    ///
    /// [`AcpiError::Malformed`] if it is none.
    pub fn from_aml(table: &dyn Aml) -> Result<Self, AcpiError> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        Self::from_bytes(bytes)
    }

    /// The bytes of a finished table.
    ///
    /// # Errors
    ///
    /// [`AcpiError::Malformed`] if they are shorter than a header, have another length than the header says, or a wrong
    /// checksum.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, AcpiError> {
        let malformed = |why| AcpiError::Malformed { len: bytes.len(), why };
        let length = bytes.get(4..8).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes);
        if bytes.len() < HEADER {
            return Err(malformed("a header has 36"));
        }
        if length.map(u64::from) != Some(bytes.len() as u64) {
            return Err(malformed("the header has another length"));
        }
        if bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) != 0 {
            return Err(malformed("the checksum is wrong"));
        }
        Ok(Table(bytes))
    }

    /// The four letters that name it.
    pub fn signature(&self) -> &[u8] {
        self.0.get(..4).unwrap_or_default()
    }

    /// Header and body.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
