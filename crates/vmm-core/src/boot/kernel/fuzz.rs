//! What the fuzz target `kernel_image` does.

use std::io::Cursor;

use super::{BootMethod, LoadedKernel, load_image};
use crate::memory::layout::HIGH_MEMORY;
use crate::memory::{GuestAddress, GuestRam, MemoryLayout};

const RAM: u64 = 32 << 20;

/// Loads `data` behind its first byte, which chooses the method.
///
/// # Panics
///
/// If a kernel is accepted that lies outside of RAM: that is what a fuzzer looks for.
#[allow(clippy::panic, clippy::expect_used, reason = "a fuzz target reports by panicking")]
pub fn kernel_image(data: &[u8]) {
    let Some((&choice, file)) = data.split_first() else { return };
    let layout = MemoryLayout::new(RAM).expect("a possible size");
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize)]).expect("memory for RAM");
    let method = match choice % 4 {
        0 => BootMethod::Auto,
        1 => BootMethod::Pvh,
        2 => BootMethod::SelfUnpacking,
        _ => {
            let load = HIGH_MEMORY + u64::from(choice >> 2) * 0x1000;
            BootMethod::Raw { load, entry: load + u64::from(choice) }
        }
    };
    match load_image(Cursor::new(file.to_vec()), method, &ram, &layout) {
        Ok(LoadedKernel { end, header, .. }) => {
            assert!((HIGH_MEMORY..=RAM).contains(&end), "a kernel that ends at {end:#x}");
            let header = header.map(|header| header.bytes().len());
            assert!(header.is_none_or(|len| len <= 0x9f), "a setup header of {header:?} bytes");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
