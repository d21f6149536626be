//! What a virtual machine is made of, as data. Pure: nothing here touches the host.

mod console;
mod error;
mod exec;
mod network;
mod placement;
mod ram_disk;
mod root;
mod serial;

pub(crate) use console::PortEnds;
pub use console::{Console, ConsolePort, ConsoleStream};
pub use error::ConfigError;
pub use exec::Exec;
pub use network::{Network, TsiConfig, VsockPort};
pub(crate) use placement::Placement;
pub use ram_disk::RamDisk;
pub(crate) use ram_disk::RamDiskSource;
pub(crate) use root::ROOT_TAG;
pub use root::{Root, Share};
pub use serial::SerialLine;

use std::path::PathBuf;
use std::time::Duration;

use purlin_devices::legacy::serial::SERIAL_LINES;
use purlin_vmm_core::arch::x86_64::cpuid::MAX_CPUS;
use purlin_vmm_core::arch::x86_64::template::CpuTemplate;
use purlin_vmm_core::boot::initramfs::sizing::BASE_MIB;
use purlin_vmm_core::boot::kernel::BootMethod;
use purlin_vmm_core::bundle::Bundle;
use purlin_vmm_core::memory::RamConfig;
use purlin_vmm_core::numa::Topology;

use crate::vm::{Observers, VmExit};

/// The guest kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Kernel {
    /// libkrunfw's kernel, found by the dynamic linker as `libkrunfw.so.5`.
    #[default]
    Libkrunfw,
    /// A kernel bundle in a file: a library that exports `krunfw_get_kernel`.
    Bundle(PathBuf),
    /// A kernel image in a file.
    Image {
        /// The file.
        path: PathBuf,
        /// How the kernel is found in it and entered.
        method: BootMethod,
    },
    /// Firmware in a file of at most 16 MiB, in place of a kernel: a ROM that ends at 4 GiB, with its last 128 KiB below
    /// 1 MiB too. It finds the command line at 0x20000 and the MP table at 0x9fc00; what it boots is its own affair.
    Firmware(PathBuf),
}

impl Kernel {
    /// A kernel image in a file: an ELF image (`vmlinux`), a bzImage (`vmlinuz`), or either compressed. It gets ACPI
    /// tables as well as an MP table, and hears of its devices in the one way it listens to.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Kernel::Image { path: path.into(), method: BootMethod::Auto }
    }

    /// Firmware in a file.
    pub fn firmware(path: impl Into<PathBuf>) -> Self {
        Kernel::Firmware(path.into())
    }
}

/// Builds a [`Vm`](crate::Vm).
///
/// Every method takes a value as given; [`VmConfig::build`] checks all of them and names the field that is
/// wrong. Unset fields have the defaults named at their methods.
#[derive(Debug)]
pub struct VmConfig {
    pub(crate) vcpus: u32,
    /// At least this much, if `deferred`.
    pub(crate) memory_mib: u64,
    pub(crate) deferred: bool,
    pub(crate) ram: RamConfig,
    pub(crate) balloon_mib: u64,
    pub(crate) kernel: Kernel,
    /// `kernel`, if it has been opened already.
    pub(crate) opened: Option<Bundle>,
    pub(crate) initramfs: Option<RamDisk>,
    pub(crate) numa: Option<Topology>,
    pub(crate) placement: Placement,
    pub(crate) cmdline: Option<String>,
    pub(crate) jitter_self_test: bool,
    pub(crate) nested: bool,
    pub(crate) cpu_template: CpuTemplate,
    pub(crate) smbios_oem_strings: Vec<String>,
    pub(crate) shares: Vec<Share>,
    pub(crate) implicit_init: bool,
    pub(crate) exec: Exec,
    pub(crate) console: Console,
    pub(crate) more_consoles: Vec<Console>,
    pub(crate) serial_lines: Vec<SerialLine>,
    pub(crate) network: Network,
    pub(crate) vsock_ports: Vec<VsockPort>,
    pub(crate) vsock_boot_grace: Option<Duration>,
    pub(crate) observers: Observers,
}

impl Default for VmConfig {
    fn default() -> Self {
        VmConfig {
            vcpus: 1,
            memory_mib: 128,
            deferred: false,
            ram: RamConfig::default(),
            balloon_mib: 0,
            kernel: Kernel::default(),
            opened: None,
            initramfs: None,
            numa: None,
            placement: Placement::default(),
            cmdline: None,
            jitter_self_test: false,
            nested: false,
            cpu_template: CpuTemplate::Host,
            smbios_oem_strings: Vec::new(),
            shares: Vec::new(),
            implicit_init: true,
            exec: Exec::default(),
            console: Console::default(),
            more_consoles: Vec::new(),
            serial_lines: Vec::new(),
            network: Network::default(),
            vsock_ports: Vec::new(),
            vsock_boot_grace: None,
            observers: Observers::default(),
        }
    }
}

impl VmConfig {
    /// One vCPU, 128 MiB, libkrunfw's kernel, no root, `/bin/sh`, console on this process's stdio.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of virtual processors, 1 to 254 (and what the host and the guest kernel take; libkrunfw's
    /// kernel uses at most 16). Default 1.
    ///
    /// More would need 32-bit APIC identifiers, to which KVM's IO-APIC, where all devices' interrupts go, cannot send.
    pub fn vcpus(mut self, count: u32) -> Self {
        self.vcpus = count;
        self
    }

    /// Guest RAM in MiB, 16 to 1,048,576, at least what the kernel and an initial RAM disk made with an
    /// [`InitramfsBuilder`](crate::initramfs::shell::InitramfsBuilder) need. Default 128.
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self.deferred = false;
        self
    }

    /// Guest RAM as the initial RAM disk needs it (see [`sizing`](crate::initramfs::sizing)), but at least this many
    /// MiB: 256 without one. A RAM disk in a file does not say what it needs and is refused.
    pub fn memory_deferred(mut self, minimum_mib: u64) -> Self {
        self.memory_mib = minimum_mib;
        self.deferred = true;
        self
    }

    /// Divides memory and processors among NUMA nodes, which add up to [`VmConfig::memory_mib`] and
    /// [`VmConfig::vcpus`]. The kernel must read ACPI tables, which libkrunfw's does not. Default: no nodes.
    pub fn numa(mut self, topology: Topology) -> Self {
        self.numa = Some(topology);
        self
    }

    /// Lets the thread of a vCPU run on these processors of the host only. Default: wherever the calling thread may.
    pub fn pin_vcpu(mut self, vcpu: u32, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.placement.pin(vcpu, cpus.into_iter().collect());
        self
    }

    /// Lets all threads of the machine but those of vCPUs run on these processors of the host only. Default: wherever
    /// the calling thread may.
    pub fn worker_cpus(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.placement.workers(cpus.into_iter().collect());
        self
    }

    /// What guest RAM is made of. Default: anonymous memory with transparent huge pages.
    pub fn ram(mut self, ram: RamConfig) -> Self {
        self.ram = ram;
        self
    }

    /// MiB of its RAM that the guest is asked to give back from its start on, fewer than it has. Default 0; see
    /// [`Vm::balloon`](crate::Vm::balloon).
    pub fn balloon_mib(mut self, mib: u64) -> Self {
        self.balloon_mib = mib;
        self
    }

    /// The guest kernel. Default [`Kernel::Libkrunfw`].
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// libkrunfw's kernel, opened before.
    pub(crate) fn opened_bundle(mut self, bundle: Bundle) -> Self {
        self.opened = Some(bundle);
        self
    }

    /// An initial RAM disk: a file, an [`Initramfs`](crate::initramfs::shell::Initramfs), or the builder of one.
    /// Default none.
    pub fn initramfs(mut self, disk: impl Into<RamDisk>) -> Self {
        self.initramfs = Some(disk.into());
        self
    }

    /// Replaces the kernel's own words on the command line (not those of devices and exec, which are
    /// appended). Default: [`default_words`](purlin_vmm_core::boot::cmdline::default_words).
    pub fn cmdline(mut self, words: impl Into<String>) -> Self {
        self.cmdline = Some(words.into());
        self
    }

    /// Lets the guest kernel test its jitter entropy source at boot, which costs about 0.1 s of CPU time
    /// and which only a guest in FIPS mode needs. Default off. No effect with [`VmConfig::cmdline`].
    pub fn jitter_self_test(mut self, on: bool) -> Self {
        self.jitter_self_test = on;
        self
    }

    /// Shows the guest the host's virtualization extensions. Default off.
    pub fn nested_virtualization(mut self, on: bool) -> Self {
        self.nested = on;
        self
    }

    /// What the guest takes its processors for. Default [`CpuTemplate::Host`]. Making the machine fails if the template is
    /// for another vendor's processors than the host's.
    pub fn cpu_template(mut self, template: CpuTemplate) -> Self {
        self.cpu_template = template;
        self
    }

    /// OEM strings of the guest's SMBIOS table, 1 to 255 that are not empty and some 32 KiB in all; a machine without any
    /// has no such table. Default none. libkrunfw's kernel does not read it.
    pub fn smbios_oem_strings<S: Into<String>>(mut self, strings: impl IntoIterator<Item = S>) -> Self {
        self.smbios_oem_strings = strings.into_iter().map(Into::into).collect();
        self
    }

    /// The root file system. A second call adds a second device of the same tag; the guest keeps the first.
    pub fn root(mut self, root: Root) -> Self {
        self.shares.push(root.0);
        self
    }

    /// Shares a host directory under a tag: the guest mounts it with `mount -t virtiofs TAG PATH`.
    pub fn share(mut self, share: Share) -> Self {
        self.shares.push(share);
        self
    }

    /// Whether `/init.krun`, this library's PID 1, is put on root devices. Default on. Without it the tree
    /// must hold one, or the command line name another init.
    pub fn implicit_init(mut self, on: bool) -> Self {
        self.implicit_init = on;
        self
    }

    /// What runs in the guest. Default `/bin/sh` with no arguments and an empty environment.
    pub fn exec(mut self, exec: Exec) -> Self {
        self.exec = exec;
        self
    }

    /// Where the guest's console and its workload's stdio go. Default [`Console::inherit`].
    pub fn console(mut self, console: Console) -> Self {
        self.console = console;
        self
    }

    /// Adds a console behind that of [`VmConfig::console`]. Terminals of the guest (`hvc0`, `hvc1`, ...) are
    /// numbered in order. Its streams cannot be [`ConsoleStream::Pipe`].
    pub fn add_console(mut self, console: Console) -> Self {
        self.more_consoles.push(console);
        self
    }

    /// Adds a serial line, `ttyS0` first. At most four; the kernel prints on one that `console=` names.
    pub fn serial_line(mut self, line: SerialLine) -> Self {
        self.serial_lines.push(line);
        self
    }

    /// Whether the guest's PID 1 is this library's.
    pub(crate) fn has_our_init(&self) -> bool {
        // Of several roots the guest keeps the first.
        let root = self.shares.iter().find(|share| share.is_root());
        self.implicit_init
            && root.is_none_or(|root| root.implicit_init)
            && !matches!(self.kernel, Kernel::Firmware(_))
    }

    /// How the guest reaches the outside. Default [`Network::None`].
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Joins a vsock port of the guest with a unix socket of the host. One per port.
    pub fn vsock_port(mut self, port: VsockPort) -> Self {
        self.vsock_ports.push(port);
        self
    }

    /// How long connections of [`VsockPort::host_connects`] wait for a guest that refuses them, as it does while
    /// it boots. Default 30 s.
    pub fn vsock_boot_grace(mut self, grace: Duration) -> Self {
        self.vsock_boot_grace = Some(grace);
        self
    }

    /// Calls `observer` once, when the guest has booted: its kernel runs and its init speaks for the first time.
    /// Guests with another init than ours never do. Several observers are called in the order they were given.
    ///
    /// Observers run on the machine's own thread, which meanwhile hears nobody: they must not block and must not
    /// wait for the machine. One that panics is logged.
    pub fn on_boot(mut self, observer: impl FnOnce() + Send + 'static) -> Self {
        self.observers.on_boot(Box::new(observer));
        self
    }

    /// Calls `observer` once, when a machine that was started has ended, however it did: after
    /// [`VmConfig::on_boot`]'s observers, when nothing of the machine is left, and before
    /// [`Vm::wait`](crate::Vm::wait) returns. See there for what observers may do.
    pub fn on_exit(mut self, observer: impl FnOnce(&VmExit) + Send + 'static) -> Self {
        self.observers.on_exit(Box::new(observer));
        self
    }

    /// Checks what can be checked without the host.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.vcpus == 0 || self.vcpus > MAX_CPUS {
            return Err(ConfigError::field("vcpus", self.vcpus, format!("use 1 to {MAX_CPUS}")));
        }
        if (self.memory_mib == 0 && !self.deferred) || self.memory_mib > 1 << 20 {
            return Err(ConfigError::field("memory_mib", self.memory_mib, "use 16 to 1048576"));
        }
        if self.deferred && self.numa.is_some() {
            let remedy = "the nodes say how much memory there is: use memory_mib";
            return Err(ConfigError::field("memory_deferred", "with numa", remedy));
        }
        if let (Kernel::Firmware(path), Some(_)) = (&self.kernel, &self.initramfs) {
            let remedy = "leave one of them out: firmware does not know of an initial RAM disk";
            return Err(ConfigError::field("initramfs with firmware", path.display(), remedy));
        }
        self.placement.check(self.vcpus)?;
        let least = if self.deferred { self.memory_mib.max(BASE_MIB) } else { self.memory_mib };
        if self.balloon_mib >= least {
            let remedy = format!("use less than memory_mib, {least}");
            return Err(ConfigError::field("balloon_mib", self.balloon_mib, remedy));
        }
        self.shares.iter().try_for_each(Share::check)?;
        self.vsock_ports.iter().try_for_each(VsockPort::check)?;
        self.more_consoles.iter().try_for_each(Console::check_further)?;
        let lines = self.serial_lines.len();
        if lines > SERIAL_LINES.len() {
            return Err(ConfigError::field(
                "serial_line",
                lines,
                format!("use at most {}", SERIAL_LINES.len()),
            ));
        }
        self.exec.check()
    }
}
