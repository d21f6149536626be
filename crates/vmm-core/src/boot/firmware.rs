//! Firmware: a ROM that ends at 4 GiB, in which the processors begin as after a reset.
//!
//! A processor begins 16 bytes below 4 GiB, in real mode (Intel SDM volume 3, §11.1.4 "First Instruction Executed"). A PC
//! shows the last 128 KiB of the ROM below 1 MiB as well, where real mode code runs on after its first far jump; here that is
//! a copy in RAM. Pure but for reading the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

use super::BootError;
use crate::memory::layout::{FIRMWARE, GAP_END, HIGH_MEMORY, PAGE_SIZE, RamRange};
use crate::memory::{GuestRam, Window};

/// The largest ROM in bytes: above it the address space is that of interrupt controllers and of KVM itself.
pub const MAX_FIRMWARE: u64 = GAP_END - FIRMWARE;
/// Most bytes that are also shown below 1 MiB.
const LEGACY: usize = 128 << 10;

/// Why firmware cannot be put into a machine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FirmwareError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file has no bytes.
    #[error("is empty")]
    Empty,
    /// The file does not fit below 4 GiB.
    #[error("is larger than {MAX_FIRMWARE} bytes")]
    TooLarge,
    /// The host has no memory for it.
    #[error("cannot be mapped: {0}")]
    Map(#[source] io::Error),
    /// There is no RAM where it is copied to.
    #[error(transparent)]
    Write(#[from] BootError),
}

/// The bytes of a ROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware(Vec<u8>);

impl Firmware {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`FirmwareError::Read`], [`FirmwareError::Empty`], [`FirmwareError::TooLarge`].
    pub fn open(path: &Path) -> Result<Self, FirmwareError> {
        let file = File::open(path).map_err(FirmwareError::Read)?;
        let mut bytes = Vec::new();
        file.take(MAX_FIRMWARE + 1).read_to_end(&mut bytes).map_err(FirmwareError::Read)?;
        Self::new(bytes)
    }

    /// A ROM of these bytes.
    ///
    /// # Errors
    ///
    /// [`FirmwareError::Empty`], [`FirmwareError::TooLarge`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, FirmwareError> {
        match bytes.len() as u64 {
            0 => Err(FirmwareError::Empty),
            len if len > MAX_FIRMWARE => Err(FirmwareError::TooLarge),
            _ => Ok(Firmware(bytes)),
        }
    }

    /// A window with the ROM at its end, and its last 128 KiB below 1 MiB in RAM. The guest may write to both; the file
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// [`FirmwareError::Map`], [`FirmwareError::Write`].
    pub fn place(&self, ram: &GuestRam) -> Result<Window, FirmwareError> {
        let len = self.0.len() as u64;
        // At most 16 MiB.
        let mapped = len.next_multiple_of(PAGE_SIZE);
        let window = Window::reserve(RamRange { start: GAP_END - mapped, len: mapped });
        let window = window.map_err(FirmwareError::Map)?;
        let mut padded = vec![0; (mapped - len) as usize];
        padded.extend_from_slice(&self.0);
        window.show_bytes(0, mapped, &padded).map_err(FirmwareError::Map)?;
        let last = self.0.get(self.0.len().saturating_sub(LEGACY)..).unwrap_or_default();
        super::write(ram, "firmware", HIGH_MEMORY - last.len() as u64, last)?;
        Ok(window)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn ends_at_4_gib_and_below_1_mib() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        for (len, start, alias) in [
            (1usize, 0xffff_f000u64, 1u64),
            (0x1_0000, 0xffff_0000, 0x1_0000),
            (0x2_0001, 0xfffd_f000, 0x2_0000),
            (0x100_0000, 0xff00_0000, 0x2_0000),
        ] {
            ram.write_slice(&[0xcc; 2 << 20], GuestAddress(0)).unwrap();
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let window = Firmware::new(bytes.clone()).unwrap().place(&ram).unwrap();
            assert_eq!((window.guest_addr().0, window.guest_addr().0 + window.len()), (start, GAP_END));
            let mut shown = vec![0; alias as usize + 2];
            ram.read_slice(&mut shown, GuestAddress(HIGH_MEMORY - alias - 1)).unwrap();
            assert_eq!((shown[0], shown[alias as usize + 1]), (0xcc, 0xcc), "{len:#x}");
            assert!(shown[1..=alias as usize] == bytes[len - alias as usize..], "{len:#x}");
        }
    }

    #[test]
    fn what_is_no_firmware() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("empty"), "").unwrap();
        File::create(file("large")).unwrap().set_len(MAX_FIRMWARE + 1).unwrap();
        assert!(matches!(Firmware::open(&file("none")), Err(FirmwareError::Read(_))));
        assert!(matches!(Firmware::open(dir.path()), Err(FirmwareError::Read(_))));
        assert!(matches!(Firmware::open(&file("empty")), Err(FirmwareError::Empty)));
        assert!(matches!(Firmware::open(&file("large")), Err(FirmwareError::TooLarge)));
        assert!(matches!(Firmware::open(Path::new("/dev/zero")), Err(FirmwareError::TooLarge)));
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0xf_0000)]).unwrap();
        assert!(matches!(Firmware::new(vec![0; 16]).unwrap().place(&tiny), Err(FirmwareError::Write(_))));
    }
}
