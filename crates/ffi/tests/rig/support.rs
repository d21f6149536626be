//! Running a command in a guest and collecting what comes out.

use std::io::Read;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use purlin::{Console, Exec, Kernel, Root, Vm, VmConfig, VmExit};

/// Longer than anything here takes in an emulated machine.
pub const LIMIT: Duration = Duration::from_secs(180);

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    value.unwrap_or_else(|| panic!("{name} is not set: run these tests with cargo xtask test")).into()
}

pub fn rootfs() -> PathBuf {
    variable("PURLIN_ROOTFS")
}

/// A file of the stock kernel.
pub fn stock(name: &str) -> PathBuf {
    variable("PURLIN_STOCK").join(name)
}

/// A machine with piped console and nothing to boot from.
pub fn without_root(exec: Exec) -> VmConfig {
    VmConfig::new()
        .memory_mib(256)
        .kernel(Kernel::Bundle(variable("PURLIN_FW")))
        .exec(exec.env("PATH", "/bin:/sbin"))
        .console(Console::pipe())
}

/// The same on the busybox root.
pub fn config(exec: Exec) -> VmConfig {
    without_root(exec).root(Root::dir(rootfs()))
}

pub fn sh(script: &str) -> Exec {
    Exec::new("/bin/sh").args(["-c", script])
}

/// Reads a stream to its end on a thread.
pub fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

pub fn wait(vm: &Vm) -> VmExit {
    match vm.wait_timeout(LIMIT).unwrap() {
        Some(exit) => exit,
        None => panic!("the guest does not end"),
    }
}

pub struct Finished {
    pub exit: VmExit,
    pub stdout: String,
    pub stderr: String,
}

/// Runs to the end with no input.
pub fn run(config: VmConfig) -> Finished {
    let vm = config.build().unwrap();
    drop(vm.take_stdin());
    let stdout = collect(vm.take_stdout().unwrap());
    let stderr = collect(vm.take_stderr().unwrap());
    let exit = wait(vm.start().unwrap());
    drop(vm);
    let text = |bytes: JoinHandle<Vec<u8>>| String::from_utf8(bytes.join().unwrap()).unwrap();
    Finished { exit, stdout: text(stdout), stderr: text(stderr) }
}
