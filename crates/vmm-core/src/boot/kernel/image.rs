//! An image that is read by pieces, each within its bounds.

use std::io::{Cursor, Read, Seek, SeekFrom};

use vm_memory::ReadVolatile;

use super::{ImageError, MAX_KERNEL};
use crate::memory::{Bytes, GuestAddress, GuestRam};

/// Bytes looked at to tell what a file is.
const HEAD: u64 = 0x1000;

/// A file, or bytes in memory.
pub(super) struct Image<F> {
    file: F,
    len: u64,
}

impl<F: Read + Seek + ReadVolatile> Image<F> {
    pub fn new(mut file: F) -> Result<Self, ImageError> {
        let len = file.seek(SeekFrom::End(0))?;
        if len > MAX_KERNEL {
            return Err(ImageError::TooLarge);
        }
        Ok(Image { file, len })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The beginning, shorter if the image is.
    pub fn head(&mut self) -> Result<Vec<u8>, ImageError> {
        self.bytes(0, self.len.min(HEAD))
    }

    /// `len` bytes from `at` on, all or an error.
    pub fn bytes(&mut self, at: u64, len: u64) -> Result<Vec<u8>, ImageError> {
        self.seek(at, len)?;
        // At most MAX_KERNEL.
        let mut bytes = vec![0; len as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Copies `len` bytes from `at` on to guest memory.
    pub fn copy_to(&mut self, at: u64, len: u64, ram: &GuestRam, addr: u64) -> Result<(), ImageError> {
        self.seek(at, len)?;
        Ok(ram.read_exact_volatile_from(GuestAddress(addr), &mut self.file, len as usize)?)
    }

    fn seek(&mut self, at: u64, len: u64) -> Result<(), ImageError> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => {
                self.file.seek(SeekFrom::Start(at))?;
                Ok(())
            }
            _ => Err(ImageError::Truncated { at, len, file_len: self.len }),
        }
    }
}

impl Image<Cursor<Vec<u8>>> {
    /// An image in memory.
    pub fn unpacked(bytes: Vec<u8>) -> Result<Self, ImageError> {
        Self::new(Cursor::new(bytes))
    }
}
