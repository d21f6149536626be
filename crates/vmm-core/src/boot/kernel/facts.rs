//! What a kernel's file says before there is RAM for the kernel.

use std::fs::File;
use std::path::Path;

use super::detect::{Shape, shape};
use super::image::Image;
use super::{ImageError, KernelError};
use crate::boot::initramfs::sizing::Release;

/// Longest banner looked at.
const RELEASE: u64 = 256;

/// What is known of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelFacts {
    /// Memory it needs while it starts, in bytes (`init_size` of the setup header); 0 if that is not known.
    pub init_size: u64,
    /// Its release (the setup header's `kernel_version`).
    pub release: Option<Release>,
}

/// Reads them from the setup header of a bzImage; other files say nothing. Blocks for file reads.
///
/// # Errors
///
/// [`KernelError`] if the file cannot be read.
pub fn facts(path: &Path) -> Result<KernelFacts, KernelError> {
    read(path).map_err(|reason| KernelError { path: path.to_owned(), reason })
}

fn read(path: &Path) -> Result<KernelFacts, ImageError> {
    let mut image = Image::new(File::open(path)?)?;
    let Shape::BzImage(header) = shape(&image.head()?) else { return Ok(KernelFacts::default()) };
    let mut facts = KernelFacts { init_size: header.init_size, release: None };
    if let Some(at) = header.release_at {
        let len = image.len().saturating_sub(at).min(RELEASE);
        let text = image.bytes(at.min(image.len()), len)?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        let text = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
        facts.release = Release::of_banner(&text);
    }
    Ok(facts)
}
