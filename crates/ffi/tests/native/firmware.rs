//! Machines that start in firmware.

use std::fs::File;
use std::path::Path;

use purlin::{Console, ExitReason, Kernel, SerialLine, VmConfig};

use crate::guest::wait;

/// jmp far f000:8000: from the ROM below 4 GiB to its copy below 1 MiB.
const FAR_JUMP: &[u8] = &[0xea, 0x00, 0x80, 0x00, 0xf0];

/// Real mode code: each byte of `text` to the first serial line (mov al, BYTE; out dx, al), then the reset line.
fn prints(text: &[u8]) -> Vec<u8> {
    let mut code = vec![0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    text.iter().for_each(|byte| code.extend([0xb0, *byte, 0xee]));
    code.extend([0xb0, 0xfe, 0xe6, 0x64, 0xf4]);
    code
}

/// A ROM of `len` bytes that begins at its reset vector and goes on 32 KiB before its end.
fn rom(len: usize, code: &[u8]) -> Vec<u8> {
    let mut rom = vec![0xf4; len];
    rom[len - 0x8000..][..code.len()].copy_from_slice(code);
    rom[len - 16..][..FAR_JUMP.len()].copy_from_slice(FAR_JUMP);
    rom
}

fn machine(firmware: &Path) -> VmConfig {
    VmConfig::new().memory_mib(32).kernel(Kernel::firmware(firmware)).console(Console::Disabled)
}

#[test]
fn begins_at_the_reset_vector_and_goes_on_below_1_mib() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rom");
    // The last one is larger than what KVM's own pages leave where they are by default.
    for len in [64 << 10, 128 << 10, 4 << 20] {
        std::fs::write(&path, rom(len, &prints(b"firmware\n"))).unwrap();
        let output = dir.path().join("output");
        let line = SerialLine::new(None, Some(File::create(&output).unwrap().into()));
        // A machine of two: the second one waits.
        let vm = machine(&path).vcpus(2).serial_line(line).build().unwrap();
        vm.start().unwrap();
        assert_eq!(wait(&vm).reason, ExitReason::GuestReset, "{len:#x}");
        assert_eq!(std::fs::read_to_string(output).unwrap(), "firmware\n", "{len:#x}");
        assert!(std::fs::read(&path).unwrap() == rom(len, &prints(b"firmware\n")));
    }
}

/// Without a line of its owner's it has one all the same, and the console's file is at its end.
#[test]
fn has_a_serial_line() {
    let dir = tempfile::tempdir().unwrap();
    let [path, output] = ["rom", "output"].map(|name| dir.path().join(name));
    // in al, dx of 0x3fd, the line's status: test al, 0x20; jz to the halt.
    let mut code = vec![0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0x00];
    let rest = prints(b"seen\n");
    code[7] = rest.len() as u8;
    std::fs::write(&path, rom(64 << 10, &[code, rest].concat())).unwrap();
    let vm = machine(&path).build().unwrap();
    vm.start().unwrap();
    assert_eq!(wait(&vm).reason, ExitReason::GuestReset);
    let vm = machine(&path).console(Console::file(&output)).build().unwrap();
    vm.start().unwrap();
    assert_eq!(wait(&vm).reason, ExitReason::GuestReset);
    assert_eq!(std::fs::read_to_string(output).unwrap(), "seen\n");
}

#[test]
fn what_is_refused_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rom");
    let error = |config: VmConfig| config.build().map(drop).unwrap_err().to_string();
    assert!(error(machine(&path)).contains("rom: cannot be read"), "{}", error(machine(&path)));
    std::fs::write(&path, "").unwrap();
    assert!(error(machine(&path)).contains("rom: is empty"));
    std::fs::write(&path, rom(64 << 10, &prints(b""))).unwrap();
    assert!(error(machine(&path).initramfs(&path)).contains("initramfs with firmware"));
}
