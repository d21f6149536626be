//! GPU, display, input and sound: never built. The calls answer as a libkrun without them does.

use std::ffi::c_void;

use super::guard::{Failure, done};
use super::pointers::CBool;
use super::table;

/// Accepted; clients ask whether or not there is a GPU.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_gpu_options(ctx_id: u32, _virgl_flags: u32) -> i32 {
    done(|| exists(ctx_id))
}

/// Accepted; nothing of `shm_size` is reserved.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_gpu_options2(ctx_id: u32, _virgl_flags: u32, _shm_size: u64) -> i32 {
    done(|| exists(ctx_id))
}

/// Accepted.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_gpu_render_server_fd(ctx_id: u32, render_server_fd: i32) -> i32 {
    done(|| {
        if render_server_fd < 0 {
            return Err(Failure::invalid(format!("render_server_fd: {render_server_fd}")));
        }
        exists(ctx_id)
    })
}

/// Accepted; there is no sound device.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_snd_device(ctx_id: u32, _enable: CBool) -> i32 {
    done(|| exists(ctx_id))
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_display_backend(
    _ctx_id: u32,
    _backend: *const c_void,
    _backend_size: usize,
) -> i32 {
    no_display()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_display(_ctx_id: u32, _width: u32, _height: u32) -> i32 {
    no_display()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_display_set_edid(
    _ctx_id: u32,
    _display_id: u32,
    _edid_blob: *const u8,
    _blob_size: usize,
) -> i32 {
    no_display()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_display_set_dpi(_ctx_id: u32, _display_id: u32, _dpi: u32) -> i32 {
    no_display()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_display_set_physical_size(
    _ctx_id: u32,
    _display_id: u32,
    _width_mm: u16,
    _height_mm: u16,
) -> i32 {
    no_display()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_display_set_refresh_rate(_ctx_id: u32, _display_id: u32, _refresh_rate: u32) -> i32 {
    no_display()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_input_device(
    _ctx_id: u32,
    _config_backend: *const c_void,
    _config_backend_size: usize,
    _events_backend: *const c_void,
    _events_backend_size: usize,
) -> i32 {
    no_input()
}

/// Not supported.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_input_device_fd(_ctx_id: u32, _input_fd: i32) -> i32 {
    no_input()
}

fn exists(ctx_id: u32) -> Result<(), Failure> {
    table::update(ctx_id, |_| ())
}

fn no_display() -> i32 {
    done(|| Err(Failure::not_built("display")))
}

fn no_input() -> i32 {
    done(|| Err(Failure::not_built("input devices")))
}
