//! What the fuzz targets do, as functions that plain tests can call too: `tests/replay.rs` runs them over the committed
//! corpora on a stable compiler. One file per target; each function panics if a property does not hold.

mod cursor;
mod device_restore;
mod mmio_regs;
mod section_decode;
mod virtqueue_ops;

pub use device_restore::device_restore;
pub use mmio_regs::mmio_regs;
pub use section_decode::section_decode;
pub use virtqueue_ops::virtqueue_ops;

pub use purlin::fuzz::{capi_calls, control_requests};
pub use purlin_devices::legacy::acpi_power::fuzz::acpi_ops;
pub use purlin_devices::legacy::i8042::fuzz::i8042_ops;
pub use purlin_devices::legacy::serial::fuzz::serial_ops;
pub use purlin_devices::virtio::balloon::fuzz::balloon_ops;
pub use purlin_devices::virtio::console::console_ops;
pub use purlin_devices::virtio::fs::fuzz::fs_request;
pub use purlin_egress::fuzz::{dns as egress_dns, policy as egress_policy, sni as egress_sni};
pub use purlin_init::fuzz::{
    config_file as init_config, control as init_control, dhcp, kernel_texts as init_texts,
    workload as init_workload,
};
pub use purlin_tsi::fuzz::{tsi_ops, vsock_packet};
pub use purlin_tsi::shell::{tsi_state, vsock_rings};
pub use purlin_vmm_core::boot::cmdline::fuzz as cmdline;
pub use purlin_vmm_core::boot::initramfs::fuzz::initramfs_build;
pub use purlin_vmm_core::boot::kernel::fuzz::kernel_image;

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// Every target by the name of its file in `fuzz_targets/` and of its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("acpi_ops", acpi_ops),
    ("balloon_ops", balloon_ops),
    ("capi_calls", capi_calls),
    ("cmdline", cmdline),
    ("console_ops", console_ops),
    ("control_requests", control_requests),
    ("device_restore", device_restore),
    ("dhcp", dhcp),
    ("egress_dns", egress_dns),
    ("egress_policy", egress_policy),
    ("egress_sni", egress_sni),
    ("fs_request", fs_request),
    ("i8042_ops", i8042_ops),
    ("init_config", init_config),
    ("init_control", init_control),
    ("init_texts", init_texts),
    ("init_workload", init_workload),
    ("initramfs_build", initramfs_build),
    ("kernel_image", kernel_image),
    ("mmio_regs", mmio_regs),
    ("section_decode", section_decode),
    ("serial_ops", serial_ops),
    ("tsi_ops", tsi_ops),
    ("tsi_state", tsi_state),
    ("virtqueue_ops", virtqueue_ops),
    ("vsock_packet", vsock_packet),
    ("vsock_rings", vsock_rings),
];
