//! What a file is, by its first bytes. Pure.

use super::SetupHeader;

pub(super) const ELF_MAGIC: &[u8] = b"\x7fELF";
const PE_MAGIC: &[u8] = b"MZ";
const ZBOOT_MAGIC: &[u8] = b"zimg";

/// The kind of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Elf,
    BzImage(SetupHeader),
    /// An EFI zboot image: place and length of its payload.
    Zboot {
        at: u64,
        len: u64,
    },
    /// Not told by its first bytes.
    Other,
}

/// The kind of an image that begins with `head`.
pub(super) fn shape(head: &[u8]) -> Shape {
    if head.starts_with(ELF_MAGIC) {
        return Shape::Elf;
    }
    if let Some(header) = SetupHeader::parse(head) {
        return Shape::BzImage(header);
    }
    zboot(head).unwrap_or(Shape::Other)
}

/// Linux `drivers/firmware/efi/libstub/zboot-header.S`: magics at 0 and 4, payload offset at 8, its size at 12.
fn zboot(head: &[u8]) -> Option<Shape> {
    let word = |at: usize| {
        let bytes = head.get(at..)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    };
    if !head.starts_with(PE_MAGIC) || head.get(4..8)? != ZBOOT_MAGIC {
        return None;
    }
    Some(Shape::Zboot { at: word(8)?, len: word(12)? })
}
