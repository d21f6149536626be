//! Code at the reset vector, which is all the firmware there is. Pure bytes.
//!
//! A kernel that restarts "by BIOS" jumps there in real mode (Linux `arch/x86/realmode/rm/reboot.S`: f000:fff0); one with
//! hardware-reduced ACPI and without EFI does so unless it is told otherwise (`reboot_init()` chooses EFI, whose failure
//! ends in the BIOS). The code pulls the reset line through the keyboard controller, which every machine has.

use super::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::RESET_VECTOR;

/// `mov al, 0xfe; out 0x64, al; hlt; jmp` back to the `hlt`.
pub const CODE: [u8; 7] = [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];

/// Writes the code to [`RESET_VECTOR`].
///
/// # Errors
///
/// [`BootError::Write`] if that is not RAM.
pub fn write_to(ram: &GuestRam) -> Result<(), BootError> {
    write(ram, "reset vector", RESET_VECTOR, &CODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Bytes, GuestAddress};

    #[test]
    fn lands_where_real_mode_begins() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_to(&ram).unwrap();
        let mut code = [0; CODE.len()];
        ram.read_slice(&mut code, GuestAddress((0xf000 << 4) + 0xfff0)).unwrap();
        assert_eq!(code, CODE);
        let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0xf_0000)]).unwrap();
        assert!(write_to(&tiny).is_err());
    }
}
