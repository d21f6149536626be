//! How a guest hears of its devices. Pure.
//!
//! A device that is announced in two ways is one that a kernel may try to drive twice (Linux does, and complains of the
//! registers being taken), so the kernel's own bytes decide.

use crate::config::Kernel;

/// The way chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announce {
    /// `virtio_mmio.device=` words; processors in an MP table.
    CommandLine,
    /// ACPI tables.
    Acpi,
    /// Both, for a kernel nothing is known of.
    Both,
}

impl Announce {
    /// For a kernel that reads ACPI tables (or not, or nobody knows), with these words of its owner.
    pub fn choose(kernel: &Kernel, has_acpi: Option<bool>, words: Option<&str>) -> Self {
        match (kernel, has_acpi) {
            (Kernel::Libkrunfw | Kernel::Bundle(_) | Kernel::Firmware(_), _) | (_, Some(false)) => {
                Announce::CommandLine
            }
            _ if turns_acpi_off(words.unwrap_or_default()) => Announce::CommandLine,
            (_, Some(true)) => Announce::Acpi,
            (_, None) => Announce::Both,
        }
    }

    /// Devices get words on the command line.
    pub fn on_the_line(self) -> bool {
        self != Announce::Acpi
    }

    /// There are ACPI tables, and the ports they name.
    pub fn by_acpi(self) -> bool {
        self != Announce::CommandLine
    }
}

/// Linux `Documentation/admin-guide/kernel-parameters.txt`, `acpi=`.
fn turns_acpi_off(words: &str) -> bool {
    words.split_ascii_whitespace().any(|word| word == "acpi=off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_hears_of_a_device_once() {
        let (bundle, image) = (Kernel::Bundle("libkrunfw.so".into()), Kernel::file("vmlinuz"));
        let table = [
            (&Kernel::Libkrunfw, None, None, Announce::CommandLine),
            (&bundle, None, Some("acpi=force"), Announce::CommandLine),
            (&Kernel::firmware("rom"), None, None, Announce::CommandLine),
            (&image, Some(true), None, Announce::Acpi),
            (&image, Some(true), Some("console=ttyS0 acpi=noirq"), Announce::Acpi),
            (&image, Some(true), Some("acpi=off console=ttyS0"), Announce::CommandLine),
            (&image, Some(false), None, Announce::CommandLine),
            (&image, None, Some("quiet"), Announce::Both),
            (&image, None, Some("quiet acpi=off"), Announce::CommandLine),
        ];
        for (kernel, has_acpi, words, expected) in table {
            let got = Announce::choose(kernel, has_acpi, words);
            assert_eq!(got, expected, "{kernel:?} {has_acpi:?} {words:?}");
            assert!(got.on_the_line() || got.by_acpi());
        }
    }
}
