//! Linux microVMs in your process.
//!
//! ```no_run
//! use purlin::{Console, Exec, Root, Share, VmConfig};
//!
//! let vm = VmConfig::new()
//!     .vcpus(2)
//!     .memory_mib(512)
//!     .root(Root::dir("rootfs"))
//!     .share(Share::new("work", "/srv/work").read_only())
//!     .exec(Exec::new("/bin/sh").args(["-c", "echo hi"]))
//!     .console(Console::inherit())
//!     .build()?;
//! let exit = vm.start()?.wait()?;
//! println!("{} ({})", exit.code, exit.reason);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An owner can look at a machine in any state, and hear of its boot and of its end:
//!
//! ```no_run
//! use purlin::devices::fs::Fs;
//! use purlin::{Root, Share, VmConfig};
//!
//! let vm = VmConfig::new()
//!     .root(Root::dir("rootfs"))
//!     .share(Share::new("work", "/srv/work").mount_at("/work"))
//!     .on_boot(|| println!("its init speaks"))
//!     .on_exit(|exit| println!("{}", exit.reason))
//!     .build()?;
//! for region in vm.memory()?.regions() {
//!     println!("{:#x} is at {:#x}: {} bytes", region.guest_address, region.host_address, region.len);
//! }
//! let tag = vm.device::<Fs>("work").and_then(|share| share.with(|fs| fs.tag().to_owned()));
//! assert_eq!(tag.as_deref(), Some("work"));
//! vm.start()?.send_ctrl_alt_del()?;
//! vm.wait()?;
//! for device in vm.stats()?.devices {
//!     println!("{} {}: {} bytes to the guest", device.device.address, device.device.id, device.bytes.to_guest);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Several machines run in one process; there is no global state. Nothing here ends the process: a machine
//! ends with a [`VmExit`]. The same crate builds `libkrun.so.1`, whose C functions
//! are a thin layer over this interface.

mod capi;
mod config;
pub mod control;
#[cfg(feature = "test-utils")]
pub mod fuzz;
pub mod host;
mod machine;
mod panics;
mod vm;

pub use config::{
    ConfigError, Console, ConsolePort, ConsoleStream, Exec, Kernel, Network, RamDisk, Root, SerialLine,
    Share, TsiConfig, VmConfig, VsockPort,
};
pub use control::ControlError;
pub use machine::{BuildError, DeviceInfo, DeviceRef};
/// Types of devices, for [`Vm::device`] and [`Share`].
pub use purlin_devices::virtio as devices;
/// Types of [`Vm::balloon`].
pub use purlin_devices::virtio::balloon::{BalloonCounters, BalloonHandle, GuestMemoryStats};
/// Types of [`TsiConfig::egress`]: policies, and what they decided.
pub use purlin_egress as egress;
/// What [`Vm::device_state`] gives.
pub use purlin_snapshot::Section;
/// Types of [`TsiConfig`]: flags, port maps, limits; and [`EgressHandle`](tsi::shell::EgressHandle).
pub use purlin_tsi as tsi;
/// What [`VmConfig::cpu_template`] takes.
pub use purlin_vmm_core::arch::x86_64::template::CpuTemplate;
/// Initial RAM disks made from files and programs of the host, for [`VmConfig::initramfs`].
pub use purlin_vmm_core::boot::initramfs;
/// How the kernel of [`Kernel::Image`] is found in its file and entered.
pub use purlin_vmm_core::boot::kernel::BootMethod;
/// Exits of a processor, in [`VmStats`].
pub use purlin_vmm_core::kvm::ExitCounts;
/// Types of guest memory, for [`VmConfig::ram`] and [`VmMemory::ram`].
pub use purlin_vmm_core::memory;
/// NUMA nodes, for [`VmConfig::numa`].
pub use purlin_vmm_core::numa;
pub use vm::{
    BootPhase, DeviceStats, ExitReason, InitramfsStats, MemoryRegion, SetupFailure, SetupStage, Vm, VmError,
    VmExit, VmMemory, VmStats,
};
