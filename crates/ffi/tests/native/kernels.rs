//! What a kernel finds, and how it is entered: ACPI, PVH, flat bytes, SMBIOS, CPU templates. Each guest looks for one thing,
//! resets if it is there, and halts if not.

use purlin::{BootMethod, CpuTemplate, ExitReason, Kernel, VmConfig, VmError};

use crate::guest::{Kernels, LOAD, RESET, wait};

/// jne +5, over [`RESET`]; then cli; hlt; jmp back.
const JUMP_IF_NOT: &[u8] = &[0x75, 0x05];
const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// Only a kernel with this constant in it reads ACPI tables.
const ACPI_MARK: &[u8] = b"RSD PTR ";

fn if_equal(compare: &[u8]) -> Vec<u8> {
    [compare, JUMP_IF_NOT, RESET, HALT].concat()
}

/// mov dx, port; mov al, value; out dx, al
fn out(port: u16, value: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, value, 0xee]
}

fn end(config: VmConfig) -> ExitReason {
    let vm = config.build().unwrap();
    wait(vm.start().unwrap()).reason
}

#[test]
fn off_and_reset_through_acpi() {
    let kernels = Kernels::new();
    let off = [&out(0x600, 0x34), HALT, ACPI_MARK].concat();
    assert_eq!(end(kernels.machine(&off)), ExitReason::PoweredOff);
    let reset = [&out(0x602, 1), HALT, ACPI_MARK].concat();
    assert_eq!(end(kernels.machine(&reset)), ExitReason::GuestReset);
    // The RSDP, at its place and in the zero page.
    let table = [0x8b, 0x04, 0x25, 0, 0, 0x0e, 0, 0x3d, b'R', b'S', b'D', b' '];
    assert_eq!(end(kernels.machine(&[&if_equal(&table), ACPI_MARK].concat())), ExitReason::GuestReset);
    let zero_page = [0x8b, 0x04, 0x25, 0x70, 0x70, 0, 0, 0x3d, 0, 0, 0x0e, 0];
    assert_eq!(end(kernels.machine(&[&if_equal(&zero_page), ACPI_MARK].concat())), ExitReason::GuestReset);
}

/// A kernel that does not read the tables gets none, nor the ports they would name.
#[test]
fn nothing_of_acpi_without_acpi() {
    let kernels = Kernels::new();
    let code = [out(0x600, 0x34), out(0x602, 1), HALT.to_vec()].concat();
    assert_eq!(end(kernels.machine(&code)), ExitReason::GuestHalted);
    let marked = [&code, ACPI_MARK].concat();
    assert_eq!(end(kernels.machine(&marked).cmdline("acpi=off")), ExitReason::GuestHalted);
    let table = [0x8b, 0x04, 0x25, 0, 0, 0x0e, 0, 0x3d, b'R', b'S', b'D', b' '];
    assert_eq!(end(kernels.machine(&if_equal(&table))), ExitReason::GuestHalted);
}

/// in al, dx; test al, al; jz back
#[test]
fn a_pressed_power_button_is_seen() {
    let wait_for_it = [0x66, 0xba, 0x03, 0x06, 0xec, 0x84, 0xc0, 0x74, 0xfb];
    let code = [&wait_for_it, out(0x600, 0x34).as_slice(), HALT, ACPI_MARK].concat();
    let vm = Kernels::new().machine(&code).build().unwrap();
    assert!(matches!(vm.press_power_button(), Err(VmError::NotStarted)));
    vm.start().unwrap();
    vm.press_power_button().unwrap();
    assert_eq!(wait(&vm).reason, ExitReason::PoweredOff);

    let vm = Kernels::new().machine(HALT).build().unwrap();
    vm.start().unwrap();
    assert!(matches!(vm.press_power_button(), Err(VmError::NoPowerButton)));
}

/// A kernel that waits for its owner also hears a stop that way.
#[test]
fn a_stop_presses_the_power_button() {
    let wait_for_it = [0x66, 0xba, 0x03, 0x06, 0xec, 0x84, 0xc0, 0x74, 0xfb];
    let code = [&wait_for_it, out(0x600, 0x34).as_slice(), HALT, ACPI_MARK].concat();
    let vm = Kernels::new().machine(&code).build().unwrap();
    vm.start().unwrap();
    vm.stop(crate::guest::LIMIT).unwrap();
    assert_eq!(wait(&vm).reason, ExitReason::PoweredOff);
}

/// The note that makes an image enterable by PVH, in a segment behind the code's.
fn with_note(mut image: Vec<u8>) -> Vec<u8> {
    let (headers, code) = image.split_at(120);
    let mut note = Vec::new();
    for word in [4u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend((LOAD as u32).to_le_bytes());
    let mut segment = Vec::new();
    segment.extend(4u32.to_le_bytes());
    segment.extend(4u32.to_le_bytes());
    for word in [176 + code.len() as u64, 0, 0, 20, 20, 4] {
        segment.extend(word.to_le_bytes());
    }
    image = [headers, &segment, code, &note].concat();
    image[56] = 2;
    image[72..80].copy_from_slice(&176u64.to_le_bytes());
    image
}

/// In 32-bit mode: cmp dword [ebx], the magic of `hvm_start_info`.
#[test]
fn a_kernel_entered_by_pvh() {
    let kernels = Kernels::new();
    let code = if_equal(&[0x81, 0x3b, 0x78, 0xc5, 0x6e, 0x33]);
    let config = kernels.machine(&code);
    let path = kernels.path("kernel");
    std::fs::write(&path, with_note(std::fs::read(&path).unwrap())).unwrap();
    let pvh = config.kernel(Kernel::Image { path, method: BootMethod::Pvh });
    assert_eq!(end(pvh), ExitReason::GuestReset);
}

#[test]
fn flat_bytes() {
    let kernels = Kernels::new();
    let path = kernels.path("flat");
    std::fs::write(&path, [HALT, RESET].concat()).unwrap();
    let method = BootMethod::Raw { load: 0x20_0000, entry: 0x20_0004 };
    let config = kernels.machine(HALT).kernel(Kernel::Image { path, method });
    assert_eq!(end(config), ExitReason::GuestReset);
}

#[test]
fn oem_strings() {
    let anchor = if_equal(&[0x8b, 0x04, 0x25, 0, 0x80, 0x0f, 0, 0x3d, b'_', b'S', b'M', b'3']);
    let kernels = Kernels::new();
    let with = kernels.machine(&anchor).smbios_oem_strings(["key=value"]);
    assert_eq!(end(with), ExitReason::GuestReset);
    assert_eq!(end(kernels.machine(&anchor)), ExitReason::GuestHalted);
    let error = kernels.machine(&anchor).smbios_oem_strings([""]).build().err().unwrap();
    assert!(error.to_string().contains("smbios_oem_strings"), "{error}");
}

/// The signature of leaf 1, or a refusal that names both vendors, by what this host is.
#[test]
fn cpu_templates() {
    let cpuid = [0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x3d, 0xf2, 0x06, 0x03, 0];
    let kernels = Kernels::new();
    let config = kernels.machine(&if_equal(&cpuid)).cpu_template(CpuTemplate::T2);
    let host = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    if host.contains("GenuineIntel") {
        assert_eq!(end(config), ExitReason::GuestReset);
    } else {
        let error = config.build().err().unwrap().to_string();
        assert!(error.contains("GenuineIntel") && error.contains("cpu_template"), "{error}");
    }
}

/// What restarts by BIOS: the code at the reset vector is there.
#[test]
fn code_at_the_reset_vector() {
    let bytes = if_equal(&[0x8b, 0x04, 0x25, 0xf0, 0xff, 0x0f, 0, 0x3d, 0xb0, 0xfe, 0xe6, 0x64]);
    assert_eq!(end(Kernels::new().machine(&bytes)), ExitReason::GuestReset);
}
