//! Kernels of a few instructions, as ELF images, and machines that boot them.

use std::path::PathBuf;
use std::time::Duration;

use purlin::{Console, Kernel, Vm, VmConfig, VmExit};
use tempfile::TempDir;

pub const LIMIT: Duration = Duration::from_secs(60);

/// mov al,0xfe; out 0x64,al; hlt: pulls the reset line.
pub const RESET: &[u8] = &[0xb0, 0xfe, 0xe6, 0x64, 0xf4];
/// jmp to itself
pub const SPIN: &[u8] = &[0xeb, 0xfe];

/// Where kernels are loaded and entered.
pub const LOAD: u64 = 0x100_0000;

/// A directory with kernels.
pub struct Kernels(TempDir);

impl Kernels {
    pub fn new() -> Self {
        Kernels(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A machine with this code, 64 MiB and no console, root or network.
    pub fn machine(&self, code: &[u8]) -> VmConfig {
        let file = self.path("kernel");
        std::fs::write(&file, elf(code)).unwrap();
        VmConfig::new().memory_mib(64).kernel(Kernel::file(file)).console(Console::Disabled)
    }
}

/// An ELF image of one segment (System V ABI, "ELF header", "Program header").
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    for half in [2u16, 62] {
        image.extend(half.to_le_bytes()); // ET_EXEC, EM_X86_64
    }
    image.extend(1u32.to_le_bytes());
    for word in [LOAD, 64, 0] {
        image.extend(word.to_le_bytes()); // entry, program headers, section headers
    }
    image.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        image.extend(half.to_le_bytes()); // header sizes and counts
    }
    for word in [1u32, 5] {
        image.extend(word.to_le_bytes()); // PT_LOAD, readable and executable
    }
    let len = code.len() as u64;
    for word in [HEADERS, LOAD, LOAD, len, len, 0x1000] {
        image.extend(word.to_le_bytes()); // offset, virtual and physical address, sizes, alignment
    }
    image.extend(code);
    image
}

pub fn wait(vm: &Vm) -> VmExit {
    vm.wait_timeout(LIMIT).unwrap().expect("the guest does not end")
}

/// What the kernel says (`/proc/self/task/*/status`) of the threads of this process that have this name, of which there
/// soon is one.
pub fn statuses(thread: &str) -> Vec<String> {
    let name = format!("Name:\t{thread}\n");
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let all = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
        let found: Vec<_> = all.filter(|status| status.starts_with(&name)).collect();
        if !found.is_empty() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A field of such a text.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap().trim()
}
