//! Every call, with arguments from the input.

use std::ptr;

use super::super::console::*;
use super::super::control::*;
use super::super::disk::*;
use super::super::egress::*;
use super::super::exec::*;
use super::super::exit::*;
use super::super::features::*;
use super::super::fs::*;
use super::super::graphics::*;
use super::super::init::*;
use super::super::kernel::*;
use super::super::lifecycle::*;
use super::super::logger::*;
use super::super::machine::*;
use super::super::net::*;
use super::super::pointers::{CBuffer, CInOut};
use super::super::running::*;
use super::super::serial::*;
use super::super::shutdown::*;
use super::super::start::*;
use super::super::user::*;
use super::super::vsock::*;
use super::values::Values;

type Call = fn(&mut Values<'_>) -> i32;

/// Tables of name and call; the arguments are read from left to right.
macro_rules! calls {
    ($($name:ident($($value:expr),*) with $v:ident;)*) => {
        &[$((stringify!($name), |$v: &mut Values<'_>| $name($($value),*))),*]
    };
}

/// The calls that need more than a value per argument.
const SPECIAL: &[(&str, Call)] = &[
    ("krun_create_ctx", |v| v.create()),
    ("krun_create_ctx", |v| v.create()),
    ("krun_fs_add_overlay_file", |v| {
        let (ctx, tag, path, (data, len)) = (v.ctx(), v.text(), v.text(), v.bytes());
        krun_fs_add_overlay_file(ctx, tag, path, data, len, v.u32(), v.u32() as u8)
    }),
    ("krun_get_default_init", |v| {
        let (data, len) = v.places();
        krun_get_default_init(data, len)
    }),
    ("krun_read_egress_log", |v| {
        let (ctx, mut next, mut buffer) = (v.ctx(), v.number(), [0; 64]);
        let size = v.small() % buffer.len();
        let next = if v.small() < 32 { ptr::null_mut() } else { &raw mut next };
        let buffer = if v.small() < 32 { ptr::null_mut() } else { buffer.as_mut_ptr() };
        krun_read_egress_log(ctx, CInOut::new(next), CBuffer::new(buffer), size)
    }),
    ("krun_start_enter", |v| krun_start_enter(v.unstartable())),
    ("krun_start_enter", |v| krun_start_enter(v.u32() | 0x4000_0000)),
    // Silent again before anything is logged.
    ("krun_set_log_level", |v| krun_set_log_level(v.u32())),
    ("krun_init_log", |v| match v.fd() {
        // Not where this process prints.
        fd @ (i32::MIN..=0 | 3..) => krun_init_log(fd, v.u32(), v.u32(), v.u32()),
        _ => 0,
    }),
];

const PLAIN: &[(&str, Call)] = calls! {
    krun_free_ctx(v.ctx()) with v;
    krun_has_feature(v.number()) with v;
    krun_set_vm_config(v.ctx(), v.u32() as u8, v.u32()) with v;
    krun_get_max_vcpus() with _v;
    krun_set_nested_virt(v.ctx(), v.u32() as u8) with v;
    krun_check_nested_virt() with _v;
    krun_split_irqchip(v.ctx(), v.u32() as u8) with v;
    krun_set_smbios_oem_strings(v.ctx(), v.list()) with v;
    krun_set_root(v.ctx(), v.text()) with v;
    krun_add_virtiofs(v.ctx(), v.text(), v.text()) with v;
    krun_add_virtiofs2(v.ctx(), v.text(), v.text(), v.number()) with v;
    krun_add_virtiofs3(v.ctx(), v.text(), v.text(), v.number(), v.u32() as u8) with v;
    krun_add_virtiofs4(v.ctx(), v.text(), v.text(), v.number(), v.u32() as u8, v.u32()) with v;
    krun_fs_add_overlay_dir(v.ctx(), v.text(), v.text(), v.u32()) with v;
    krun_set_mapped_volumes(v.ctx(), v.list()) with v;
    krun_disable_implicit_init(v.ctx()) with v;
    krun_add_disk(v.ctx(), v.text(), v.text(), v.u32() as u8) with v;
    krun_add_disk2(v.ctx(), v.text(), v.text(), v.u32(), v.u32() as u8) with v;
    krun_add_disk3(v.ctx(), v.text(), v.text(), v.u32(), v.u32() as u8, v.u32() as u8, v.u32()) with v;
    krun_set_root_disk(v.ctx(), v.text()) with v;
    krun_set_data_disk(v.ctx(), v.text()) with v;
    krun_set_root_disk_remount(v.ctx(), v.text(), v.text(), v.text()) with v;
    krun_add_net_unixstream(v.ctx(), v.text(), v.fd(), v.mac(), v.u32(), v.u32()) with v;
    krun_add_net_unixgram(v.ctx(), v.text(), v.fd(), v.mac(), v.u32(), v.u32()) with v;
    krun_add_net_tap(v.ctx(), v.text(), v.mac(), v.u32(), v.u32()) with v;
    krun_set_passt_fd(v.ctx(), v.fd()) with v;
    krun_set_gvproxy_path(v.ctx(), v.text()) with v;
    krun_set_net_mac(v.ctx(), v.mac()) with v;
    krun_disable_implicit_vsock(v.ctx()) with v;
    krun_add_vsock(v.ctx(), v.u32()) with v;
    krun_add_vsock_port(v.ctx(), v.u32(), v.text()) with v;
    krun_add_vsock_port2(v.ctx(), v.u32(), v.text(), v.u32() as u8) with v;
    krun_set_port_map(v.ctx(), v.list()) with v;
    krun_set_expose_unmapped_ports(v.ctx(), v.u32() as u8) with v;
    krun_disable_implicit_console(v.ctx()) with v;
    krun_set_console_output(v.ctx(), v.text()) with v;
    krun_set_kernel_console(v.ctx(), v.text()) with v;
    krun_add_virtio_console_default(v.ctx(), v.fd(), v.fd(), v.fd()) with v;
    krun_add_virtio_console_multiport(v.ctx()) with v;
    krun_add_console_port_tty(v.ctx(), v.u32(), v.text(), v.fd()) with v;
    krun_add_console_port_inout(v.ctx(), v.u32(), v.text(), v.fd(), v.fd()) with v;
    krun_add_serial_console_default(v.ctx(), v.fd(), v.fd()) with v;
    krun_set_kernel(v.ctx(), v.text(), v.u32(), v.text(), v.text()) with v;
    krun_set_firmware(v.ctx(), v.text()) with v;
    krun_set_kernel_path(v.ctx(), v.text()) with v;
    krun_set_kernel_raw(v.ctx(), v.text(), v.number(), v.number(), v.text(), v.text()) with v;
    krun_set_cpu_template(v.ctx(), v.text()) with v;
    krun_set_exec(v.ctx(), v.text(), v.list(), v.list()) with v;
    krun_set_env(v.ctx(), v.list()) with v;
    krun_set_workdir(v.ctx(), v.text()) with v;
    krun_set_rlimits(v.ctx(), v.list()) with v;
    krun_setuid(v.ctx(), v.u32()) with v;
    krun_setgid(v.ctx(), v.u32()) with v;
    krun_set_gpu_options(v.ctx(), v.u32()) with v;
    krun_set_gpu_options2(v.ctx(), v.u32(), v.number()) with v;
    krun_set_gpu_render_server_fd(v.ctx(), v.fd()) with v;
    krun_set_snd_device(v.ctx(), v.u32() as u8) with v;
    krun_set_display_backend(v.ctx(), ptr::null(), v.number() as usize) with v;
    krun_add_display(v.ctx(), v.u32(), v.u32()) with v;
    krun_display_set_edid(v.ctx(), v.u32(), ptr::null(), v.number() as usize) with v;
    krun_display_set_dpi(v.ctx(), v.u32(), v.u32()) with v;
    krun_display_set_physical_size(v.ctx(), v.u32(), v.u32() as u16, v.u32() as u16) with v;
    krun_display_set_refresh_rate(v.ctx(), v.u32(), v.u32()) with v;
    krun_add_input_device(v.ctx(), ptr::null(), v.number() as usize, ptr::null(), v.number() as usize) with v;
    krun_add_input_device_fd(v.ctx(), v.fd()) with v;
    krun_get_shutdown_eventfd(v.ctx()) with v;
    krun_send_ctrl_alt_del(v.ctx()) with v;
    krun_set_control_socket(v.ctx(), v.text()) with v;
    krun_set_report_guest_failure(v.ctx(), v.u32() as u8) with v;
    krun_set_egress_policy(v.ctx(), v.text()) with v;
    krun_update_egress_policy(v.ctx(), v.text()) with v;
};

/// How many there are.
pub const COUNT: usize = SPECIAL.len() + PLAIN.len();

/// A call by number.
pub fn call(number: usize) -> Option<&'static (&'static str, Call)> {
    SPECIAL.iter().chain(PLAIN).nth(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_exported_symbol_is_called() {
        let list = include_str!("../../../tests/c/symbols.txt");
        let exported: BTreeSet<&str> = list.lines().filter(|line| line.starts_with("krun_")).collect();
        let mut called: BTreeSet<&str> =
            super::SPECIAL.iter().chain(super::PLAIN).map(|call| call.0).collect();
        called.insert("krun_get_last_error");
        assert_eq!(called, exported);
    }
}
