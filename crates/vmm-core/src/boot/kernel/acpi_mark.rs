//! Whether a kernel reads ACPI tables: the signature of their root is a string constant of the code that does. Pure.

use std::io::{Read, Seek};

use vm_memory::ReadVolatile;

use super::image::Image;
use super::{ImageError, SetupHeader};

const MARK: &[u8] = b"RSD PTR ";
/// Pieces in which an image is searched.
const PIECE: u64 = 1 << 20;

/// Of an uncompressed image: all of it is searched.
pub(super) fn in_image<F: Read + Seek + ReadVolatile>(image: &mut Image<F>) -> Result<bool, ImageError> {
    in_range(image, 0, image.len())
}

/// Of a bzImage: what surrounds the payload is code that also looks for the tables (since Linux 5.2), so that finding
/// nothing tells nothing.
pub(super) fn around_payload<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    header: &SetupHeader,
) -> Result<Option<bool>, ImageError> {
    let Some((offset, length)) = header.payload else { return Ok(None) };
    let start = header.protected_mode.saturating_add(offset).min(image.len());
    let end = start.saturating_add(length).min(image.len());
    let found = in_range(image, 0, start)? || in_range(image, end, image.len())?;
    Ok(found.then_some(true))
}

fn in_range<F: Read + Seek + ReadVolatile>(
    image: &mut Image<F>,
    mut start: u64,
    end: u64,
) -> Result<bool, ImageError> {
    while start < end {
        let len = PIECE.min(end - start);
        if memchr::memmem::find(&image.bytes(start, len)?, MARK).is_some() {
            return Ok(true);
        }
        if start + len >= end {
            break;
        }
        // The next piece begins with what may be the beginning of a mark.
        start = start + len - (MARK.len() as u64 - 1);
    }
    Ok(false)
}
