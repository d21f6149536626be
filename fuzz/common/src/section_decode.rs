//! Snapshot sections: any payload, read as any sequence of fields.

use purlin_snapshot::{DecodeError, Reader, Writer};

/// Limit for lengths and counts.
const LIMIT: u32 = 64;

/// Reads a payload field by field. The input is the number of fields, a byte per field for its type, and the payload.
///
/// What was read, written again, is what was consumed: the encoding has one form for each value.
pub fn section_decode(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let Some((types, payload)) = rest.split_at_checked(usize::from(*count)) else { return };
    let mut reader = Reader::new(payload);
    let mut writer = Writer::new();
    for field_type in types {
        let before = reader.remaining();
        if copy_field(*field_type, &mut reader, &mut writer).is_err() {
            return;
        }
        assert!(reader.remaining() < before, "a field takes at least one byte");
    }
    let consumed = payload.len() - reader.remaining();
    assert_eq!(writer.into_bytes(), payload[..consumed]);
    assert_eq!(reader.finish().is_ok(), consumed == payload.len());
}

fn copy_field(field_type: u8, reader: &mut Reader, writer: &mut Writer) -> Result<(), DecodeError> {
    match field_type % 8 {
        0 => writer.u8(reader.u8("u8")?),
        1 => writer.bool(reader.bool("bool")?),
        2 => writer.u16(reader.u16("u16")?),
        3 => writer.u32(reader.u32("u32")?),
        4 => writer.u64(reader.u64("u64")?),
        5 => {
            let bytes = reader.bytes("bytes", LIMIT)?;
            assert!(bytes.len() <= LIMIT as usize);
            writer.bytes(bytes);
        }
        6 => {
            let text = reader.str("str", LIMIT)?;
            assert!(text.len() <= LIMIT as usize);
            writer.str(text);
        }
        _ => {
            let count = reader.count("count", LIMIT)?;
            assert!(count <= LIMIT);
            writer.u32(count);
        }
    }
    Ok(())
}
