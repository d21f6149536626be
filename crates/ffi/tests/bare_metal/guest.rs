//! Kernels of a few 64-bit instructions, in ELF files.

use std::io::Write;
use std::time::Duration;

use purlin::{Console, Kernel, Vm, VmConfig, VmExit};
use tempfile::NamedTempFile;

pub const LIMIT: Duration = Duration::from_secs(20);

/// mov al,0xfe; out 0x64,al; jmp $
pub const RESET: &[u8] = &[0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe];
/// cli; hlt; jmp back
pub const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// jmp $
pub const SPIN: &[u8] = &[0xeb, 0xfe];

const LOAD: u64 = 0x10_0000;

/// An ELF file with one segment that holds `code` and is entered at its start.
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(62u16.to_le_bytes()); // x86-64
    file.extend(1u32.to_le_bytes());
    file.extend(LOAD.to_le_bytes()); // entry
    file.extend(64u64.to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    file.extend(7u32.to_le_bytes());
    for word in [HEADERS, LOAD, LOAD, code.len() as u64, code.len() as u64, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// A machine and the file its kernel is in.
pub fn config(code: &[u8]) -> (VmConfig, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&elf(code)).unwrap();
    let config = VmConfig::new().memory_mib(16).kernel(Kernel::file(file.path())).console(Console::Disabled);
    (config, file)
}

pub fn build(code: &[u8]) -> Vm {
    let (config, _file) = config(code);
    config.build().expect("this test needs a usable /dev/kvm")
}

pub fn wait(vm: &Vm) -> VmExit {
    match vm.wait_timeout(LIMIT).unwrap() {
        Some(exit) => exit,
        None => panic!("the guest does not end"),
    }
}
